"""Prepared directories, opened: examples by number, their audio and their token lengths."""

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
    """An example as it is stored. `prompt` has its placeholders."""

    id: str
    prompt: str
    text: str
    label: str
    task: str
    domain: str
    source: str
    n_clips: int
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What is known of the recording; see `schema.FACTS`."""


class Corpus:
    """Examples 0..len-1 of one or more prepared directories, in their order; only the index is in memory (mapped).

    Of directories in buckets the index is fetched whole, and shards when a record of them is read; local copies of them
    take up to `cache_gb`.
    """

    def __init__(
        self,
        directories: Sequence[str | pathlib.Path],
        split: str = "",
        tasks=(),
        domains=(),
        cache_gb: float = shard_cache.CACHE_GB,
    ):
        if not directories:
            raise UserError("no data given; name directories written by nlm prepare in data.train and data.valid")
        self.cache_gb = cache_gb
        self.parts = tuple(_Part(d, cache_gb) for d in directories)
        self.sources = _names([part.directory for part in self.parts])
        keep = [part.select(split, tasks, domains) for part in self.parts]
        # Of one directory nothing is copied where its mapped columns will do: a corpus may have tens of millions.
        single = len(keep) == 1
        numbers = np.arange(len(keep), dtype=np.int32)
        counts = [len(k) for k in keep]
        self.part_of = np.broadcast_to(numbers[0], counts[0]) if single else np.repeat(numbers, counts)
        self.local = keep[0] if single else np.concatenate(keep)
        if not len(self.local):
            known = {
                key: sorted({n for p in self.parts for n in p.manifest[f"{key}s"]})
                for key in ("split", "task", "domain")
            }
            raise UserError(
                f"no example of split {split!r}, tasks {tasks!r}, domains {domains!r}; the data has {known}"
            )
        self.tasks, self.task = self.codes("task")
        self.domains, self.domain = self.codes("domain")
        self.taxa, self.taxon = self._taxa()
        self.n_clips = self._gather([part.n_clips for part in self.parts])

    def __len__(self) -> int:
        return len(self.local)

    def subset(self, keep: Bool[np.ndarray, "N"]) -> "Corpus":
        """The examples where `keep` is true, numbered anew."""
        out = copy.copy(self)
        for name in ("part_of", "local", "task", "domain", "taxon", "n_clips"):
            setattr(out, name, getattr(self, name)[keep])
        return out

    def retries(self) -> collections.Counter[str]:
        """Transfers from buckets that this process tried again so far, by kind of error."""
        return collections.Counter(name for part in self.parts if part.source for name in part.source.again)

    def codes(self, key: str) -> tuple[list[str], Int[np.ndarray, "N"]]:
        """Names of the tasks, domains, licences or splits (`key` in the singular), and the number of each example's."""
        names: dict[str, int] = {}
        maps = [
            np.asarray([names.setdefault(n, len(names)) for n in p.manifest[f"{key}s"]], np.int32) for p in self.parts
        ]
        return list(names), self._gather([_renamed(m, p.index[key]) for m, p in zip(maps, self.parts, strict=True)])

    def _taxa(self) -> tuple[list[str], Int[np.ndarray, "N"]]:
        """Lineages (or labels) by code, and the code of every example."""
        names: dict[str, int] = {}
        maps = [np.asarray([names.setdefault(n, len(names)) for n in p.taxa], np.int32) for p in self.parts]
        return list(names), self._gather([_renamed(m, p.taxon) for m, p in zip(maps, self.parts, strict=True)])

    def _gather(self, columns) -> np.ndarray:
        """The columns of the parts at this corpus's examples, one after another."""
        found = []
        for k, column in enumerate(columns):
            rows = self.local if len(self.parts) == 1 else self.local[self.part_of == k]
            found.append(column if len(rows) == len(column) else column[rows])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def column(self, name: str) -> np.ndarray:
        """A column of the index, such as `text_tokens`, per example."""
        return self._gather([part.index[name] for part in self.parts])

    def entry(self, e: int) -> Entry:
        """Example `e`. Raises `CorruptRecord` where its record is damaged."""
        part, local = self.parts[self.part_of[e]], int(self.local[e])
        try:
            stored = json.loads(part.examples.read(*divmod(local, shards.EXAMPLES_PER_SHARD)))
        except UserError:  # a missing file is no damaged record
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
        """f32[T]: a part of clip `number` of example `e`. Raises `CorruptRecord` where the record is damaged."""
        return shards.decode_clip(self.clip_record(e, number), start, samples)

    def clip_record(self, e: int, number: int) -> bytes:
        """Clip `number` of example `e` as it is stored. Raises `CorruptRecord` where its shard is damaged there."""
        part = self.parts[self.part_of[e]]
        return part.clip_records.read(*part.place(part.clips_of(int(self.local[e]))[number]))

    def clip_names(self, e: int) -> list[str]:
        """What the annotations call the clips of example `e`. Raises `CorruptRecord` where a record is damaged."""
        records = (self.clip_record(e, k) for k in range(int(self.n_clips[e])))
        return [shards.clip_header(record)[0]["name"] for record in records]

    def audio(self, e: int, samples: int) -> list[np.ndarray]:
        """Per clip f32[samples] from the start, zero-padded: what evaluation hears."""
        out = np.zeros((len(self.clip_samples(e)), samples), np.float32)
        for k in range(len(out)):
            wave = self.clip(e, k, 0, samples)
            out[k, : wave.size] = wave
        return list(out)

    def name(self, e: int) -> str:
        """Directory and number of example `e`, for messages."""
        return f"{self.sources[self.part_of[e]]}: example {int(self.local[e])}"

    def needs(self, tokenizer: Tokenizer, fmt: Format) -> Int[np.ndarray, "N 3"]:
        """Tokens, clips and answer tokens of every example's sequence."""
        columns = []
        for part in self.parts:
            text, answer = part.lengths(tokenizer, fmt)
            made = np.empty((len(text), 3), np.int32)
            made[:, 1], made[:, 2] = part.n_clips, np.minimum(answer, fmt.max_txt_len)
            made[:, 0] = text
            made[:, 0] += made[:, 2] + made[:, 1] * np.int32(fmt.vectors_per_clip)
            columns.append(made)
        return self._gather(columns)


class _Part:
    """One prepared directory."""

    def __init__(self, where: str | pathlib.Path, cache_gb: float):
        directory = self.directory = shard_cache.index(where)
        where = str(where).rstrip("/") if is_remote(where) else directory
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
        self.source = shard_cache.bucket(where, self.manifest["files"], cache_gb) if is_remote(where) else None
        self.clip_records = shards.Records(directory, "clips", self.source)
        self.examples = shards.Records(directory, "examples", self.source)
        self._lengths: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        # Directories prepared by an earlier version have no taxa.
        taxa = directory / "index" / "taxa.json"
        self.taxa: list[str] = json.loads(taxa.read_text(encoding="utf-8")) if taxa.is_file() else [""]
        self.taxon = self.index.get("taxon", np.zeros(self.manifest["examples"], np.int32))

    def select(self, split: str, tasks, domains) -> Int[np.ndarray, "N"]:
        keep = np.ones(self.manifest["examples"], bool)
        for key, patterns in (("split", (split,) if split else ()), ("task", tasks), ("domain", domains)):
            if patterns:
                codes = [
                    c
                    for c, n in enumerate(self.manifest[f"{key}s"])
                    if any(fnmatch.fnmatchcase(n, p) for p in patterns)
                ]
                keep &= np.isin(self.index[key], codes)
        return np.flatnonzero(keep).astype(np.int32)

    def clips_of(self, local: int) -> Int[np.ndarray, "A"]:
        end = int(self.index["clip_end"][local])
        return self.index["clips"][end - int(self.n_clips[local]) : end]

    def place(self, clip) -> tuple[int, int]:
        return int(self.index["clip_shard"][clip]), int(self.index["clip_record"][clip])

    def lengths(self, tokenizer: Tokenizer, fmt: Format) -> tuple[np.ndarray, np.ndarray]:
        """Text tokens with BOS, and answer tokens before the cut; counted anew for another tokenizer or template."""
        digest = text_digest(tokenizer, fmt.template, fmt.end_sym)
        if digest == self.manifest["text"]["digest"]:
            return self.index["text_tokens"], self.index["answer_tokens"]
        if digest not in self._lengths:
            n = self.manifest["examples"]
            log.info("%s: counting the tokens of %d examples anew (other tokenizer or template)", self.directory, n)
            counted = np.zeros((2, n), np.int32)
            for local in range(n):
                stored = json.loads(self.examples.read(*divmod(local, shards.EXAMPLES_PER_SHARD)))
                clips = len(self.clips_of(local))
                query = normalize_query(stored["prompt"], clips)
                made = build_sequence(tokenizer, query, stored["text"], clips, 0, fmt.template, fmt.end_sym, 1 << 30)
                counted[:, local] = made.answer_start, made.n_answers
            self._lengths[digest] = counted[0], counted[1]
        return self._lengths[digest]


def _renamed(codes: Int[np.ndarray, "C"], column: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """`codes[column]`; the column itself where no code changes."""
    return column if np.array_equal(codes, np.arange(len(codes))) else codes[column]


def _names(directories: Sequence[pathlib.Path]) -> list[str]:
    """A short name per directory: its own, or its whole path where two share one."""
    short = [d.resolve().name for d in directories]
    return [s if short.count(s) == 1 else str(d) for s, d in zip(short, directories, strict=True)]
