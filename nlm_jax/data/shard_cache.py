"""Where a prepared directory is: on this machine, or in a bucket, whose index is fetched whole and shards when read."""

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
"""Of one shard: about two minutes of a network that is away."""
CACHE_GB = 50.0


@dataclasses.dataclass(frozen=True)
class Bucket:
    """The shards of a prepared directory at a URL."""

    url: str
    digests: dict[str, str] = dataclasses.field(hash=False)
    """SHA-256 of its files by name, as the manifest has them."""
    cache: FileCache
    again: list[str] = dataclasses.field(default_factory=list, hash=False, compare=False)
    """Names of the errors after which a transfer was tried again."""

    def _key(self, name: str) -> str:
        digest = self.digests.get(name, "")[:16]
        return f"{hashlib.sha256(self.url.encode()).hexdigest()[:12]}-{digest}-{name}"

    def stamp(self, name: str) -> int | None:
        """Number of the local copy of a shard; None where there is none."""
        try:
            return self.cache.path(self._key(name)).stat().st_ino
        except FileNotFoundError:
            return None

    def use(self, name: str) -> bool:
        """Whether there is a local copy; it counts as used now."""
        return self.cache.use(self._key(name))

    def fetch(self, name: str) -> pathlib.Path:
        """The local copy of a shard.

        Raises:
          UserError: it is not there, may not be read, or the network failed in every try.
        """
        return self.cache.get(self._key(name), functools.partial(self._download, name))

    def _download(self, name: str, path: pathlib.Path) -> None:
        url, wrong = f"{self.url}/{name}", ""
        fs, root = remote.filesystem(self.url)
        while True:
            remote.retry(lambda: fs.get_file(f"{root}/{name}", str(path)), url, TRIES, self.again)
            found, wanted = shards.file_digest(path), self.digests.get(name)
            if wanted in (None, found):
                return
            if found == wrong:  # the same twice: it is so there, and single records of it may still be good
                log.warning("%s: not the file its manifest names; damaged examples will be replaced", url)
                return
            wrong = found


def bucket(url: str, digests: dict[str, str], cache_gb: float) -> Bucket:
    """Shards at `url`, with room for `cache_gb` of them here, together with those of other buckets."""
    return Bucket(url, digests, FileCache(remote.cache_folder() / "shards", round(cache_gb * 1e9)))


def index(directory: str | pathlib.Path) -> pathlib.Path:
    """A prepared directory; of one at a URL a local copy of all but its shards.

    Raises:
      UserError: nothing is there.
    """
    if not remote.is_remote(directory):
        return pathlib.Path(directory)
    mirror = remote.Mirror(str(directory), without=SHARDS)
    if not mirror.pull():
        raise UserError(f"{directory}: no such folder; data directories are written by nlm prepare")
    return mirror.local
