"""Prepared directories as a corpus: examples by number, their audio and their token lengths."""

import collections
import copy
import dataclasses
import fnmatch
import json
import logging
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from nlm_jax.core.errors import UserError
from nlm_jax.core.files import read_json
from nlm_jax.core.remote import is_remote
from nlm_jax.data import shard_cache, shards
from nlm_jax.data.text import Format, Tokenizer, build_sequence, normalize_query, text_digest

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Entry:
    """The stored record of an example. `prompt` has its placeholders."""

    id: str
    prompt: str
    text: str
    label: str
    task: str
    domain: str
    source: str
    n_clips: int
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Facts about the recording, by the names in `schema.FACTS`."""


class Corpus:
    """Examples 0..len-1 of prepared directories, in their order. Only the index is in memory (mapped).

    The index of a directory in a bucket is downloaded whole; a shard is downloaded when a record of it is read.

    Args:
      directories: paths or URLs, written by `nlm prepare`.
      split: only examples of this split; "" = all.
      tasks: only these tasks (* allowed); empty = all.
      domains: only these domains (* allowed); empty = all.
      cache_gb: size of the cache of downloaded shards in 10^9 bytes.

    Raises:
      UserError: a directory is missing, unfinished or damaged, or no example is left.
    """

    def __init__(
        self,
        directories: Sequence[str | pathlib.Path],
        split: str = "",
        tasks: Sequence[str] = (),
        domains: Sequence[str] = (),
        cache_gb: float = shard_cache.CACHE_GB,
    ):
        if not directories:
            raise UserError("no data given; name directories written by nlm prepare in data.train and data.valid")
        self.cache_gb = cache_gb
        self.parts = tuple(_Part(d, cache_gb) for d in directories)
        self.sources = _names([part.directory for part in self.parts])
        selected = [part.select(split, tasks, domains) for part in self.parts]
        # The mapped columns of a single directory are used as they are: a corpus may have tens of millions of examples.
        single = len(selected) == 1
        numbers = np.arange(len(selected), dtype=np.int32)
        counts = [len(examples) for examples in selected]
        self.part_of = np.broadcast_to(numbers[0], counts[0]) if single else np.repeat(numbers, counts)
        self.local = selected[0] if single else np.concatenate(selected)
        if not len(self.local):
            present = {
                key: sorted({n for p in self.parts for n in p.manifest[f"{key}s"]})
                for key in ("split", "task", "domain")
            }
            raise UserError(
                f"no example of split {split!r}, tasks {tuple(tasks)!r}, domains {tuple(domains)!r}; "
                f"the data has {present}"
            )
        self.tasks, self.task = self.codes("task")
        self.domains, self.domain = self.codes("domain")
        self.taxa, self.taxon = self._merge([p.taxa for p in self.parts], [p.taxon for p in self.parts])
        self.n_clips = self._gather([part.n_clips for part in self.parts])

    def __len__(self) -> int:
        return len(self.local)

    def subset(self, keep: Bool[np.ndarray, "N"]) -> "Corpus":
        """The examples for which `keep` is true, renumbered from 0."""
        subset = copy.copy(self)
        for name in ("part_of", "local", "task", "domain", "taxon", "n_clips"):
            setattr(subset, name, getattr(self, name)[keep])
        return subset

    def retries(self) -> collections.Counter[str]:
        """Transfers from buckets that this process retried so far, by kind of error."""
        return collections.Counter(name for part in self.parts if part.source for name in part.source.retried)

    def codes(self, key: str) -> tuple[list[str], Int[np.ndarray, "N"]]:
        """Names of a kind, and the index of each example's name.

        Args:
          key: task, domain, licence or split.
        """
        return self._merge([list(p.manifest[f"{key}s"]) for p in self.parts], [p.index[key] for p in self.parts])

    def _merge(self, names: Sequence[Sequence[str]], columns) -> tuple[list[str], Int[np.ndarray, "N"]]:
        """Common names of all parts, and the index of each example's name, from the parts' own names and columns."""
        code_of: dict[str, int] = {}
        codes = [np.asarray([code_of.setdefault(name, len(code_of)) for name in part], np.int32) for part in names]
        return list(code_of), self._gather([_recoded(c, column) for c, column in zip(codes, columns, strict=True)])

    def _gather(self, columns) -> np.ndarray:
        """Values of the examples of this corpus, from a column per part."""
        gathered = []
        for k, column in enumerate(columns):
            rows = self.local if len(self.parts) == 1 else self.local[self.part_of == k]
            gathered.append(column if len(rows) == len(column) else column[rows])
        return gathered[0] if len(gathered) == 1 else np.concatenate(gathered)

    def column(self, name: str) -> np.ndarray:
        """A column of the index, such as `text_tokens`, per example."""
        return self._gather([part.index[name] for part in self.parts])

    def entry(self, e: int) -> Entry:
        """The record of example `e`.

        Raises:
          CorruptRecord: the record is damaged.
        """
        part, local = self.parts[self.part_of[e]], int(self.local[e])
        try:
            stored = json.loads(part.examples.read(*divmod(local, shards.EXAMPLES_PER_SHARD)))
        except UserError:  # a ValueError too, but a missing file is not a damaged record
            raise
        except ValueError as error:
            raise shards.CorruptRecord(f"{part.directory}: example {local} is damaged") from error
        n = len(part.clips_of(local))
        return Entry(
            id=stored["id"],
            prompt=normalize_query(stored["prompt"], n),
            text=stored["text"],
            label=stored["label"],
            task=self.tasks[self.task[e]],
            domain=self.domains[self.domain[e]],
            source=self.sources[self.part_of[e]],
            n_clips=n,
            facts=stored.get("facts", {}),
        )

    def clip_samples(self, e: int) -> list[int]:
        """Stored samples of each clip of example `e`."""
        part = self.parts[self.part_of[e]]
        return [int(part.index["clip_samples"][c]) for c in part.clips_of(int(self.local[e]))]

    def clip(self, e: int, number: int, start: int = 0, samples: int | None = None) -> Float[np.ndarray, "T"]:
        """f32[T]: samples of clip `number` of example `e`.

        Args:
          e: the example.
          number: of the clip within the example.
          start: first sample.
          samples: number of samples, fewer if the clip ends before; None = to its end.

        Raises:
          CorruptRecord: the record is damaged.
        """
        return shards.decode_clip(self.clip_record(e, number), start, samples)

    def clip_record(self, e: int, number: int) -> bytes:
        """The stored bytes of clip `number` of example `e`.

        Raises:
          CorruptRecord: the shard is damaged at the record.
        """
        part = self.parts[self.part_of[e]]
        return part.clip_records.read(*part.address(part.clips_of(int(self.local[e]))[number]))

    def clip_names(self, e: int) -> list[str]:
        """Names of the clips of example `e` in the annotations.

        Raises:
          CorruptRecord: a record is damaged.
        """
        records = (self.clip_record(e, k) for k in range(int(self.n_clips[e])))
        return [shards.clip_header(record)[0]["name"] for record in records]

    def audio(self, e: int, samples: int) -> list[np.ndarray]:
        """Per clip f32[samples] from its start, zero-padded, as in evaluation."""
        clips = np.zeros((len(self.clip_samples(e)), samples), np.float32)
        for k, padded in enumerate(clips):
            wave = self.clip(e, k, 0, samples)
            padded[: wave.size] = wave
        return list(clips)

    def name(self, e: int) -> str:
        """Directory and number of example `e`, for messages."""
        return f"{self.sources[self.part_of[e]]}: example {int(self.local[e])}"

    def sizes(self, tokenizer: Tokenizer, fmt: Format) -> Int[np.ndarray, "N 3"]:
        """Tokens, clips and answer tokens of every example's sequence."""
        columns = []
        for part in self.parts:
            text, answer = part.lengths(tokenizer, fmt)
            sizes = np.empty((len(text), 3), np.int32)
            sizes[:, 1], sizes[:, 2] = part.n_clips, np.minimum(answer, fmt.max_txt_len)
            sizes[:, 0] = text
            sizes[:, 0] += sizes[:, 2] + sizes[:, 1] * np.int32(fmt.vectors_per_clip)
            columns.append(sizes)
        return self._gather(columns)


class _Part:
    """One prepared directory."""

    def __init__(self, path: str | pathlib.Path, cache_gb: float):
        directory = self.directory = shard_cache.local_index(path)
        where = str(path).rstrip("/") if is_remote(path) else directory
        file = directory / "manifest.json"
        if not directory.is_dir():
            raise UserError(f"{where}: no such directory; data directories are written by nlm prepare")
        if not file.is_file():
            raise UserError(f"{where}: no manifest.json; finish it with nlm prepare (the same command continues)")
        self.manifest = read_json(file)
        try:
            self.index = {
                f.stem: np.asarray(np.load(f, mmap_mode="r")) for f in sorted((directory / "index").glob("*.npy"))
            }
        except (ValueError, EOFError) as error:
            raise UserError(f"{where}/index: damaged ({error}); copy the prepared directory whole") from error
        if len(self.index.get("task", ())) != self.manifest.get("examples"):
            raise UserError(f"{where}: index and manifest disagree; copy the prepared directory whole")
        self.n_clips = np.diff(self.index["clip_end"], prepend=0).astype(np.int32)
        self.source = (
            shard_cache.RemoteShards.open(where, self.manifest["files"], cache_gb) if is_remote(where) else None
        )
        self.clip_records = shards.Records(directory, "clips", self.source)
        self.examples = shards.Records(directory, "examples", self.source)
        self._lengths: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        # Directories prepared by an earlier version have no taxa.
        taxa = directory / "index" / "taxa.json"
        self.taxa: list[str] = json.loads(taxa.read_text(encoding="utf-8")) if taxa.is_file() else [""]
        self.taxon = self.index.get("taxon", np.zeros(self.manifest["examples"], np.int32))

    def select(self, split: str, tasks: Sequence[str], domains: Sequence[str]) -> Int[np.ndarray, "N"]:
        """Numbers of the examples of a split, of tasks and domains."""
        keep = np.ones(self.manifest["examples"], bool)
        for key, patterns in (("split", (split,) if split else ()), ("task", tasks), ("domain", domains)):
            if patterns:
                names = self.manifest[f"{key}s"]
                codes = [c for c, name in enumerate(names) if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
                keep &= np.isin(self.index[key], codes)
        return np.flatnonzero(keep).astype(np.int32)

    def clips_of(self, local: int) -> Int[np.ndarray, "A"]:
        """Numbers of the clips of an example."""
        end = int(self.index["clip_end"][local])
        return self.index["clips"][end - int(self.n_clips[local]) : end]

    def address(self, clip: int | np.integer) -> tuple[int, int]:
        """Shard and record of a clip."""
        return int(self.index["clip_shard"][clip]), int(self.index["clip_record"][clip])

    def lengths(self, tokenizer: Tokenizer, fmt: Format) -> tuple[np.ndarray, np.ndarray]:
        """Text tokens with BOS, and answer tokens before truncation, of every example.

        They are in the index for the tokenizer and template of `nlm prepare`, and counted here for any other.
        """
        digest = text_digest(tokenizer, fmt.template, fmt.end_sym)
        if digest == self.manifest["text"]["digest"]:
            return self.index["text_tokens"], self.index["answer_tokens"]
        if digest not in self._lengths:
            n = self.manifest["examples"]
            log.info("%s: counting the tokens of %d examples (another tokenizer or template)", self.directory, n)
            lengths = np.zeros((2, n), np.int32)
            for local in range(n):
                stored = json.loads(self.examples.read(*divmod(local, shards.EXAMPLES_PER_SHARD)))
                clips = len(self.clips_of(local))
                query = normalize_query(stored["prompt"], clips)
                sequence = build_sequence(
                    tokenizer, query, stored["text"], clips, 0, fmt.template, fmt.end_sym, max_txt_len=1 << 30
                )
                lengths[:, local] = sequence.answer_start, sequence.n_answers
            self._lengths[digest] = lengths[0], lengths[1]
        return self._lengths[digest]


def _recoded(codes: Int[np.ndarray, "C"], column: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """`codes[column]`; the column itself if no code changes."""
    return column if np.array_equal(codes, np.arange(len(codes))) else codes[column]


def _names(directories: Sequence[pathlib.Path]) -> list[str]:
    """A short name per directory: its last component, or its whole path if that is not unique."""
    short = [d.resolve().name for d in directories]
    return [s if short.count(s) == 1 else str(d) for s, d in zip(short, directories, strict=True)]
