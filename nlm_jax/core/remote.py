"""Paths in buckets: gs://, s3://, az://, hf:// and every other fsspec protocol, wherever a path is accepted.

Inputs are downloaded into a cache first (again only if changed); outputs are written to the cache and uploaded. A
mirror lists the files that belong together in `FILES`, written last, so that a reader never sees a partial upload.
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
from nlm_jax.core.files import PART, atomic

log = logging.getLogger(__name__)
FILES = ".nlm_files.json"
TRIES, PAUSE = 4, 0.5
"""Attempts per transfer, and the seconds before the second one; the pause doubles every time."""
FATAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors for which a retry is useless."""
PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "az": "adlfs", "abfs": "adlfs", "hf": "huggingface_hub"}
CHANGES = ("etag", "ETag", "mtime", "updated", "LastModified", "last_modified", "created", "generation", "blob_id")
"""Metadata keys, over all file systems, by which a changed file is recognised."""


def is_remote(path: str | os.PathLike) -> bool:
    """Whether `path` is a URL."""
    return "://" in str(path)


def input_path(text: str) -> pathlib.Path:
    """argparse type of a path to read: the path itself, or the local copy of a URL."""
    return _argument(local, text)


_pending: list["Mirror"] = []
"""Copies that are uploaded when the command ends."""
_copies: dict[str, str] = {}
"""Path of each local copy in use -> its URL."""


def with_urls(text: Any) -> str:
    """`text` with the paths of local copies replaced by their URLs, for messages to the user."""
    text = str(text)
    for path, url in _copies.items():
        text = text.replace(path, url)
    return text


def output_path(text: str) -> pathlib.Path:
    """argparse type of a path to write: the path itself, or a local copy that `upload_at_exit` sends to the URL."""
    return _argument(local_output, text)


def local_output(path: str | os.PathLike) -> pathlib.Path:
    """`path` itself, or a local copy of a URL that `upload_at_exit` sends back."""
    if not is_remote(path):
        return pathlib.Path(path)
    mirror = Mirror(str(path))
    mirror.pull()
    _pending.append(mirror)
    return mirror.local


def _argument(convert: Callable[[str], Any], text: str) -> Any:
    """`convert(text)`, with UserError as ArgumentTypeError: argparse prints the messages of that type only."""
    try:
        return convert(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@contextlib.contextmanager
def upload_at_exit() -> Iterator[None]:
    """Uploads the outputs when the command ends, also after a failure: a rerun resumes from them."""
    try:
        yield
    finally:
        while _pending:
            _pending.pop().push()


def local(path: str | os.PathLike) -> pathlib.Path:
    """`path` itself, or the local copy of a URL."""
    return fetch(str(path)) if is_remote(path) else pathlib.Path(path)


def local_with_folder(path: str | os.PathLike) -> pathlib.Path:
    """`local` for a file that needs its siblings: downloads the whole folder that contains it."""
    if not is_remote(path):
        return pathlib.Path(path)
    folder, name = str(path).rsplit("/", 1)
    return fetch(folder) / name


def fetch(url: str) -> pathlib.Path:
    """Downloads the file or folder at `url`, except files whose local copy is current; returns the local path.

    Raises:
      UserError: nothing there, no access, or a protocol whose package is not installed.
    """
    mirror = Mirror(url)
    if not mirror.pull():
        raise UserError(f"{url}: no such file or folder")
    return mirror.local


def cache_folder() -> pathlib.Path:
    """Folder of the local copies: `~/.cache/nlm_jax/remote`, or below XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "nlm_jax" / "remote"


class Mirror:
    """A file or folder at a URL and its local copy, `local`.

    Args:
      url: of the file or folder.
      excluded: folders below the URL that another program writes (Orbax): neither pulled nor pushed here, but `fetch`
        of the URL downloads them.
      without: pattern of file names that are not pulled.
    """

    def __init__(self, url: str, excluded: tuple[str, ...] = (), without: str = ""):
        self._excluded, self._without = excluded, without
        self.url = url.rstrip("/")
        self._fs, self._root = filesystem(self.url)
        name = self.url.rsplit("/", 1)[-1]
        copy = f"{self.url} without {without}" if without else self.url
        self.local = cache_folder() / hashlib.sha256(copy.encode()).hexdigest()[:16] / name
        self._sent: dict[str, Any] = {}
        _copies[str(self.local)] = self.url

    def pull(self) -> bool:
        """Brings the local copy up to date, removing files that are gone; returns whether the URL has any file."""
        previous = self._fetched_versions()
        remote_files = dict(self._list())
        for name, (path, version) in remote_files.items():
            target = self.local / name if name else self.local
            if previous.get(name) != version or not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic(target, shared=True) as part:
                    self._retry(lambda path=path, part=part: self._fs.get_file(path, str(part)))
        for name, target in self._files():
            if name not in remote_files:
                target.unlink()
        self._versions_file().parent.mkdir(parents=True, exist_ok=True)
        versions = {name: version for name, (_, version) in remote_files.items()}
        self._versions_file().write_text(json.dumps(versions), encoding="utf-8")
        self._sent = {name: stamp(target) for name, target in self._files()}
        return bool(remote_files)

    def push(self) -> None:
        """Uploads new and changed files, then the list of files, then deletes remote files that are gone locally."""
        files = dict(self._files())
        stamps = {name: stamp(target) for name, target in files.items()}
        changed = [name for name in files if self._sent.get(name) != stamps[name]]
        removed = [name for name in self._sent if name not in files]
        for name in changed:
            path = f"{self._root}/{name}" if name else self._root
            self._retry(lambda path=path, name=name: self._put(str(files[name]), path))
        if (changed or removed) and "" not in files:
            listing = json.dumps({"files": sorted(files), "beside": self._excluded})
            self._retry(lambda: self._fs.pipe_file(f"{self._root}/{FILES}", listing.encode()))
        for name in removed:
            with contextlib.suppress(FileNotFoundError):
                self._retry(lambda name=name: self._fs.rm_file(f"{self._root}/{name}"))
        self._sent = stamps

    def _put(self, source: str, path: str) -> None:
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._fs.put_file(source, path)

    def _list(self) -> Iterator[tuple[str, tuple[str, list[str]]]]:
        """(name below the URL, (path, version)) of every file of the listing; the name of a single file is ""."""
        self._fs.invalidate_cache()
        if self._retry(lambda: self._fs.isfile(self._root)):
            yield "", (self._root, file_version(self._fs.info(self._root)))
            return
        if not self._retry(lambda: self._fs.exists(self._root)):
            return
        below = self._retry(lambda: self._fs.find(self._root, detail=True))
        root = self._fs._strip_protocol(self._root).strip("/")
        by_name = {path.strip("/").removeprefix(root).strip("/"): (path, info) for path, info in below.items()}
        if FILES in by_name:
            path = by_name.pop(FILES)[0]
            listing = json.loads(self._retry(lambda: self._fs.cat_file(path)))
            files, excluded = set(listing["files"]), tuple(listing["beside"])
            by_name = {n: entry for n, entry in by_name.items() if n in files or n.split("/")[0] in excluded}
        for name, (path, info) in by_name.items():
            if name.split("/")[0] not in self._excluded and not fnmatch.fnmatchcase(name, self._without):
                yield name, (path, file_version(info))

    def _files(self) -> list[tuple[str, pathlib.Path]]:
        """Name and path of every local file."""
        if self.local.is_file():
            return [("", self.local)]
        paths = sorted(p for p in self.local.rglob("*") if p.is_file() and not p.name.endswith(PART))
        return [(p.relative_to(self.local).as_posix(), p) for p in paths]

    def _versions_file(self) -> pathlib.Path:
        return self.local.parent / "fetched.json"

    def _fetched_versions(self) -> dict[str, list[str]]:
        file = self._versions_file()
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def _retry(self, operation: Callable[[], Any]) -> Any:
        return retry(operation, self.url)


def retry(operation: Callable[[], Any], what: str, tries: int = TRIES, errors: MutableSequence[str] | None = None):
    """Calls `operation()`, with retries after network errors; exponential backoff with jitter.

    Args:
      what: name of the file or URL in messages.
      tries: attempts in all.
      errors: the type name of every error that was retried is appended here.

    Returns:
      the result of `operation`.

    Raises:
      UserError: nothing there, no access, or `tries` failures.
    """
    for number in range(1, tries + 1):
        try:
            return operation()
        except UserError:
            raise
        except FATAL as error:
            raise UserError(f"{what}: {type(error).__name__}: {error}") from error
        except Exception as error:  # every file system has its own types
            name = type(error).__name__
            if number == tries:
                raise UserError(f"{what}: {name}: {error} ({tries} tries)") from error
            if errors is not None:
                errors.append(name)
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
        raise UserError(f"{url}: {protocol}:// is not a supported protocol; use gs://, s3:// or a path") from error


def file_version(info: dict[str, Any]) -> list[str]:
    """Size and change markers of a remote file, which differ if its content does."""
    return [str(info.get("size")), *(f"{name}={info[name]}" for name in CHANGES if info.get(name) is not None)]


def stamp(path: pathlib.Path) -> tuple[int, int]:
    """Size and modification time of a local file."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
