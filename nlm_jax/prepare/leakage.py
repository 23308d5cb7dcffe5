"""Recordings of a benchmark, which training must not contain: their ids, file names and fingerprints."""

import dataclasses
import functools
import json
import os
import pathlib
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import UInt64

from nlm_jax.core import arrow
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import atomic
from nlm_jax.data import shards
from nlm_jax.data.schema import Example
from nlm_jax.prepare import audio_sources, fingerprint
from nlm_jax.prepare.near_duplicates import Fingerprints
from nlm_jax.prepare.readers import registry

SECONDS = 30.0
"""Seconds compared per benchmark recording."""
FILE_NAME = "file_name"
COMMON = re.compile(r"(audio|clip|example|file|rec|recording|sample|segment|sound|track|wav|x)?[ _-]?\d*")
"""Names of files that say nothing about their content."""


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
    """The N recordings of a benchmark."""

    source: str
    """Name of the directory or file it was loaded from."""
    ids: frozenset[str]
    """Ids of its examples."""
    names: tuple[str, ...]
    """Per recording the name of its file."""
    digests: UInt64[np.ndarray, "N"]
    """Per recording the digest of its samples; 0 if it could not be read."""
    prints: Fingerprints

    @functools.cached_property
    def stems(self) -> dict[str, str]:
        """Stem of a file name (see `stem`) -> the name, of those that are not generic."""
        return {key: name for name in self.names if (key := stem(name)) and not COMMON.fullmatch(key)}

    def named(self, example: Example) -> tuple[str, str] | None:
        """Looks for a name of the benchmark in an example.

        Returns:
          ("id" or "file name", the name); None if the example has no name of the benchmark.
        """
        if example.id in self.ids and not COMMON.fullmatch(example.id):
            return "id", example.id
        for path in example.paths:
            if name := self.stems.get(stem(path)):
                return "file name", name
        return None

    def save(self, path: pathlib.Path) -> None:
        """Writes a file that `load` reads without the recordings, some 3 kB for ten seconds of audio."""
        columns = {"ids": sorted(self.ids), "names": self.names, "source": self.source}
        text = np.frombuffer(json.dumps(columns).encode(), np.uint8)
        version = np.int64(fingerprint.VERSION)
        with atomic(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file, text=text, digests=self.digests, words=self.prints.words, end=self.prints.end, version=version
            )


def stem(path: str) -> str:
    """`esc50/5-256452-A.WAV#t=0,5` -> `5-256452-a`; "" for a row of a dataset, whose file has many recordings."""
    if "#row=" in path:
        return ""
    name = path.partition("#member=")[2] or path
    return pathlib.PurePosixPath(name.partition("#t=")[0].replace("\\", "/")).stem.casefold()


def load(source: pathlib.Path) -> Benchmark:
    """Loads a benchmark.

    Args:
      source: a prepared directory, a file written by `Benchmark.save`, or annotations with their recordings.

    Raises:
      UserError: it is none of these, or empty.
    """
    if source.suffix == ".npz":
        return _load_saved(source)
    if (source / "manifest.json").is_file() and (source / "index").is_dir():
        return _load_prepared(source)
    if not source.exists():
        raise UserError(f"--benchmark={source}: no such file or folder")
    return _load_recordings(source)


def _load_saved(source: pathlib.Path) -> Benchmark:
    try:
        with np.load(source) as saved:
            columns = json.loads(saved["text"].tobytes())
            version, prints = int(saved["version"]), Fingerprints(saved["words"], saved["end"])
            digests = saved["digests"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--benchmark={source}: no fingerprints that nlm prepare saved") from error
    if version != fingerprint.VERSION:
        raise UserError(
            f"--benchmark={source}: fingerprints of another version; compute them again from the recordings"
        )
    return Benchmark(columns["source"], frozenset(columns["ids"]), tuple(columns["names"]), digests, prints)


def _load_prepared(source: pathlib.Path) -> Benchmark:
    index = source / "index"
    if not (index / "fingerprint.npy").is_file():
        raise UserError(f"--benchmark={source}: prepared without fingerprints; prepare it again")
    columns = {name: np.load(index / f"{name}.npy") for name in ("clip_shard", "clip_record", "clip_digest")}
    clips, ids = shards.Records(source, "clips"), set()
    places = zip(columns["clip_shard"].tolist(), columns["clip_record"].tolist(), strict=True)
    names = tuple(shards.clip_header(clips.read(*place))[0]["name"] for place in places)
    manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    examples = shards.Records(source, "examples")
    for number in range(manifest["examples"]):
        ids.add(json.loads(examples.read(*divmod(number, shards.EXAMPLES_PER_SHARD)))["id"])
    prints = Fingerprints(np.load(index / "fingerprint.npy", mmap_mode="r"), np.load(index / "fingerprint_end.npy"))
    return Benchmark(source.name, frozenset(ids), names, columns["clip_digest"], prints)


def _load_recordings(source: pathlib.Path) -> Benchmark:
    """Fingerprints every recording of annotations; those that cannot be read are compared by name only."""
    root = registry.default_root(source)
    ids, paths = set(), {}
    for example in registry.read(source):
        ids.add(example.id)
        paths.update(dict.fromkeys(example.paths))
    if not ids:
        raise UserError(f"--benchmark={source}: holds no examples")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        prints = list(pool.map(functools.partial(_fingerprint, root), paths))
    digests = np.asarray([digest for digest, _ in prints], np.uint64)
    words = np.concatenate([np.zeros(0, np.uint64), *(words for _, words in prints)])
    end = np.cumsum([len(words) for _, words in prints], dtype=np.int64)
    file_names = _file_names(source, root)
    names = tuple(file_names.get(path) or path for path in paths)
    return Benchmark(source.name, frozenset(ids), names, digests, Fingerprints(words, end))


def _file_names(source: pathlib.Path, root: pathlib.Path) -> dict[str, str]:
    """Recording -> its file name, of the rows of a dataset that has a column `file_name`."""
    names: dict[str, str] = {}
    for file in arrow.files(source):
        if FILE_NAME in arrow.schema(file).names:
            cells = (v for batch in arrow.batches(file, [FILE_NAME]) for v in batch.column(0).to_pylist())
            container = audio_sources.name_of(file, root)
            names |= {audio_sources.row_name(container, row): str(cell) for row, cell in enumerate(cells) if cell}
    return names


def _fingerprint(root: pathlib.Path, path: str) -> tuple[int, UInt64[np.ndarray, "F"]]:
    """Digest and fingerprint of a recording; 0 and nothing if it cannot be read."""
    try:
        audio, _ = audio_sources.load(root, path, SECONDS)
    except UserError:
        return 0, np.zeros(0, np.uint64)
    return shards.pcm_digest(audio), fingerprint.fingerprint(audio)
