"""Recordings that training must not hear, by their ids, file names and fingerprints."""

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
from nlm_jax.prepare.near_duplicates import Prints
from nlm_jax.prepare.readers import registry

SECONDS = 30.0
"""Of a recording of a benchmark that are compared."""
FILE_NAME = "file_name"
COMMON = re.compile(r"(audio|clip|example|file|rec|recording|sample|segment|sound|track|wav|x)?[ _-]?\d*")
"""Names of files that say nothing of what they hold."""


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
    """A benchmark's recordings. `ids` of its examples; per recording `names` of its file, digest and fingerprint."""

    source: str
    ids: frozenset[str]
    names: tuple[str, ...]
    digests: UInt64[np.ndarray, "N"]
    prints: Prints

    @functools.cached_property
    def stems(self) -> dict[str, str]:
        """File names without folder, ending and capitals, where they say something."""
        return {s: name for name in self.names if (s := stem(name)) and not COMMON.fullmatch(s)}

    def named(self, example: Example) -> tuple[str, str] | None:
        """("id" or "file name", which) where an example bears one of the benchmark; None where it bears none."""
        if example.id in self.ids and not COMMON.fullmatch(example.id):
            return "id", example.id
        for path in example.paths:
            if name := self.stems.get(stem(path)):
                return "file name", name
        return None

    def save(self, path: pathlib.Path) -> None:
        """Writes what `load` reads again without the recordings: some 3 kB for ten seconds."""
        columns = {"ids": sorted(self.ids), "names": self.names, "source": self.source}
        text = np.frombuffer(json.dumps(columns).encode(), np.uint8)
        with atomic(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file, text=text, digests=self.digests, words=self.prints.words, end=self.prints.end, version=_VERSION
            )


_VERSION = np.int64(fingerprint.VERSION)


def stem(path: str) -> str:
    """`esc50/5-256452-A.WAV#t=0,5` -> `5-256452-a`; "" of a row of a dataset, whose file is many recordings."""
    if "#row=" in path:
        return ""
    name = path.partition("#member=")[2] or path
    return pathlib.PurePosixPath(name.partition("#t=")[0].replace("\\", "/")).stem.casefold()


def load(source: pathlib.Path) -> Benchmark:
    """Of a prepared directory, of a file that `Benchmark.save` wrote, or of annotations with their recordings.

    Raises:
      UserError: none of these, or nothing in it.
    """
    if source.suffix == ".npz":
        return _saved(source)
    if (source / "manifest.json").is_file() and (source / "index").is_dir():
        return _prepared(source)
    if not source.exists():
        raise UserError(f"--benchmark={source}: no such file or folder")
    return _heard(source)


def _saved(source: pathlib.Path) -> Benchmark:
    try:
        with np.load(source) as stored:
            said = json.loads(stored["text"].tobytes())
            version, prints = int(stored["version"]), Prints(stored["words"], stored["end"])
            digests = stored["digests"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--benchmark={source}: no fingerprints that nlm prepare saved") from error
    if version != fingerprint.VERSION:
        raise UserError(f"--benchmark={source}: fingerprints of another version; make them anew from the recordings")
    return Benchmark(said["source"], frozenset(said["ids"]), tuple(said["names"]), digests, prints)


def _prepared(source: pathlib.Path) -> Benchmark:
    index = source / "index"
    if not (index / "fingerprint.npy").is_file():
        raise UserError(f"--benchmark={source}: prepared without fingerprints; prepare it anew")
    columns = {name: np.load(index / f"{name}.npy") for name in ("clip_shard", "clip_record", "clip_digest")}
    clips, ids = shards.Records(source, "clips"), set()
    places = zip(columns["clip_shard"].tolist(), columns["clip_record"].tolist(), strict=True)
    names = tuple(shards.clip_header(clips.read(*place))[0]["name"] for place in places)
    manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    examples = shards.Records(source, "examples")
    for e in range(manifest["examples"]):
        ids.add(json.loads(examples.read(*divmod(e, shards.EXAMPLES_PER_SHARD)))["id"])
    prints = Prints(np.load(index / "fingerprint.npy", mmap_mode="r"), np.load(index / "fingerprint_end.npy"))
    return Benchmark(source.name, frozenset(ids), names, columns["clip_digest"], prints)


def _heard(source: pathlib.Path) -> Benchmark:
    """Fingerprints every recording of annotations; those that cannot be read are compared by name only."""
    root = registry.default_root(source)
    ids, paths = set(), {}
    for example in registry.read(source):
        ids.add(example.id)
        paths.update(dict.fromkeys(example.paths))
    if not ids:
        raise UserError(f"--benchmark={source}: holds no examples")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = list(pool.map(functools.partial(_print, root), paths))
    digests = np.asarray([digest for digest, _ in made], np.uint64)
    words = np.concatenate([np.zeros(0, np.uint64), *(words for _, words in made)])
    end = np.cumsum([len(words) for _, words in made], dtype=np.int64)
    known = _file_names(source, root)
    names = tuple(known.get(path) or path for path in paths)
    return Benchmark(source.name, frozenset(ids), names, digests, Prints(words, end))


def _file_names(source: pathlib.Path, root: pathlib.Path) -> dict[str, str]:
    """Of rows of a dataset, by the name of their recording, what its column `file_name` calls them."""
    found: dict[str, str] = {}
    for file in arrow.files(source):
        if FILE_NAME in arrow.schema(file).names:
            cells = (v for batch in arrow.batches(file, [FILE_NAME]) for v in batch.column(0).to_pylist())
            name = audio_sources.name_of(file, root)
            found |= {audio_sources.row_name(name, row): str(v) for row, v in enumerate(cells) if v}
    return found


def _print(root: pathlib.Path, path: str) -> tuple[int, UInt64[np.ndarray, "F"]]:
    try:
        audio, _ = audio_sources.load(root, path, SECONDS)
    except UserError:
        return 0, np.zeros(0, np.uint64)
    return shards.pcm_digest(audio), fingerprint.fingerprint(audio)
