"""Which format annotations are read as, and what is said of what is not used."""

import pytest
from annotation_tools import RAVEN, read, sound, write

from nlm_jax.core.errors import UserError
from nlm_jax.prepare.readers import registry


@pytest.fixture
def classes(tmp_path):
    """Two classes of three recordings."""
    for name in ("robin/0", "robin/1", "robin/2", "wren/0", "wren/1", "wren/2"):
        sound(tmp_path / "in" / f"{name}.wav", 0.5)
    return tmp_path / "in"


STRAY = {
    "audacity": ("wren/0.txt", ["0.1\t0.3\tsong"]),
    "raven": ("wren/0.Table.1.selections.txt", [f"{RAVEN}\tSpecies", "1\tS\t1\t0.1\t0.3\t0\t1\tsong"]),
    "table": ("results.csv", ["file,start,end,label", "wren/0.wav,0.1,0.3,song"]),
}


@pytest.mark.parametrize("kind", STRAY)
def test_a_stray_table_does_not_replace_class_folders(classes, kind):
    write(classes, *STRAY[kind])
    with pytest.raises(UserError, match=rf"--format {kind}\) and .*--format folder\); 1 of 6 recordings"):
        read(classes)
    assert len(read(classes, "folder")[0]) == 6
    pairs, report = read(classes, kind)
    assert pairs == [("wren/0.wav#t=0.1,0.3", "song")]
    assert "5 recordings below have no label" in report.read_as


def test_tables_for_every_recording_are_read(classes):
    for n in range(3):
        write(classes, f"robin/{n}.txt", ["0.1\t0.3\tsong"])
    pairs, report = read(classes)
    assert len(pairs) == 3
    assert report.read_as == "read as: Audacity tracks (3 files, 3 labels); 3 recordings below have no label"


def test_two_kinds_of_labels(tmp_path):
    write(tmp_path, "a.txt", ["0.1\t0.3\tsong"], "a.wav")
    write(tmp_path, "b.Table.1.selections.txt", [f"{RAVEN}\tSpecies", "1\tS\t1\t0.1\t0.3\t0\t1\tsong"], "b.wav")
    with pytest.raises(UserError, match=r"Audacity tracks \(--format audacity\) and Raven selection tables"):
        read(tmp_path)
    write(tmp_path, "labels.csv", ["file,label", "a.wav,Owl"])  # somebody's own list counts, and the rest is said
    pairs, report = read(tmp_path)
    assert pairs == [("a.wav", "Owl")]
    assert "read as: labels.csv (1 file, 1 label); 1 recording below has no label" in report.read_as
    assert "b.Table.1.selections.txt: not used (--format raven)" in report.read_as


def test_what_is_not_used_is_named(classes):
    write(classes, "sites.csv", ["site,lat", "1,2"])
    (classes / "more.zip").write_bytes(b"PK")
    (classes / "wren" / "x.m4a").touch()
    sound(classes / "top.wav", 0.5)
    pairs, report = read(classes)
    assert len(pairs) == 6
    assert report.read_as == (
        "read as: a folder for each class (6 labels); 1 recording below has no label; "
        "sites.csv: not understood (columns site, lat); more.zip: not read; unpack it and give the folder"
    )
    assert report.notices == ("1 .m4a file was not read: convert it to wav or flac",)
    table = write(classes, "t.csv", ["file,label,site,Low Freq (Hz)", "top.wav,Owl,me,1"])
    assert read(table)[1].read_as.endswith("not used: columns low freq (hz), site")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.csv",
            "site,observer\n1,me\n",
            r"x\.csv: no reader understands it; its columns are site, observer\. Labels need",
        ),
        ("x.csv", "site,species\n1,Owl\n", "has labels in 'species', but no column that names their recording"),
        ("x.csv", "file,site\na.wav,1\n", "names recordings in 'file', but has no column of labels"),
        ("x.csv", "", "has no header line"),
        ("x.zip", "PK", "unpack it and give the folder"),
        ("x.docx", "PK", "save its table as CSV"),
        ("x.TextGrid", "File type", "export a table with the columns file, start, end and label"),
        ("d/x.pdf", "%PDF", r"x\.pdf: not read; save its table"),
        ("d/x.eaf", "<x/>", r"x\.eaf: not read; export a table"),
        ("d/x.txt", "Name\tStart\tEnd\nOwl\t1\t2\n", r"x\.txt: not understood \(columns name, start, end\)"),
        ("x.wav", "RIFF", "is a recording; give the table of its labels, or the folder"),
        ("x.html", "<html></html>", "is neither a table nor JSON lines"),
        ("x.csv", "PK\x03\x04\x01\x02", "not a text file"),
        ("x", "file,label\na.wav,Owl\n", "give a table a suffix such as"),
        ("x.xlsx", "PK", "save it as CSV"),
        ("d/x.zip", "PK", r"d: neither labels\.csv nor sub-folders .*; x\.zip: not read; unpack it"),
        (
            "d/x.csv",
            "site,observer\n1,me\n",
            r"neither labels\.csv .*; x\.csv: not understood \(columns site, observer\)",
        ),
        (
            "d/labels.csv",
            "file,label,start_sample,end_sample\na.wav,Owl,0,9\n",
            "'start_sample' looks like a time, but counts",
        ),
        ("d/labels.csv", "file,label,t_begin_call\na.wav,Owl,1\n", "'t_begin_call' looks like a time"),
    ],
)
def test_annotations_of_no_known_format(tmp_path, name, content, message):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name.partition("/")[0])


def test_the_command_says_what_was_read(nlm, tmp_path):
    write(tmp_path / "in", "d.txt", ["0.1\t1\tRobin", "1\t1.5\tNA"], "d.wav", "e.wav")
    status, _, stderr = nlm("prepare", tmp_path / "in", "--out", tmp_path / "out")
    assert (status, stderr.count("read as: Audacity tracks (1 file, 1 label); 1 recording below has no label")) == (
        0,
        1,
    )


def test_names_of_classes(tmp_path):
    """Blanks and forms of letters make no class of their own; hidden folders are none."""
    for name in ("Turdus merula /a", "Turdus_merula/b", "Gro\u0308ße/c", "Größe/d", ".Trashes/e", "__MACOSX/f/._g"):
        sound(tmp_path / f"{name}.wav", 0.5)
    assert {text for _, text in read(tmp_path)[0]} == {"Turdus merula", "Größe"}


def test_sub_folders_that_are_splits(tmp_path):
    for name in ("train/owl/1.wav", "train/wren/2.wav", "test/owl/3.wav", "test/nocall/4.wav"):
        sound(tmp_path / name)
    pairs = [(e.paths[0], e.text, e.split) for e in registry.read(tmp_path)]
    assert pairs == [
        ("test/nocall/4.wav", "None", "test"),
        ("test/owl/3.wav", "owl", "test"),
        ("train/owl/1.wav", "owl", "train"),
        ("train/wren/2.wav", "wren", "train"),
    ]
    sound(tmp_path / "6.wav")  # in no class
    assert len(read(tmp_path)[0]) == 4
    sound(tmp_path / "train/5.wav")  # now train may be a class
    assert {text for _, text in read(tmp_path)[0]} == {"train", "test"}


@pytest.mark.parametrize(
    ("names", "table", "message"),
    [
        (("audio/1.wav", "audio/2.wav"), "", r"the name of its sub-folder, audio; give a table"),
        (("Train Audio/1.wav",), "", r"sub-folder, Train Audio; give a table"),
        (("S1/1.wav",), "cluster.csv", r"sub-folder, S1 \(cluster\.csv: not understood \(columns site, bird\)\)"),
        (("S1/1.wav",), "labels.xlsx", r"sub-folder, S1 \(labels\.xlsx: not read; save it as CSV"),
    ],
)
def test_names_that_are_hardly_classes(tmp_path, names, table, message):
    for name in names:
        sound(tmp_path / name)
    if table:
        (tmp_path / table).write_text("site,bird\nS1,Owl\n")
    with pytest.raises(UserError, match=f"{message}.* or say --format folder"):
        read(tmp_path)
    assert len(read(tmp_path, "folder")[0]) == len(names)


def test_a_table_far_below(tmp_path):
    table = write(tmp_path, "2024/site/card/x.csv", ["file,label", "1.wav,Owl"], "2024/site/card/1.wav")
    pairs, report = read(tmp_path)
    assert pairs == [("2024/site/card/1.wav", "Owl")], table
    assert "label tables (1 file" in report.read_as
