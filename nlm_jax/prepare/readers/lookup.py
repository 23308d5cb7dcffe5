"""The recording that a table means: under the name it writes, or under what that name became on another computer."""

import collections
import pathlib
import re
import unicodedata
import urllib.parse
from collections.abc import Sequence

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.prepare import audio_sources
from nlm_jax.prepare.readers.textfile import WINDOWS
from nlm_jax.prepare.rejects import Notice

BESIDE = (".", "audio", "recordings", "wav", "wavs", "sounds", "clips", "train_audio", "data")
"""Folders beside that of a table in which recordings lie: `meta/esc50.csv`, `audio/1-100032-A-0.wav`."""
BYTES = re.compile("[\udc80-\udcff]+")
"""How Python writes bytes of a file name that are no UTF-8."""
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
DRIVE = re.compile(r"[A-Za-z]:(?=[\\/])")


class Lookup:
    """Finds recordings below the audio root, and beside the table (or above it) that names them.

    The folders are listed only if a name is not there as it is written.
    """

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.by_name_alone: dict[str, str] = {}
        """Names that lead elsewhere, and the one recording below that has their last part."""
        self._trees: dict[pathlib.Path, dict[str, list[pathlib.Path]]] = {}
        self._found: dict[tuple[pathlib.Path, tuple[str, ...], bool], str | UserError] = {}

    def find(self, names: Sequence[str], beside: pathlib.Path, near: bool = False) -> str:
        """The name of the recording (`recordings.name_of`) that a table in the folder `beside` calls by `names`.

        Capitals, back-slashes, drives, composed letters, a missing or another suffix of a readable file, and folders of
        another computer do not matter. A recording that is not there keeps the first of its names.

        Args:
          names: what the table has, the fullest first, such as a path and a file name.
          beside: the folder of the table.
          near: look beside the table before the audio root, as Raven's names without a folder ask for.

        Raises:
          UserError: several recordings fit equally well; it names them.
        """
        key = (beside, tuple(names), near)
        if key not in self._found:
            try:
                self._found[key] = self._find(names, beside, near)
            except UserError as error:
                self._found[key] = error
        result = self._found[key]
        if isinstance(result, UserError):
            raise result
        return result

    def notices(self) -> list[Notice]:
        """That recordings lie in other folders than a table says."""
        count = len(self.by_name_alone)
        first = next(iter(self.by_name_alone.items()), None)
        if first is None:
            return []
        were = "recordings were taken by their" if count > 1 else "recording was taken by its"
        return [Notice(f"{count} {were} name alone, such as {first[1]} for {first[0]}")]

    def _find(self, names: Sequence[str], beside: pathlib.Path, near: bool) -> str:
        folders = (beside, self.root) if near else (self.root, beside)
        written = [parts(name) for name in names]
        trees = list(dict.fromkeys(folders))
        for name, own in zip(names, written, strict=True):
            for path in (folder / form for folder in folders for form in (name, pathlib.Path(*own))):
                if formats.is_readable(path) and _is_file(path):
                    return audio_sources.name_of(path, self.root)
            if len(own) > 1:  # the end of a path says more than a file name that is there as well
                for tree in trees:
                    if path := self._best(tree, own, beside, least=2):
                        return audio_sources.name_of(path, self.root)
        for name, own in zip(names, written, strict=True):
            for tree in trees:
                path = self._best(tree, own, beside, least=1)
                flat = path and path.parent in (beside, self.root)
                if path and (flat or len(own) == 1 or own != tuple(name.split("/"))):
                    if len(own) > 1 and not flat:
                        self.by_name_alone.setdefault(name, audio_sources.name_of(path, self.root))
                    return audio_sources.name_of(path, self.root)
        above = beside.resolve().parent
        for own in written:
            for path in (above.joinpath(folder, *own) for folder in BESIDE):
                if formats.is_readable(path) and _is_file(path):
                    return audio_sources.name_of(path, self.root)
        return written[0][-1] if DRIVE.match(names[0]) else names[0]

    def _best(self, tree: pathlib.Path, own: Sequence[str], beside: pathlib.Path, least: int) -> pathlib.Path | None:
        """The file below `tree` of which the last parts, at least `least`, agree best with `own`.

        Raises:
          UserError: several do so equally well.
        """
        keys = (plain(own[-1]), _stem(own[-1]))
        for key in keys if formats.is_readable(own[-1]) else reversed(keys):
            every = [(_agreement(path, own), path) for path in self._tree(tree).get(key, [])]
            most = max((count for count, _ in every), default=0)
            if most < least:
                continue
            best = [path for count, path in every if count == most]
            best = [path for path in best if path.name == own[-1]] or best
            best = [path for path in best if path.parent == beside] or best
            if len(best) > 1:
                shown = " and ".join(str(path) for path in best[:2])
                raise UserError(
                    f"{'/'.join(own)}: {len(best)} recordings fit, such as {shown}; write more of the path, or rename"
                )
            return best[0]
        return None

    def _tree(self, folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
        """Name, with and without suffix -> the readable files below a folder; other sound if no readable one has it."""
        if folder in self._trees:
            return self._trees[folder]
        paths: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
        every = sorted(formats.files_below(folder)) if folder.is_dir() else []
        for path in filter(formats.is_readable, every):
            for key in {plain(path.name), _stem(path.name)}:
                paths[key].append(path)
        other: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
        for path in filter(formats.is_unreadable_sound, every):
            for key in {plain(path.name), _stem(path.name)}:
                other[key].append(path)
        return self._trees.setdefault(folder, {**other, **paths})


def parts(name: str) -> tuple[str, ...]:
    """The parts of a path as a table of Windows, macOS or Linux writes it, without drive and root."""
    bare = name.strip()
    if (url := URL.match(bare)) is not None:
        bare = urllib.parse.unquote(bare[url.end() :])
    bare = DRIVE.sub("", bare).replace("\\", "/")
    return tuple(part for part in bare.split("/") if part not in ("", ".")) or (name,)


def plain(name: str) -> str:
    """A name as it is compared: composed letters, no capitals; bytes that are no UTF-8 are taken for Windows-1252."""
    return unicodedata.normalize("NFC", BYTES.sub(_letters, name)).casefold()


def _letters(match: re.Match[str]) -> str:
    return bytes(ord(byte) - 0xDC00 for byte in match[0]).decode(WINDOWS, "replace")


def _stem(name: str) -> str:
    """A name without a suffix of sound; others are part of the name (`XC12.v2`)."""
    has_suffix = formats.is_readable(name) or formats.is_unreadable_sound(name)
    return plain(name.rpartition(".")[0] if has_suffix else name)


def _agreement(path: pathlib.Path, own: Sequence[str]) -> int:
    """How many of the last parts of two paths agree; the file's own name counts as one."""
    count = 1
    for one, other in zip(reversed(path.resolve().parts[:-1]), reversed(own[:-1]), strict=False):
        if plain(one) != plain(other):
            break
        count += 1
    return count


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False
