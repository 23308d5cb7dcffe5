"""Tar files by pattern, and their members at random: headers are read once, then each member is a seek and a read."""

import functools
import glob
import itertools
import logging
import pathlib
import re
import tarfile

from nlm_jax.core.errors import UserError

log = logging.getLogger(__name__)
MAX_OPEN = 64
"""Number of tar files whose table of contents is cached."""


def matching(path: pathlib.Path) -> list[pathlib.Path]:
    """The tars that a path stands for, in order.

    Raises:
      UserError: none is there.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.tar"))
    else:
        names = [str(path)] if path.is_file() else braces(str(path))
        files = [
            pathlib.Path(n) for name in names for n in (sorted(glob.glob(name)) if glob.has_magic(name) else [name])
        ]
    if not files:
        raise UserError(f"{path}: no tar files there")
    return files


def braces(pattern: str) -> list[str]:
    """`a-{00..02}.tar` -> a-00.tar, a-01.tar, a-02.tar; also `{train,valid}`."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    first, dots, last = match[1].partition("..")
    if dots and first.isdigit() and last.isdigit():
        inner = [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    else:
        inner = match[1].split(",")
    heads = [pattern[: match.start()] + part for part in inner]
    return [head + tail for head, tail in itertools.product(heads, braces(pattern[match.end() :]))]


def members(file: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Name -> (offset, bytes) of every file in a tar, in its order; of a name that is there twice the last counts.

    Raises:
      UserError: no such file, or none that is a plain tar.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    stat = file.stat()
    return _members(file, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(MAX_OPEN)
def _members(file: pathlib.Path, changed: int, size: int) -> dict[str, tuple[int, int]]:
    table: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(file, "r:") as opened:
            for member in opened:
                if member.isreg():
                    table[member.name] = member.offset_data, member.size
    except tarfile.TarError as error:
        if not table:
            raise UserError(f"{file}: not a plain tar file ({error}); decompress it, or fetch it again") from error
        log.warning("%s: is cut off (%s); what is whole in it is used, fetch it again for the rest", file, error)
    return {name: place for name, place in table.items() if sum(place) <= size}


def read(file: pathlib.Path, name: str) -> bytes:
    """The bytes of a member. Safe in threads and processes: nothing is shared but the table of contents.

    Raises:
      UserError: it is not in the file.
    """
    place = members(file).get(name)
    if place is None:
        raise UserError(f"{file}: holds no member {name}")
    with file.open("rb") as opened:
        opened.seek(place[0])
        return opened.read(place[1])
