"""A run whose --workdir is in a bucket: small files go through a local mirror, checkpoints too or directly."""

import dataclasses

import jax

from nlm_jax.convert.run_file import CHECKPOINTS
from nlm_jax.core.errors import UserError
from nlm_jax.core.remote import Mirror

DIRECT = ("gs", "s3")
"""Protocols of buckets that Orbax can write to."""


@dataclasses.dataclass(frozen=True)
class RemoteWorkdir:
    """The bucket of a run, whose files are mirrored in `mirror.local`."""

    mirror: Mirror
    direct: str = ""
    """URL to which Orbax writes the checkpoints directly; "" if they go through the mirror."""

    def upload(self) -> None:
        """Uploads new and changed files. Only the first process does, which alone writes them."""
        if jax.process_index() == 0:
            self.mirror.push()


def open_remote_workdir(url: str, processes: int) -> RemoteWorkdir:
    """The run directory at `url`, for a job of `processes` processes.

    A single process writes checkpoints to its own disk and uploads them. With several, each process holds a part of the
    arrays, so Orbax writes to the bucket directly, which only some kinds of bucket allow.

    Raises:
      UserError: several processes and a kind of bucket that Orbax cannot write to, or no access.
    """
    if processes == 1:
        return RemoteWorkdir(Mirror(url))
    protocol = url.partition("://")[0]
    if protocol not in DIRECT:
        raise UserError(
            f"--workdir={url}: several processes can write to gs:// and s3:// only; mount the bucket and give the "
            "mounted path"
        )
    return RemoteWorkdir(Mirror(url, excluded=(CHECKPOINTS,)), url)
