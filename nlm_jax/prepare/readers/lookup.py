"""Finds the recording that a table names: as written, or by what became of that name on another computer.

Examples:
    the table has                      found
    C:\\rec\\site1\\DAWN.WAV           site1/dawn.wav     (drive, back-slashes, capitals)
    /media/card/site1/dawn.wav         site1/dawn.wav     (the end of the path that agrees)
    dawn                               site1/dawn.flac    (no suffix, or another one)
    dawn.wav                           an error if both site1/dawn.wav and site2/dawn.wav exist
"""

import collections
import pathlib
import re
import unicodedata
import urllib.parse
from collections.abc import Iterable, Sequence

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.prepare import audio_sources
from nlm_jax.prepare.readers.textfile import WINDOWS
from nlm_jax.prepare.rejects import Notice

AUDIO_FOLDERS = (".", "audio", "recordings", "wav", "wavs", "sounds", "clips", "train_audio", "data")
"""Folders next to that of a table in which recordings may be: `meta/esc50.csv`, `audio/1-100032-A-0.wav`."""
SURROGATES = re.compile("[\udc80-\udcff]+")
"""How Python writes bytes of a file name that are not UTF-8."""
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
DRIVE = re.compile(r"[A-Za-z]:(?=[\\/])")
TABLE_SUFFIXES = re.compile(
    r"(\.birdnet)?(([._-](table[._-]\d+|selection[._-]table|selections?|results|labels?|annotations?))|\.(r|csv|txt))*$",
    re.IGNORECASE,
)
"""Suffixes that programs append to the name of a recording for its table: `dawn.Table.1.selections`."""


class Lookup:
    """Finds recordings below the audio root, and in the folder of the table (or next to it).

    The folders are listed only if a name does not exist as it is written.
    """

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.by_name_alone: dict[str, str] = {}
        """Name in a table -> the only recording with its last part, which is in another folder."""
        self._trees: dict[pathlib.Path, dict[str, list[pathlib.Path]]] = {}
        self._results: dict[tuple[pathlib.Path, tuple[str, ...], bool], str | UserError] = {}

    def find(self, names: Sequence[str], folder: pathlib.Path, near: bool = False) -> str:
        """The name of a recording (`audio_sources.name_of`) by what a table calls it.

        Capitals, back-slashes, drives, composed letters, a missing or another suffix of a readable file, and folders of
        another computer do not matter.

        Args:
          names: what the table has, the fullest first, such as a path and a file name.
          folder: that of the table.
          near: search the folder of the table before the audio root: Raven's names have no folder.

        Returns:
          The name of the recording; the first of `names` if it does not exist.

        Raises:
          UserError: several recordings fit equally well; it names them.
        """
        key = (folder, tuple(names), near)
        if key not in self._results:
            try:
                self._results[key] = self._find(names, folder, near)
            except UserError as error:
                self._results[key] = error
        result = self._results[key]
        if isinstance(result, UserError):
            raise result
        return result

    def of_table(self, file: pathlib.Path) -> str:
        """The recording that a table or label track is about by its own name: `dawn.wav` for `dawn.selections.txt`.

        Raises:
          UserError: there is none in the folder of the table or below the audio root, or there are several.
        """
        stems = dict.fromkeys((file.stem, TABLE_SUFFIXES.sub("", file.stem)))
        for stem in stems:
            if formats.is_readable(stem) and (file.parent / stem).is_file():  # dawn.wav.txt
                return audio_sources.name_of(file.parent / stem, self.root)
            path = str(file.resolve().with_name(stem))
            recording = self.find([path, stem], file.parent, near=True)
            if recording != path:
                return recording
        raise UserError(f"{file}: no recording {list(stems)[-1]} with .wav, .flac or another audio suffix next to it")

    def notices(self) -> list[Notice]:
        """A notice if recordings are in other folders than a table says."""
        count = len(self.by_name_alone)
        first = next(iter(self.by_name_alone.items()), None)
        if first is None:
            return []
        were = "recordings were taken by their" if count > 1 else "recording was taken by its"
        return [Notice(f"{count} {were} name alone, such as {first[1]} for {first[0]}")]

    def _find(self, names: Sequence[str], folder: pathlib.Path, near: bool) -> str:
        folders = (folder, self.root) if near else (self.root, folder)
        paths = [parts(name) for name in names]
        return (
            self._by_path(names, paths, folders, folder)
            or self._by_last_part(names, paths, folders, folder)
            or self._next_to(paths, folder)
            or (paths[0][-1] if DRIVE.match(names[0]) else names[0])
        )

    def _by_path(
        self,
        names: Sequence[str],
        paths: Sequence[tuple[str, ...]],
        folders: Sequence[pathlib.Path],
        folder: pathlib.Path,
    ) -> str:
        """The recording with one of the names below one of the folders, or with the end of its path; "" without one."""
        for name, path in zip(names, paths, strict=True):
            forms = (name, pathlib.Path(*path))
            if file := _first_recording(parent / form for parent in folders for form in forms):
                return audio_sources.name_of(file, self.root)
            if len(path) > 1:  # the end of a path says more than a file name that exists as well
                for tree in dict.fromkeys(folders):
                    if file := self._best_match(tree, path, folder, least=2):
                        return audio_sources.name_of(file, self.root)
        return ""

    def _by_last_part(
        self,
        names: Sequence[str],
        paths: Sequence[tuple[str, ...]],
        folders: Sequence[pathlib.Path],
        folder: pathlib.Path,
    ) -> str:
        """The recording whose file name is the last part of one of the names; "" without one.

        A relative path, as it is written, must agree in more than that, unless the recording is right in a folder.
        """
        for name, path in zip(names, paths, strict=True):
            for tree in dict.fromkeys(folders):
                file = self._best_match(tree, path, folder, least=1)
                in_folder = file is not None and file.parent in (folder, self.root)
                if file and (in_folder or len(path) == 1 or path != tuple(name.split("/"))):
                    recording = audio_sources.name_of(file, self.root)
                    if len(path) > 1 and not in_folder:
                        self.by_name_alone.setdefault(name, recording)
                    return recording
        return ""

    def _next_to(self, paths: Sequence[tuple[str, ...]], folder: pathlib.Path) -> str:
        """The recording in one of the usual folders (`AUDIO_FOLDERS`) next to that of the table; "" without one."""
        above = folder.resolve().parent
        file = _first_recording(above.joinpath(name, *path) for path in paths for name in AUDIO_FOLDERS)
        return audio_sources.name_of(file, self.root) if file else ""

    def _best_match(
        self, tree: pathlib.Path, path: Sequence[str], folder: pathlib.Path, least: int
    ) -> pathlib.Path | None:
        """The file below a folder whose last parts agree best with those of a path.

        Args:
          tree: the folder.
          path: the parts of the path.
          folder: that of the table; between files that agree equally, one in it is preferred.
          least: parts that must agree.

        Raises:
          UserError: several files agree equally well.
        """
        keys = (comparable(path[-1]), _stem(path[-1]))
        for key in keys if formats.is_readable(path[-1]) else reversed(keys):
            scored = [(_agreement(file, path), file) for file in self._tree(tree).get(key, [])]
            most = max((count for count, _ in scored), default=0)
            if most < least:
                continue
            best = [file for count, file in scored if count == most]
            best = [file for file in best if file.name == path[-1]] or best
            best = [file for file in best if file.parent == folder] or best
            if len(best) > 1:
                shown = " and ".join(str(file) for file in best[:2])
                raise UserError(
                    f"{'/'.join(path)}: {len(best)} recordings fit, such as {shown}; write more of the path, or rename"
                )
            return best[0]
        return None

    def _tree(self, folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
        """Name, with and without suffix -> the readable files below a folder; unreadable sound if no readable file has
        the name."""
        if folder not in self._trees:
            files = sorted(formats.files_below(folder)) if folder.is_dir() else []
            readable = _by_name(filter(formats.is_readable, files))
            self._trees[folder] = {**_by_name(filter(formats.is_unreadable_sound, files)), **readable}
        return self._trees[folder]


def recordings_by_name(root: pathlib.Path) -> dict[str, str]:
    """File name, and stem, in lower case -> path from `root`, of every recording below it."""
    paths: dict[str, str] = {}
    for file in formats.Folder.of(root).recordings if root.is_dir() else ():
        path = file.relative_to(root).as_posix()
        paths.setdefault(file.name.lower(), path)
        paths.setdefault(file.stem.lower(), path)
    return paths


def parts(name: str) -> tuple[str, ...]:
    """The parts of a path of Windows, macOS or Linux, or of an address, without drive and root."""
    path = name.strip()
    if (url := URL.match(path)) is not None:
        path = urllib.parse.unquote(path[url.end() :])
    path = DRIVE.sub("", path).replace("\\", "/")
    return tuple(part for part in path.split("/") if part not in ("", ".")) or (name,)


def comparable(name: str) -> str:
    """A name as it is compared: composed letters, no capitals; bytes that are not UTF-8 are read as Windows-1252."""
    return unicodedata.normalize("NFC", SURROGATES.sub(_decoded, name)).casefold()


def _decoded(match: re.Match[str]) -> str:
    return bytes(ord(byte) - 0xDC00 for byte in match[0]).decode(WINDOWS, "replace")


def _stem(name: str) -> str:
    """A name without a suffix of sound; other suffixes are part of the name (`XC12.v2`)."""
    has_suffix = formats.is_readable(name) or formats.is_unreadable_sound(name)
    return comparable(name.rpartition(".")[0] if has_suffix else name)


def _by_name(files: Iterable[pathlib.Path]) -> dict[str, list[pathlib.Path]]:
    paths: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    for file in files:
        for key in {comparable(file.name), _stem(file.name)}:
            paths[key].append(file)
    return paths


def _agreement(file: pathlib.Path, path: Sequence[str]) -> int:
    """How many of the last parts of two paths agree; the file's own name counts as one."""
    count = 1
    for one, other in zip(reversed(file.resolve().parts[:-1]), reversed(path[:-1]), strict=False):
        if comparable(one) != comparable(other):
            break
        count += 1
    return count


def _first_recording(paths: Iterable[pathlib.Path]) -> pathlib.Path | None:
    """The first that is an existing file with a readable suffix."""
    return next((path for path in paths if formats.is_readable(path) and _is_file(path)), None)


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False
