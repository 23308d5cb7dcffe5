"""A cache of files, bounded in bytes and shared by processes; the least recently used file is evicted first."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator

from nlm_jax.core.files import PART, atomic

LOCKS = 64
"""Number of lock files; keys are hashed onto them."""
TOUCH = 60.0
"""Minimum seconds between two updates of a file's time of last use."""


class FileCache:
    """Files below `folder`, `limit` bytes in total; a single larger file is cached alone."""

    def __init__(self, folder: pathlib.Path, limit: int):
        self.folder, self.limit = folder, limit

    def path(self, key: str) -> pathlib.Path:
        """Path of the file of `key`, whether or not it exists."""
        return self.folder / "files" / hashlib.sha256(key.encode()).hexdigest()[:2] / key

    def use(self, key: str) -> bool:
        """Whether the file of `key` exists; marks it as used now."""
        path = self.path(key)
        try:
            now = time.time()
            if now - path.stat().st_mtime > TOUCH:
                os.utime(path, (now, now))
        except FileNotFoundError:
            return False
        return True

    def get(self, key: str, fetch: Callable[[pathlib.Path], None]) -> pathlib.Path:
        """The file of `key`; `fetch(path)` writes it on a miss. One process fetches, the others wait."""
        path = self.path(key)
        if self.use(key):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        number = int(hashlib.sha256(key.encode()).hexdigest(), 16) % LOCKS
        with self._locked(f"{number:02d}"):
            if not self.use(key):
                with atomic(path, shared=True) as part:
                    fetch(part)
        with self._locked("evict"):
            self._evict(path)
        return path

    def _evict(self, new: pathlib.Path) -> None:
        """Removes files until the rest is within the limit; never `new`. A file that is open stays readable."""
        entries = []
        for path in (self.folder / "files").glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if path.name.endswith(PART):
                    if time.time() - stat.st_mtime > 24 * 3600:  # left by a killed process
                        path.unlink()
                elif path != new:
                    entries.append((stat.st_mtime, stat.st_size, path))
        left = self.limit - (new.stat().st_size if new.exists() else 0)
        for _, size, path in sorted(entries, reverse=True):
            left -= size
            if left < 0:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Holds a lock shared by processes and threads; the system releases it if the process is killed."""
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
