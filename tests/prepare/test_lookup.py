"""Recordings under the names that tables of other computers give them."""

import pathlib
import unicodedata

import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.prepare.readers.lookup import Lookup


@pytest.fixture
def lookup(tmp_path):
    """A tree of empty files: names decide."""

    def make(*names, root="audio"):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "ann").mkdir(exist_ok=True)
        return Lookup(tmp_path / root)

    return make


def find(lookup, *names, folder="ann", near=False):
    return lookup.find(list(names), lookup.root.parent / folder, near)


NFC = "Größe ñandú.wav"


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        (["audio/a.wav"], "a.wav", "a.wav"),
        (["audio/c.WAV"], "C.wav", "c.WAV"),
        (["audio/s1/b.wav"], "s1\\b.wav", "s1/b.wav"),
        (["audio/s1/b.wav"], ".\\S1\\B.WAV", "s1/b.wav"),
        (["audio/" + unicodedata.normalize("NFD", NFC)], NFC, unicodedata.normalize("NFD", NFC)),
        (["audio/" + NFC], unicodedata.normalize("NFD", NFC), NFC),
        (["audio/dawn.wav"], "dawn", "dawn.wav"),
        (["audio/XC12.v2.wav"], "XC12.v2", "XC12.v2.wav"),
        (["audio/rec.flac"], "rec.wav", "rec.flac"),
        (["audio/s1/rec.flac", "audio/s2/rec.flac"], "s2/rec.wav", "s2/rec.flac"),
        (["audio/s1/rec.wav", "audio/s2/rec.wav"], "C:\\data\\s2\\rec.wav", "s2/rec.wav"),
        (["audio/rec.wav", "audio/s2/rec.wav"], "D:\\data\\s2\\rec.wav", "s2/rec.wav"),
        (["audio/s1/rec.wav", "audio/s2/rec.wav"], "/Volumes/card/s1/rec.wav", "s1/rec.wav"),
        (["audio/rec.wav"], "/Volumes/card/x/rec.wav", "rec.wav"),
        (["audio/deep/er/rec.wav"], "rec.wav", "deep/er/rec.wav"),
        (["audio/s1/my rec.wav"], "file:///C:/data/s1/my%20rec.wav", "s1/my rec.wav"),
        (["audio/s1/rec#1.wav"], "https://example.org/s1/rec%231.wav", "s1/rec#1.wav"),
        (["audio/x.m4a"], "X.m4a", "x.m4a"),
        (["audio/x.m4a", "audio/x.wav"], "x.m4a", "x.wav"),  # converted
        (["audio/.hidden/x.wav"], "x.wav", "x.wav"),  # not there: as it is written
        (["audio/s1/rec.wav"], "s2/rec.wav", "s2/rec.wav"),  # another site's recording of that name
        (["audio/rec.wav"], "other.wav", "other.wav"),
    ],
)
def test_names(lookup, files, name, expected):
    assert find(lookup(*files), name) == expected


def test_next_to_the_table_and_above_it(lookup):
    finder = lookup("audio/rec.wav", "ann/rec.wav", "ann/own.wav")
    assert find(finder, "rec.wav") == "rec.wav"  # relative to the audio root, as documented
    assert find(finder, "rec.wav", near=True) == str(finder.root.parent / "ann" / "rec.wav")
    assert find(finder, "own.wav") == str(finder.root.parent / "ann" / "own.wav")
    finder = lookup("esc/audio/1.wav", "esc/meta/esc50.csv", "other/audio/2.wav", root="esc/meta")
    assert find(finder, "1.wav", folder="meta") == str(finder.root.parent / "audio" / "1.wav")
    assert find(finder, "2.wav", folder="meta") == "2.wav"  # folders that have nothing to do with the table


@pytest.mark.parametrize("name", ["rec.wav", "rec", "REC.wav", "rec.mp3", "s3/rec.wav", "E:\\s3\\rec.wav"])
def test_several_recordings_of_one_name(lookup, name):
    finder = lookup("audio/s1/rec.wav", "audio/s2/rec.wav")
    with pytest.raises(UserError, match=r"2 recordings fit, such as .*s1/rec\.wav and .*s2/rec\.wav"):
        find(finder, name)


def test_several_suffixes(lookup):
    finder = lookup("audio/rec.flac", "audio/rec.mp3", "audio/two.wav", "audio/two.mp3")
    for name in ("rec.wav", "two"):
        with pytest.raises(UserError, match="2 recordings fit"):
            find(finder, name)
    assert find(finder, "two.mp3") == "two.mp3"


def test_matched_by_name_alone(lookup):
    finder = lookup("audio/deep/rec.wav")
    assert find(finder, "C:\\field\\rec.wav") == "deep/rec.wav"
    (notice,) = finder.notices()
    assert "deep/rec.wav for C:\\field\\rec.wav" in notice.text


def test_through_links_without_loops(lookup, tmp_path):
    finder = lookup("disk/2024/rec.wav", "audio/a.wav")
    pathlib.Path(tmp_path / "audio" / "linked").symlink_to(tmp_path / "disk" / "2024")
    pathlib.Path(tmp_path / "audio" / "loop").symlink_to(tmp_path / "audio")
    assert find(finder, "rec.wav") == "linked/rec.wav"
    assert find(finder, "2024/rec.wav") == "linked/rec.wav"


@pytest.mark.parametrize("name", ["né.wav", "NÉ.wav", "ne\u0301"])
def test_names_that_are_no_utf8(lookup, name):
    finder = lookup("audio/n\udce9.wav", "audio/\udc81x.wav")
    assert find(finder, name) == "n\udce9.wav"
    assert find(finder, "\ud83d.wav") == "\ud83d.wav"  # letters that no file can have
