"""File names of sound: what can be read, what cannot and must be converted, and the recordings below a folder."""

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator

from nlm_jax.core.files import printable

READABLE = (
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".amb", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2",
    ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist", ".voc",
)  # fmt: skip
"""Suffixes that libsndfile opens, lower case. It goes by the content: a misnamed file among these is read as well."""
UNREADABLE_SOUND = (
    ".m4a", ".m4b", ".m4r", ".mp4", ".aac", ".alac", ".wma", ".asf", ".webm", ".weba", ".mka", ".3gp", ".3g2", ".amr",
    ".awb", ".qcp", ".gsm", ".ape", ".wv", ".tta", ".tak", ".shn", ".ofr", ".mpc", ".spx", ".ac3", ".eac3", ".dts",
    ".dsf", ".dff", ".ra", ".rm", ".mov", ".avi", ".mkv", ".wac", ".w4v", ".sud",
)  # fmt: skip
"""Sound, or video with sound, that libsndfile does not open: users have such files, so skipping them is reported."""
LITTER = ("__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir", "lost+found")
"""Folders that operating systems leave on cards and in archives, besides those whose names start with a dot."""


def is_hidden(name: str) -> bool:
    """Whether the name of a file or folder (one part of a path) is hidden or an operating system's litter."""
    return name.startswith(".") or name in LITTER


def is_readable(name: str | os.PathLike) -> bool:
    """Whether a file has a suffix that libsndfile reads, in any case."""
    return _suffix(name) in READABLE


def is_unreadable_sound(name: str | os.PathLike) -> bool:
    """Whether a file has a suffix of sound that must be converted first."""
    return _suffix(name) in UNREADABLE_SOUND


def _suffix(name: str | os.PathLike) -> str:
    return pathlib.PurePath(name).suffix.lower()


def identity(file: str | os.PathLike) -> str:
    """One name for a file that is given relative, absolute or through a linked folder.

    A link in place of the file itself counts as a file of its own: stores that keep equal files once link to them.
    """
    folder, name = os.path.split(os.fspath(file))
    return os.path.join(_real(folder, os.getcwd()), name)


@functools.lru_cache(4096)
def _real(folder: str, _current: str) -> str:
    return os.path.realpath(folder)


@dataclasses.dataclass(frozen=True)
class Folder:
    """The sound below a folder."""

    recordings: list[pathlib.Path]
    """Files with a readable suffix, sorted; links that lead nowhere are among them, so that opening them names them."""
    unreadable: dict[str, int]
    """Suffix -> number of files that must be converted first."""
    closed: list[pathlib.Path]
    """Folders that could not be listed."""

    @classmethod
    def of(cls, root: pathlib.Path) -> "Folder":
        """Lists all of `root`, without hidden files and folders, through symbolic links but each folder once."""
        closed: list[pathlib.Path] = []
        files = list(files_below(root, closed))
        counts = collections.Counter(_suffix(file) for file in files if is_unreadable_sound(file))
        return cls(sorted(filter(is_readable, files)), dict(sorted(counts.items())), closed)

    @property
    def notices(self) -> list[str]:
        """One sentence for each kind of file that was not used."""
        closed = [f"{printable(path)}: the folder could not be opened" for path in self.closed]
        return unreadable_notices(self.unreadable) + closed


def unreadable_notices(counts: dict[str, int]) -> list[str]:
    """A sentence for each suffix of `Folder.unreadable`."""
    sentence = "{} {} {} not read: convert {} to wav or flac"
    words = (("file was", "it"), ("files were", "them"))
    return [
        sentence.format(count, suffix, were, them)
        for suffix, count in counts.items()
        for were, them in [words[count > 1]]
    ]


def files_below(root: pathlib.Path, closed: list[pathlib.Path] | None = None) -> Iterator[pathlib.Path]:
    """Every file below `root` that is not hidden, in no order worth relying on.

    Symbolic links to folders are followed after all real folders, so that a folder which can be reached both ways has
    its real name; a link to a folder that holds `root` is a loop and is left alone.

    Args:
      closed: collects folders that could not be listed.
    """
    seen: set[str] = set()
    above = {os.path.realpath(path) for path in (root, *pathlib.Path(os.path.realpath(root)).parents)}
    real, linked = [str(root)], []
    while real or linked:
        folder = real.pop() if real else linked.pop(0)
        place = os.path.realpath(folder)
        if place in seen or (place in above and folder != str(root)):
            continue
        seen.add(place)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            if closed is not None:
                closed.append(pathlib.Path(folder))
            continue
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if not _is_folder(entry):
                yield pathlib.Path(entry.path)
            elif entry.is_symlink():
                linked.append(entry.path)
            else:
                real.append(entry.path)


def _is_folder(entry: os.DirEntry) -> bool:
    """Not if it is a link to itself, which opening it will name."""
    try:
        return entry.is_dir()
    except OSError:
        return False
