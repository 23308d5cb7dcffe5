"""Prepared directories, opened: examples by number, their audio and their token lengths."""

import copy
import dataclasses
import fnmatch
import json
import logging
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from nlm_jax.core.errors import UserError
from nlm_jax.core.files import read_json
from nlm_jax.core.remote import local
from nlm_jax.data import shards
from nlm_jax.data.preparation.examples import EXAMPLES_PER_SHARD
from nlm_jax.data.preparation.manifest import text_digest
from nlm_jax.data.text import Format, Tokenizer, build_sequence, normalize_query

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


class Corpus:
    """Examples 0..len-1 of one or more prepared directories, in their order; only the index is in memory (mapped)."""

    def __init__(self, directories: Sequence[str | pathlib.Path], split: str = "", tasks=(), domains=()):
        if not directories:
            raise UserError("no data given; name directories written by nlm prepare in data.train and data.valid")
        self.parts = tuple(_Part(local(d)) for d in directories)
        self.sources = _names([part.directory for part in self.parts])
        keep = [part.select(split, tasks, domains) for part in self.parts]
        self.part_of = np.repeat(np.arange(len(keep), dtype=np.int32), [len(k) for k in keep])
        self.local = np.concatenate(keep)
        if not len(self.local):
            known = {
                key: sorted({n for p in self.parts for n in p.manifest[f"{key}s"]})
                for key in ("split", "task", "domain")
            }
            raise UserError(
                f"no example of split {split!r}, tasks {tasks!r}, domains {domains!r}; the data has {known}"
            )
        self.tasks, self.task = self._codes("task")
        self.domains, self.domain = self._codes("domain")
        self.taxa, self.taxon = self._taxa()
        self.n_clips = self._gather([np.diff(part.clip_start) for part in self.parts])

    def __len__(self) -> int:
        return len(self.local)

    def subset(self, keep: Bool[np.ndarray, "N"]) -> "Corpus":
        """The examples where `keep` is true, numbered anew."""
        out = copy.copy(self)
        for name in ("part_of", "local", "task", "domain", "taxon", "n_clips"):
            setattr(out, name, getattr(self, name)[keep])
        return out

    def _codes(self, key: str) -> tuple[list[str], Int[np.ndarray, "N"]]:
        names: dict[str, int] = {}
        maps = [
            np.asarray([names.setdefault(n, len(names)) for n in p.manifest[f"{key}s"]], np.int32) for p in self.parts
        ]
        return list(names), self._gather([m[p.index[key]] for m, p in zip(maps, self.parts, strict=True)])

    def _taxa(self) -> tuple[list[str], Int[np.ndarray, "N"]]:
        """Lineages (or labels) by code, and the code of every example."""
        names: dict[str, int] = {}
        maps = [np.asarray([names.setdefault(n, len(names)) for n in p.taxa], np.int32) for p in self.parts]
        return list(names), self._gather([m[p.taxon] for m, p in zip(maps, self.parts, strict=True)])

    def _gather(self, columns) -> np.ndarray:
        return np.concatenate([c[self.local[self.part_of == k]] for k, c in enumerate(columns)])

    def entry(self, e: int) -> Entry:
        """Example `e`. Raises `CorruptRecord` where its record is damaged."""
        part, local = self.parts[self.part_of[e]], int(self.local[e])
        try:
            stored = json.loads(part.examples.read(*divmod(local, EXAMPLES_PER_SHARD)))
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
        )

    def clip_samples(self, e: int) -> list[int]:
        """Stored samples of each clip of example `e`."""
        part = self.parts[self.part_of[e]]
        return [int(part.index["clip_samples"][c]) for c in part.clips_of(int(self.local[e]))]

    def clip(self, e: int, number: int, start: int = 0, samples: int | None = None) -> Float[np.ndarray, "T"]:
        """f32[T]: a part of clip `number` of example `e`. Raises `CorruptRecord` where the record is damaged."""
        part = self.parts[self.part_of[e]]
        c = part.clips_of(int(self.local[e]))[number]
        return shards.decode_clip(part.clip_records.read(*part.place(c)), start, samples)

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
            answer, clips = np.minimum(answer, fmt.max_txt_len), np.diff(part.clip_start)
            columns.append(np.stack([text + answer + clips * fmt.vectors_per_clip, clips, answer], axis=1))
        return self._gather(columns).astype(np.int64)


class _Part:
    """One prepared directory."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        file = directory / "manifest.json"
        if not directory.is_dir():
            raise UserError(f"{directory}: no such directory; data directories are written by nlm prepare")
        if not file.is_file():
            raise UserError(f"{directory}: no manifest.json; finish it with nlm prepare (the same command continues)")
        self.manifest = read_json(file)
        try:
            self.index = {f.stem: np.load(f, mmap_mode="r") for f in sorted((directory / "index").glob("*.npy"))}
        except (ValueError, EOFError) as error:
            raise UserError(f"{directory / 'index'}: damaged ({error}); copy the prepared directory whole") from error
        if len(self.index.get("task", ())) != self.manifest.get("examples"):
            raise UserError(f"{directory}: index and manifest disagree; copy the prepared directory whole")
        self.clip_start = np.concatenate([np.zeros(1, np.int64), self.index["clip_end"]])
        self.clip_records = shards.Records(directory, "clips")
        self.examples = shards.Records(directory, "examples")
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
        return np.flatnonzero(keep)

    def clips_of(self, local: int) -> Int[np.ndarray, "A"]:
        return self.index["clips"][self.clip_start[local] : self.clip_start[local + 1]]

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
                stored = json.loads(self.examples.read(*divmod(local, EXAMPLES_PER_SHARD)))
                clips = len(self.clips_of(local))
                query = normalize_query(stored["prompt"], clips)
                made = build_sequence(tokenizer, query, stored["text"], clips, 0, fmt.template, fmt.end_sym, 1 << 30)
                counted[:, local] = made.answer_start, made.n_answers
            self._lengths[digest] = counted[0], counted[1]
        return self._lengths[digest]


def _names(directories: Sequence[pathlib.Path]) -> list[str]:
    """A short name per directory: its own, or its whole path where two share one."""
    short = [d.resolve().name for d in directories]
    return [s if short.count(s) == 1 else str(d) for s, d in zip(short, directories, strict=True)]
