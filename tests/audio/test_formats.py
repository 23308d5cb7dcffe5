"""Suffixes of sound, and the recordings below a folder: hidden files, links, loops, sound that must be converted."""

import os
import pathlib

import numpy as np
import pytest
import soundfile

from nlm_jax.audio import formats
from nlm_jax.audio.formats import Folder

CONTAINERS = {".wav": "WAV", ".rf64": "RF64", ".w64": "W64", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}
CONTAINERS |= {
    ".aiff": "AIFF",
    ".aif": "AIFF",
    ".au": "AU",
    ".snd": "AU",
    ".caf": "CAF",
    ".nist": "NIST",
    ".voc": "VOC",
}
CONTAINERS |= {".wave": "WAVEX", ".amb": "WAVEX", ".bwf": "WAV", ".sph": "NIST", ".aifc": "AIFF", ".oga": "OGG"}


def test_every_readable_suffix_is_one_that_libsndfile_opens(tmp_path):
    available = soundfile.available_formats()
    for suffix in formats.READABLE:
        kind = CONTAINERS.get(suffix, "MP3" if suffix == ".mp2" else "OGG")
        assert kind in available
        path = tmp_path / f"x{suffix}"
        subtype = "OPUS" if suffix == ".opus" else None
        soundfile.write(path, 0.1 * np.sin(np.arange(16_000)), 16_000, format=kind, subtype=subtype)
        assert soundfile.info(path).samplerate == 16_000
    assert not set(formats.READABLE) & set(formats.UNREADABLE_SOUND)


@pytest.mark.parametrize(
    ("name", "hidden"), [("._x.mp3", True), (".Trashes", True), ("__MACOSX", True), ("x.wav", False), ("_x", False)]
)
def test_hidden(name, hidden):
    assert formats.is_hidden(name) is hidden


@pytest.fixture
def tree(tmp_path):
    """Recordings in folders, with what cards and archives bring along."""
    root = tmp_path / "in"
    for name in ("b/x.WAV", "a/y.opus", "a/._y.opus", ".Trashes/z.wav", "__MACOSX/b/x.wav", "a/v.m4a", "a/w.M4A",
                 "b/u.wma", "b/notes.txt"):  # fmt: skip
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def test_what_is_below_a_folder(tree):
    folder = Folder.of(tree)
    assert folder.recordings == [tree / "a/y.opus", tree / "b/x.WAV"]
    assert folder.unreadable == {".m4a": 2, ".wma": 1}
    assert folder.notices == [
        "2 .m4a files were not read: convert them to wav or flac",
        "1 .wma file was not read: convert it to wav or flac",
    ]


def test_links_are_followed_once_and_loops_are_not(tree, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "far.wav").touch()
    (tree / "a/link").symlink_to(other)
    (other / "back").symlink_to(tree)
    (tree / "b/up").symlink_to("..")
    (tree / "b/out").symlink_to(tmp_path)  # holds the folder itself
    (tree / "b/same").symlink_to("../a")
    (tree / "b/gone.wav").symlink_to("nowhere.wav")
    assert Folder.of(tree).recordings == [
        tree / "a/link/far.wav", tree / "a/y.opus", tree / "b/gone.wav", tree / "b/x.WAV"
    ]  # fmt: skip


def test_a_hidden_folder_that_is_named_itself(tree):
    assert [f.name for f in Folder.of(tree / ".Trashes").recordings] == ["z.wav"]


def test_one_identity_for_several_ways_to_name_a_file(tree, monkeypatch):
    monkeypatch.chdir(tree)
    (tree / "linked").symlink_to("a")
    names = ["a/y.opus", tree / "a/y.opus", "b/../a/y.opus", "linked/y.opus", pathlib.Path("a/y.opus")]
    assert {formats.identity(name) for name in names} == {str(tree / "a/y.opus")}
    (tree / "a/twin.opus").symlink_to("y.opus")
    assert formats.identity("a/twin.opus") == str(tree / "a/twin.opus")


def test_names_that_are_not_utf_8(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).touch()
    assert [os.fsencode(f.name) for f in Folder.of(tmp_path).recordings] == [b"caf\xe9.wav"]


def test_a_circular_link_is_listed_like_a_dangling_one(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"a")
    (tmp_path / "self.wav").symlink_to("self.wav")
    assert [file.name for file in Folder.of(tmp_path).recordings] == ["a.wav", "self.wav"]
