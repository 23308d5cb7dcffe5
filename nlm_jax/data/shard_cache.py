"""Prepared directories in a bucket: the index is downloaded whole, shards one by one when a record of them is read."""

import dataclasses
import functools
import hashlib
import logging
import pathlib

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.core.filecache import FileCache
from nlm_jax.data import shards

log = logging.getLogger(__name__)
SHARDS = "*.arrayrecord"
TRIES = 8
"""Attempts to download a shard: they bridge about two minutes without network."""
CACHE_GB = 50.0


@dataclasses.dataclass(frozen=True)
class RemoteShards:
    """The shards of a prepared directory at a URL, cached on this machine."""

    url: str
    digests: dict[str, str] = dataclasses.field(hash=False)
    """SHA-256 of its files by name, from the manifest."""
    cache: FileCache
    retried: list[str] = dataclasses.field(default_factory=list, hash=False, compare=False)
    """Names of the errors after which a transfer was retried."""

    @classmethod
    def open(cls, url: str, digests: dict[str, str], cache_gb: float) -> "RemoteShards":
        """Shards at `url`, in the cache that all remote directories share.

        Args:
          url: of the prepared directory.
          digests: SHA-256 of its files by name.
          cache_gb: size of the whole cache in 10^9 bytes.
        """
        return cls(url, digests, FileCache(remote.cache_folder() / "shards", round(cache_gb * 1e9)))

    def _key(self, name: str) -> str:
        digest = self.digests.get(name, "")[:16]
        return f"{hashlib.sha256(self.url.encode()).hexdigest()[:12]}-{digest}-{name}"

    def stamp(self, name: str) -> int | None:
        """Inode of the local copy of a shard; None if there is no copy."""
        try:
            return self.cache.path(self._key(name)).stat().st_ino
        except FileNotFoundError:
            return None

    def use(self, name: str) -> bool:
        """Whether a shard has a local copy; marks it as used now."""
        return self.cache.use(self._key(name))

    def fetch(self, name: str) -> pathlib.Path:
        """The local copy of a shard, downloaded if necessary.

        Raises:
          UserError: the shard does not exist, may not be read, or every attempt failed.
        """
        return self.cache.get(self._key(name), functools.partial(self._download, name))

    def _download(self, name: str, path: pathlib.Path) -> None:
        url, expected, previous = f"{self.url}/{name}", self.digests.get(name), ""
        fs, root = remote.filesystem(self.url)
        while True:
            remote.retry(lambda: fs.get_file(f"{root}/{name}", str(path)), url, TRIES, self.retried)
            digest = shards.file_digest(path)
            if expected in (None, digest):
                return
            if digest == previous:  # the same content twice: damaged in the bucket, though some records may be intact
                log.warning("%s: differs from its digest in the manifest; corrupt examples will be replaced", url)
                return
            previous = digest


def local_index(directory: str | pathlib.Path) -> pathlib.Path:
    """A prepared directory itself, or a local copy of one at a URL without its shards.

    Raises:
      UserError: there is nothing at the URL.
    """
    if not remote.is_remote(directory):
        return pathlib.Path(directory)
    mirror = remote.Mirror(str(directory), without=SHARDS)
    if not mirror.pull():
        raise UserError(f"{directory}: no such folder; data directories are written by nlm prepare")
    return mirror.local
