"""`nlm prepare --runner=beam`: the clips of a corpus written by an Apache Beam pipeline, on any of its runners.

The unit of work is a shard: a worker converts its recordings one by one, with the function that a local run uses, and
delivers the shard, its fingerprints and its note. No audio goes through the pipeline, so nothing is shuffled, and a job
that is started again converts the shards whose notes are missing. All other stages, which are small, run in the
starting process.
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
from nlm_jax.prepare import write_clips as local
from nlm_jax.prepare.write_clips import Conversion, Job, Recipe

CONTAINED = re.compile(r"#(row|member)=.*", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class ShardWriter:
    """Settings of a worker. `root` and `out` are folders that all workers can access, or URLs of buckets."""

    recipe: Recipe
    root: str
    """Folder of relative audio paths."""
    out: str
    """The prepared directory."""

    def write(self, number: int) -> int:
        """Converts the recordings of one shard and delivers it; returns its number. Runs on a worker."""
        parent = None if remote.is_remote(self.out) else f"{self.out}/work"
        with tempfile.TemporaryDirectory(dir=parent) as name:
            folder = pathlib.Path(name)
            (folder / "work").mkdir()
            paths = json.loads(self._read(paths_file(number)))
            local.write_shard(folder, number, self._conversions(folder / "audio", paths))
            files = sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name != "audio")
            for file in sorted(files, key=lambda p: p.suffix == ".json"):  # the note is last: it completes the shard
                self._deliver(file, file.relative_to(folder).as_posix())
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

    def _conversions(self, downloads: pathlib.Path, paths: Sequence[str]) -> Iterator[Conversion]:
        for group in local.groups(paths):
            if remote.is_remote(self.root):
                yield from self._convert_remote(downloads, group)
            else:
                yield from local.convert_group(self.recipe, group)

    def _convert_remote(self, downloads: pathlib.Path, group: Sequence[str]) -> Iterator[Conversion]:
        """`write_clips.convert_group` of a recording in a bucket, which stays in `downloads` until the next one."""
        files, folder = remote.filesystem(self.root)
        name = CONTAINED.sub("", whole(group[0]))
        file = downloads / name
        if not file.is_file():
            for old in downloads.rglob("*"):
                if old.is_file():
                    old.unlink()
            file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # `convert` gives the reason
                files.get_file(f"{folder}/{name}", str(file))
        for conversion in local.convert_group(dataclasses.replace(self.recipe, root=downloads), group):
            if "reason" in conversion.entry:
                conversion.entry["reason"] = conversion.entry["reason"].replace(str(downloads), self.root)
            yield conversion


def paths_file(number: int) -> str:
    """The file that lists the recordings of a shard for its worker: millions of names do not fit into a pipeline."""
    return f"work/{number:05d}.paths.json"


def pipeline_options(flags: str) -> Any:
    """Beam's `PipelineOptions` for `--beam-args`.

    Raises:
      UserError: Beam is not installed, or the flags cannot be parsed.
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


def write_clips(
    recipe: Recipe,
    out: pathlib.Path,
    jobs: list[Job],
    advance: Callable[[int], object],
    flags: Any,
    root_url: str | None = None,
    out_url: str | None = None,
) -> None:
    """Writes shards with a pipeline, as `nlm_jax.prepare.write_clips.write_clips` does on this machine.

    Args:
      recipe: how recordings are converted.
      out: the prepared directory on this machine.
      jobs: the shards to write.
      advance: called with the number of recordings of each shard, when all are written.
      flags: `pipeline_options`.
      root_url: folder from which workers download recordings; default `recipe.root`.
      out_url: prepared directory to which workers upload; default `out`.

    Raises:
      UserError: Beam rejects the flags.
    """
    import apache_beam

    if not jobs:
        return
    for number, paths in jobs:
        write_json(out / paths_file(number), list(paths))
    if out_url:
        _upload(out_url, {paths_file(number): out / paths_file(number) for number, _ in jobs})
    writer = ShardWriter(recipe, root_url or str(recipe.root.resolve()), out_url or str(out.resolve()))
    try:
        pipeline = apache_beam.Pipeline(options=flags)
    except ValueError as error:
        raise UserError(f"--beam-args: {error}") from error
    with pipeline:
        numbers = pipeline | "shards" >> apache_beam.Create([number for number, _ in jobs])
        _ = numbers | "spread" >> apache_beam.Reshuffle() | "convert" >> apache_beam.Map(writer.write)
    if out_url:
        _download(out_url, out, prefix="work/")
    for _, paths in jobs:
        advance(len(paths))


@contextlib.contextmanager
def bucket(url: str) -> Iterator[pathlib.Path]:
    """A local folder for the small files of a prepared directory in a bucket, uploaded at the end.

    Args:
      url: of the prepared directory, whose clips stay there.
    """
    url = url.rstrip("/")
    mirror = remote.Mirror(url)
    folder = mirror.local
    _download(url, folder)
    try:
        yield folder
    finally:  # also after a failure, so that a rerun can resume
        _publish(url, folder)


def _publish(url: str, folder: pathlib.Path) -> None:
    """Uploads the files of this machine, then the list of all files; the workers' files are deleted at the end."""
    filesystem, target = remote.filesystem(url)
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    manifest = folder / "manifest.json"
    _upload(url, {name: path for name, path in files.items() if name != "manifest.json"})
    if manifest.is_file():
        _upload(url, {"manifest.json": manifest})
        names = {*files, *json.loads(manifest.read_text(encoding="utf-8"))["files"]}
        listing = json.dumps({"files": sorted(names), "beside": []})
        filesystem.pipe_file(f"{target}/{remote.FILES}", listing.encode())
        if filesystem.exists(f"{target}/work"):
            filesystem.rm(f"{target}/work", recursive=True)


def _upload(url: str, files: dict[str, pathlib.Path]) -> None:
    """Uploads files under the names that are their keys."""
    filesystem, target = remote.filesystem(url)
    for name, path in files.items():
        filesystem.makedirs(f"{target}/{name}".rsplit("/", 1)[0], exist_ok=True)
        filesystem.put_file(str(path), f"{target}/{name}")


def _download(url: str, folder: pathlib.Path, prefix: str = "") -> None:
    """Downloads the files whose names start with `prefix`, except clips."""
    filesystem, source = remote.filesystem(url)
    filesystem.invalidate_cache()
    if not filesystem.exists(source):
        return
    root = filesystem._strip_protocol(source).strip("/")
    for path in filesystem.find(source):
        name = path.strip("/").removeprefix(root).strip("/")
        if name.startswith(prefix) and not name.startswith("clips-") and name != remote.FILES:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(path, str(folder / name))
