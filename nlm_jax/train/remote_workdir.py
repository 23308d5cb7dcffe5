"""A run whose --workdir is a bucket: what is small goes through a local mirror, checkpoints go with it or directly."""

import dataclasses

import jax

from nlm_jax.convert.run_file import CHECKPOINTS
from nlm_jax.core.errors import UserError
from nlm_jax.core.remote import Mirror

DIRECT = ("gs", "s3")
"""What Orbax writes to by itself."""


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Where a run belongs whose files are in `mirror.local`."""

    mirror: Mirror
    direct: str = ""
    """URL to which Orbax writes the checkpoints itself; "" where they go through the mirror."""

    def deliver(self) -> None:
        """Sends what is new; the first process does, which alone writes it."""
        if jax.process_index() == 0:
            self.mirror.push()


def bucket(url: str, processes: int) -> Bucket:
    """The bucket at `url`, for so many processes.

    One process writes checkpoints to its own disk and sends them. Of several, each holds a part of the arrays, so Orbax
    writes to the bucket directly, which it can for some kinds only.

    Raises:
      UserError: several processes, and a kind of bucket that Orbax cannot write to; or no access.
    """
    if processes == 1:
        return Bucket(Mirror(url))
    protocol = url.partition("://")[0]
    if protocol not in DIRECT:
        raise UserError(
            f"--workdir={url}: several processes can write to gs:// and s3:// only; mount the bucket and give the "
            "mounted path"
        )
    return Bucket(Mirror(url, beside=(CHECKPOINTS,)), url)
