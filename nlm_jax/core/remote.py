"""Paths in buckets: gs://, s3://, az://, hf:// and whatever else fsspec knows, wherever a path is taken.

What is read is fetched into a cache first (again only what changed); what is written is written there and delivered.
A mirror lists the files that belong together in `FILES`, written last, so that a reader never sees half of a delivery.
"""

import argparse
import contextlib
import fnmatch
import functools
import hashlib
import json
import logging
import os
import pathlib
import random
import time
from collections.abc import Callable, Iterator, MutableSequence
from typing import Any

from nlm_jax.core.errors import UserError

log = logging.getLogger(__name__)
FILES = ".nlm_files.json"
TRIES, PAUSE = 4, 0.5
"""How often a transfer is tried, and the seconds before the second try; they double every time."""
FATAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors that another try will not mend."""
PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "az": "adlfs", "abfs": "adlfs", "hf": "huggingface_hub"}
CHANGES = ("etag", "ETag", "mtime", "updated", "LastModified", "last_modified", "created", "generation", "blob_id")
"""What file systems call the sign that a file is another one than before."""


def is_remote(path: str | os.PathLike) -> bool:
    """Whether `path` is a URL."""
    return "://" in str(path)


def reads(text: str) -> pathlib.Path:
    """A path to read, as an argument of a command: itself, or the fetched copy of what a URL names."""
    return _told(local, text)


_waiting: list["Mirror"] = []
_copies: dict[str, str] = {}
"""Path of each local copy in use -> its URL."""


def named(text: Any) -> str:
    """`text` with URLs in place of the paths of their local copies: people know what they asked for."""
    text = str(text)
    for path, url in _copies.items():
        text = text.replace(path, url)
    return text


def writes(text: str) -> pathlib.Path:
    """A path to write, as an argument of a command: itself, or a copy that `delivering` sends to the URL."""
    return _told(delivered, text)


def delivered(path: str | os.PathLike) -> pathlib.Path:
    """`path`, or a copy of what is at a URL, which `delivering` sends back."""
    if not is_remote(path):
        return pathlib.Path(path)
    mirror = Mirror(str(path))
    mirror.pull()
    _waiting.append(mirror)
    return mirror.local


def _told(do: Callable[[str], Any], text: str) -> Any:
    """`do(text)`; argparse shows the sentence of its own kind of error only."""
    try:
        return do(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@contextlib.contextmanager
def delivering() -> Iterator[None]:
    """Sends what was written to `writes` paths when the command ends, also when it fails: a retry goes on there."""
    try:
        yield
    finally:
        while _waiting:
            _waiting.pop().push()


def local(path: str | os.PathLike) -> pathlib.Path:
    """`path`, or the fetched copy of what it names as a URL."""
    return fetched(str(path)) if is_remote(path) else pathlib.Path(path)


def beside(path: str | os.PathLike) -> pathlib.Path:
    """`local` of a file, with the folder it is in."""
    if not is_remote(path):
        return pathlib.Path(path)
    folder, name = str(path).rsplit("/", 1)
    return fetched(folder) / name


def fetched(url: str) -> pathlib.Path:
    """A local copy of the file or folder at `url`; files that are there unchanged are not fetched again.

    Raises:
      UserError: nothing there, no access, or a kind of URL that needs a package which is not installed.
    """
    mirror = Mirror(url)
    if not mirror.pull():
        raise UserError(f"{url}: no such file or folder")
    return mirror.local


def cache_folder() -> pathlib.Path:
    """`~/.cache/nlm_jax/remote`, or below XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "nlm_jax" / "remote"


class Mirror:
    """A file or folder at a URL and its local copy, `local`.

    `beside` names folders below the URL that somebody else writes there: they are neither pulled nor pushed, but who
    fetches the URL gets them. Files whose names match `without` are left where they are.
    """

    def __init__(self, url: str, beside: tuple[str, ...] = (), without: str = ""):
        self._beside, self._without = beside, without
        self.url = url.rstrip("/")
        self._fs, self._root = filesystem(self.url)
        name = self.url.rsplit("/", 1)[-1]
        copy = f"{self.url} without {without}" if without else self.url
        self.local = cache_folder() / hashlib.sha256(copy.encode()).hexdigest()[:16] / name
        self._sent: dict[str, Any] = {}
        _copies[str(self.local)] = self.url

    def pull(self) -> bool:
        """Makes the local copy what is there; whether anything is. Local files that are not there are removed."""
        known = self._known()
        found = dict(self._list())
        for name, (path, sign) in found.items():
            target = self.local / name if name else self.local
            if known.get(name) != sign or not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f"{target.name}.{os.getpid()}.part")  # other processes may fetch the same
                self._try(lambda path=path, part=part: self._fs.get_file(path, str(part)))
                part.replace(target)
        for name, target in self._files():
            if name not in found:
                target.unlink()
        self._note().parent.mkdir(parents=True, exist_ok=True)
        self._note().write_text(json.dumps({name: sign for name, (_, sign) in found.items()}), encoding="utf-8")
        self._sent = {name: stamp(target) for name, target in self._files()}
        return bool(found)

    def push(self) -> None:
        """Sends new and changed files, then the list of what belongs together, then removes what is no longer there."""
        files = dict(self._files())
        stamps = {name: stamp(target) for name, target in files.items()}
        changed = [name for name in files if self._sent.get(name) != stamps[name]]
        gone = [name for name in self._sent if name not in files]
        for name in changed:
            path = f"{self._root}/{name}" if name else self._root
            self._try(lambda path=path, name=name: self._put(str(files[name]), path))
        if (changed or gone) and "" not in files:
            listed = json.dumps({"files": sorted(files), "beside": self._beside})
            self._try(lambda: self._fs.pipe_file(f"{self._root}/{FILES}", listed.encode()))
        for name in gone:
            with contextlib.suppress(FileNotFoundError):
                self._try(lambda name=name: self._fs.rm_file(f"{self._root}/{name}"))
        self._sent = stamps

    def _put(self, source: str, path: str) -> None:
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._fs.put_file(source, path)

    def _list(self) -> Iterator[tuple[str, tuple[str, list[str]]]]:
        """(name below the URL, (path, signs of change)) of every file that belongs there; a single file has no name."""
        self._fs.invalidate_cache()
        if self._try(lambda: self._fs.isfile(self._root)):
            yield "", (self._root, signs(self._fs.info(self._root)))
            return
        if not self._try(lambda: self._fs.exists(self._root)):
            return
        below = self._try(lambda: self._fs.find(self._root, detail=True))
        root = self._fs._strip_protocol(self._root).strip("/")
        named = {path.strip("/").removeprefix(root).strip("/"): (path, info) for path, info in below.items()}
        if FILES in named:
            path = named.pop(FILES)[0]
            told = json.loads(self._try(lambda: self._fs.cat_file(path)))
            files, beside = set(told["files"]), tuple(told["beside"])
            named = {n: entry for n, entry in named.items() if n in files or n.split("/")[0] in beside}
        for name, (path, info) in named.items():
            if name.split("/")[0] not in self._beside and not fnmatch.fnmatchcase(name, self._without):
                yield name, (path, signs(info))

    def _files(self) -> list[tuple[str, pathlib.Path]]:
        """Name and path of every local file."""
        if self.local.is_file():
            return [("", self.local)]
        found = sorted(p for p in self.local.rglob("*") if p.is_file() and not p.name.endswith(".part"))
        return [(p.relative_to(self.local).as_posix(), p) for p in found]

    def _note(self) -> pathlib.Path:
        return self.local.parent / "fetched.json"

    def _known(self) -> dict[str, list[str]]:
        return json.loads(self._note().read_text(encoding="utf-8")) if self._note().is_file() else {}

    def _try(self, do: Callable[[], Any]) -> Any:
        return retried(do, self.url)


def retried(do: Callable[[], Any], what: str, tries: int = TRIES, again: MutableSequence[str] | None = None) -> Any:
    """`do()`, again after a pause where the network failed; pauses double, and vary so that not all come back at once.

    Args:
      what: named in messages.
      again: gets the name of every error that was followed by another try.

    Raises:
      UserError: nothing there, no access, or it failed `tries` times.
    """
    for number in range(1, tries + 1):
        try:
            return do()
        except UserError:
            raise
        except FATAL as error:
            raise UserError(f"{what}: {type(error).__name__}: {error}") from error
        except Exception as error:  # every file system has its own
            name = type(error).__name__
            if number == tries:
                raise UserError(f"{what}: {name}: {error} ({tries} tries)") from error
            if again is not None:
                again.append(name)
            pause = PAUSE * 2 ** (number - 1) * random.uniform(1.0, 1.25)
            log.warning("%s: %s: %s; try %d of %d in %.1f s", what, name, error, number + 1, tries, pause)
            time.sleep(pause)


@functools.cache
def filesystem(url: str) -> tuple[Any, str]:
    """The file system of `url` and the path in it."""
    import fsspec

    protocol = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(protocol, f"the fsspec package for {protocol}")
        raise UserError(
            f"{url}: {protocol}:// needs {package}; pip install {PACKAGES.get(protocol, protocol)}"
        ) from error
    except ValueError as error:
        raise UserError(f"{url}: no file system is known for {protocol}://; use gs://, s3:// or a path") from error


def signs(info: dict[str, Any]) -> list[str]:
    """What tells one content of a remote file from another."""
    return [str(info.get("size")), *(f"{name}={info[name]}" for name in CHANGES if info.get(name) is not None)]


def stamp(path: pathlib.Path) -> tuple[int, int]:
    """The same of a local file."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns
