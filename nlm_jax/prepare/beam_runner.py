"""`nlm prepare --runner=beam`: the shards of a corpus converted by an Apache Beam pipeline, on whatever runs it.

The unit of work is a shard: a worker converts its recordings one by one with the function that this machine would use,
and delivers shard, fingerprints and note. No audio goes through the pipeline, so nothing is shuffled, and a job that is
started again does the shards whose notes are missing. Everything else, which is small, the starting process does.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import write_json
from nlm_jax.data.schema import whole
from nlm_jax.prepare import write_clips
from nlm_jax.prepare.options import Options
from nlm_jax.prepare.write_clips import Recipe

CONTAINED = re.compile(r"#(row|member)=.*", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Work:
    """What every worker needs to know. `root` and `out` are folders that all of them see, or URLs of buckets."""

    recipe: Recipe
    root: str
    out: str

    def shard(self, number: int) -> int:
        """Converts the recordings of one shard; runs on a worker."""
        inside = None if remote.is_remote(self.out) else f"{self.out}/work"
        with tempfile.TemporaryDirectory(dir=inside) as folder:
            made = pathlib.Path(folder)
            (made / "work").mkdir()
            paths = json.loads(self._read(listed(number)))
            write_clips.write_shard(made, number, self._converted(made / "audio", paths))
            files = sorted(p for p in made.rglob("*") if p.is_file() and p.parent.name != "audio")
            for file in sorted(files, key=lambda p: p.suffix == ".json"):  # the note last: with it the shard is done
                self._deliver(file, file.relative_to(made).as_posix())
        return number

    def _read(self, name: str) -> bytes:
        if not remote.is_remote(self.out):
            return (pathlib.Path(self.out) / name).read_bytes()
        files, folder = remote.filesystem(self.out)
        return files.cat_file(f"{folder}/{name}")

    def _deliver(self, file: pathlib.Path, name: str) -> None:
        if not remote.is_remote(self.out):
            file.replace(pathlib.Path(self.out) / name)
            return
        files, folder = remote.filesystem(self.out)
        files.put_file(str(file), f"{folder}/{name}")

    def _converted(self, audio: pathlib.Path, paths: Sequence[str]) -> Iterator[write_clips.Made]:
        for group in write_clips.grouped(paths):
            if remote.is_remote(self.root):
                yield from self._fetched(audio, group)
            else:
                yield from write_clips.convert_all(self.recipe, group)

    def _fetched(self, audio: pathlib.Path, group: Sequence[str]) -> Iterator[write_clips.Made]:
        """`clips.convert_all`; a recording in a bucket is fetched first, and kept until another one is needed."""
        files, folder = remote.filesystem(self.root)
        name = CONTAINED.sub("", whole(group[0]))
        local = audio / name
        if not local.is_file():
            for old in audio.rglob("*"):
                if old.is_file():
                    old.unlink()
            local.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # `convert` says so
                files.get_file(f"{folder}/{name}", str(local))
        for record, entry, words in write_clips.convert_all(dataclasses.replace(self.recipe, root=audio), group):
            if "reason" in entry:
                entry["reason"] = entry["reason"].replace(str(audio), self.root)
            yield record, entry, words


def listed(number: int) -> str:
    """The file in which a worker finds the recordings of a shard: a list of millions is no part of a pipeline."""
    return f"work/{number:05d}.paths.json"


def pipeline_options(flags: str) -> Any:
    """Beam's options of `--beam-args`.

    Raises:
      UserError: Beam is not installed, or the flags cannot be taken apart.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError("--runner=beam needs Apache Beam; pip install 'nlm_jax[beam]'") from None
    try:
        return PipelineOptions(shlex.split(flags))
    except ValueError as error:
        raise UserError(f"--beam-args={flags!r}: {error}; give flags as on a command line") from error
    except SystemExit:
        raise UserError(f"--beam-args={flags!r}: Beam does not take these flags; its message is above") from None


def convert(
    options: Options,
    todo: list[tuple[int, Sequence[str]]],
    advance: Callable[[int], None],
    flags: Any,
    root: str | None = None,
    out: str | None = None,
) -> None:
    """Writes the shards that are missing with a pipeline; `clips.write_clips` for many machines.

    Args:
      options: of the run.
      todo: number and recordings of each shard.
      advance: told how many recordings are done, at the end.
      flags: `pipeline_options`.
      root: URL of the folder of recordings, where workers fetch them; default `options.root`.
      out: URL of the prepared directory, where workers deliver; default `options.out`.
    """
    import apache_beam

    if not todo:
        return
    for number, paths in todo:
        write_json(options.out / listed(number), list(paths))
    if out:
        _send(out, {listed(number): options.out / listed(number) for number, _ in todo})
    work = Work(Recipe.of(options), root or str(options.root.resolve()), out or str(options.out.resolve()))
    try:
        pipeline = apache_beam.Pipeline(options=flags)
    except ValueError as error:
        raise UserError(f"--beam-args: {error}") from error
    with pipeline:
        numbers = pipeline | "shards" >> apache_beam.Create([number for number, _ in todo])
        _ = numbers | "spread" >> apache_beam.Reshuffle() | "convert" >> apache_beam.Map(work.shard)
    if out:
        _fetch(out, options.out, below="work/")
    for _, paths in todo:
        advance(len(paths))


@contextlib.contextmanager
def bucket(url: str) -> Iterator[pathlib.Path]:
    """A local folder for what is small of a prepared directory at a URL, sent there in the end; clips stay there."""
    url = url.rstrip("/")
    mirror = remote.Mirror(url)
    local = mirror.local
    _fetch(url, local)
    try:
        yield local
    finally:  # also when it fails: a retry goes on there
        _publish(url, local)


def _publish(url: str, local: pathlib.Path) -> None:
    """Sends what the starting process made, then the list of what belongs together; what was for workers goes."""
    files, folder = remote.filesystem(url)
    mine = {p.relative_to(local).as_posix(): p for p in local.rglob("*") if p.is_file()}
    manifest = local / "manifest.json"
    _send(url, {name: path for name, path in mine.items() if name != "manifest.json"})
    if manifest.is_file():
        _send(url, {"manifest.json": manifest})
        every = {*mine, *json.loads(manifest.read_text(encoding="utf-8"))["files"]}
        files.pipe_file(f"{folder}/{remote.FILES}", json.dumps({"files": sorted(every), "beside": []}).encode())
        if files.exists(f"{folder}/work"):
            files.rm(f"{folder}/work", recursive=True)


def _send(url: str, named: dict[str, pathlib.Path]) -> None:
    files, folder = remote.filesystem(url)
    for name, path in named.items():
        files.makedirs(f"{folder}/{name}".rsplit("/", 1)[0], exist_ok=True)
        files.put_file(str(path), f"{folder}/{name}")


def _fetch(url: str, local: pathlib.Path, below: str = "") -> None:
    """What is at a URL, but for clips."""
    files, folder = remote.filesystem(url)
    files.invalidate_cache()
    if not files.exists(folder):
        return
    root = files._strip_protocol(folder).strip("/")
    for path in files.find(folder):
        name = path.strip("/").removeprefix(root).strip("/")
        if name.startswith(below) and not name.startswith("clips-") and name != remote.FILES:
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            files.get_file(path, str(local / name))
