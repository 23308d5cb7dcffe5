"""Label tables of many programs: which columns count, what a label cell says, which recording a row is about."""

import numpy as np
import pytest
import soundfile
from annotation_tools import RAVEN, read, sound, write

from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare import splits
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.prepare.readers import cells, registry
from nlm_jax.prepare.windowing import PROMPT

LAYOUTS = {
    "BirdNET csv": (
        "d.BirdNET.results.csv",
        ["Start (s),End (s),Scientific name,Common name,Confidence,File", "0,3,Turdus merula,Blackbird,0.85,/x/d.wav"],
        "d.wav",
        [("d.wav#t=0,3", "Blackbird")],
    ),
    "BirdNET csv without file": (
        "d.BirdNET.results.csv",
        ["Start (s),End (s),Scientific name,Common name,Confidence", "0,3,Turdus merula,Blackbird,0.85"],
        "d.wav",
        [("d.wav#t=0,3", "Blackbird")],
    ),
    "BirdNET for R": (
        "d.BirdNET.results.r.csv",
        ["filepath,start,end,scientific_name,common_name,confidence,lat,lon", "d.wav,0,3,Parus major,Great Tit,.8,1,2"],
        "d.wav",
        [("d.wav#t=0,3", "Great Tit")],
    ),
    "BirdNET for Raven": (
        "BirdNET_SelectionTable.txt",
        [
            f"{RAVEN}\tCommon Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)",
            "1\tSpectrogram 1\t1\t0\t3\t0\t8000\tGreat Tit\tgretit1\t0.9\tC:\\rec\\d.wav\t0",
            "2\tSpectrogram 1\t1\t3\t6\t0\t8000\tnocall\tnocall\t1.0\tC:\\rec\\e.wav\t0",
        ],
        ("d.wav", "e.wav"),
        [("d.wav#t=0,3", "Great Tit"), ("e.wav#t=0,3", "None")],
    ),
    "BirdNET for Kaleidoscope": (
        "d.BirdNET.results.kaleidoscope.csv",
        ["INDIR,FOLDER,IN FILE,OFFSET,DURATION,scientific_name,common_name", "/rec,site,d.wav,0.5,2,Parus major,Tit"],
        "site/d.wav",
        [("site/d.wav#t=0.5,2.5", "Tit")],
    ),
    "Kaleidoscope": (
        "cluster.csv",
        [
            "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,Fmin,Fmean,TOP1MATCH*,TOP1DIST,MANUAL ID",
            "D:\\data,S1,r.wav,0,0.5,1.0,100,200,Robin,0.1,Wren",
            "D:\\data,S2,r.wav,0,0.5,1.0,100,200,Robin,0.1,",
        ],
        ("S1/r.wav", "S2/r.wav"),
        [("S1/r.wav#t=0.5,1.5", "Wren")],
    ),
    "Kaleidoscope without manual names": (
        "cluster.csv",
        ["INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,TOP1MATCH*,MANUAL ID", "D:\\data,S1,r.wav,0,0.5,1.0,Robin,"],
        "S1/r.wav",
        [("S1/r.wav#t=0.5,1.5", "Robin")],
    ),
    "ESC-50": (
        "meta/esc50.csv",
        ["filename,fold,target,category,esc10,src_file,take", "1-1-A-0.wav,1,0,dog,True,1,A"],
        "audio/1-1-A-0.wav",
        [("audio/1-1-A-0.wav", "dog")],
    ),
    "BirdCLEF": (
        "train_metadata.csv",
        [
            "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,license,rating,url,filename",
            "abethr1,[],['song'],4.3,38.2,Turdus tephronotus,African Bare-eyed Thrush,R,CC,4,u,abethr1/XC128013.ogg",
        ],
        "train_audio/abethr1/XC128013.ogg",
        [("train_audio/abethr1/XC128013.ogg", "African Bare-eyed Thrush")],
    ),
    "crowsetta": (
        "notes.csv",
        [
            "label,onset_s,offset_s,onset_sample,offset_sample,notated_path,annot_path,sequence,annotation",
            "a,0.5,0.75,8000,12000,bird/s.wav,x.csv,0,0",
        ],
        "bird/s.wav",
        [("bird/s.wav#t=0.5,0.75", "a")],
    ),
    "OpenSoundscape": (
        "all.csv",
        ["audio_file,annotation_file,annotation,start_time,end_time,low_f,high_f", "a.wav,a.txt,Robin,0.5,1,0,8000"],
        "a.wav",
        [("a.wav#t=0.5,1", "Robin")],
    ),
    "nlm infer": ("answers.csv", ["file,start,end,text", "a.wav,0,1.5,Robin"], "a.wav", [("a.wav#t=0,1.5", "Robin")]),
    "Raven saved as csv": (
        "raven.csv",
        [f"{RAVEN}\tSpecies\tBegin File".replace("\t", ","), "1,Spectrogram 1,1,0.5,1.0,0,8000,Robin,d.wav"],
        "d.wav",
        [("d.wav#t=0.5,1", "Robin")],
    ),
    "Raven without end": (
        "r.Table.1.selections.txt",
        ["Selection\tBegin Time (s)\tDelta Time (s)\tSpecies", "1\t0.5\t1.5\tRobin"],
        "r.wav",
        [("r.wav#t=0.5,2", "Robin")],
    ),
    "Raven, decimal commas": (
        "r.Table.1.selections.txt",
        ["Selection\tBegin Time (s)\tEnd Time (s)\tSpecies", "1\t0,5\t1,75\tRobin"],
        "r.wav",
        [("r.wav#t=0.5,1.75", "Robin")],
    ),
    "scientific names alone": (
        "labels.csv",
        ["filename,scientific_name", "a.wav,Parus major"],
        "a.wav",
        [("a.wav", "Parus major")],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("whole_folder", [False, True])
def test_layouts(tmp_path, layout, whole_folder):
    name, lines, recordings, expected = LAYOUTS[layout]
    recordings = (recordings,) if isinstance(recordings, str) else recordings
    table = write(tmp_path / "field", name, lines, *recordings)
    pairs, report = read(tmp_path / "field" if whole_folder else table, root=tmp_path / "field")
    assert pairs == expected
    assert report.read_as.startswith("read as: ")
    manifest = prepare(PrepareOptions(tmp_path / "field", tmp_path / "out", duplicates="none"))
    assert manifest["clips"] == len(expected)


def test_queries_of_label_tables(tmp_path):
    table = write(tmp_path, "t.csv", ["file,scientific_name,sound", "a.wav,Parus major,x"])
    (one,) = registry.read(table)
    assert (one.prompt, one.task) == (
        "What is the scientific name for the focal species in the audio?",
        "scientific-name",
    )
    table = write(tmp_path, "t.csv", ["file,start,end,call type", "a.wav,0,1,trill"])
    assert next(registry.read(table)).task == "call-type"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("Robin", ["Robin"]),
        ("  Turdus   merula ", ["Turdus merula"]),
        ('"Robin"', ["Robin"]),
        ("'Robin'", ["Robin"]),
        ("Gro\u0308ße", ["Größe"]),
        ("Robin; Wren", ["Robin", "Wren"]),
        ("Robin|Wren|Robin", ["Robin", "Wren"]),
        ("Robin;", ["Robin"]),
        ("Robin, Wren", ["Robin", "Wren"]),  # each stands alone elsewhere
        ("Owl, Barn", ["Owl, Barn"]),
        ("Robin, Owl", ["Robin, Owl"]),
        ("['Robin', 'Wren']", ["Robin", "Wren"]),
        ("[]", []),
        ("nocall", ["nocall"]),
        ("nocall; Robin", ["Robin"]),
        *((word, []) for word in ("", "NA", "nan", "NaN", "null", "None", "-", "N/A", "#N/A", "<NA>", "?", "unknown")),
        ("Robin; NA", ["Robin"]),
        ("Nanday Parakeet", ["Nanday Parakeet"]),
    ],
)
def test_label_cells(cell, expected):
    assert cells.labels(cell, {"Robin", "Wren"}) == expected


@pytest.mark.parametrize("word", ["nocall", "NoCall", "no_call", "no call", "No birds"])
def test_no_label_is_a_negative(tmp_path, word):
    table = write(
        tmp_path, "labels.csv", ["file,label,start,end", f"a.wav,{word},0,1", "a.wav,Robin,1,2", f"b.wav,{word},,"]
    )
    one, two, three = registry.read(table)
    assert [(e.paths[0], e.prompt, e.text, e.task) for e in (one, three)] == [
        ("a.wav#t=0,1", PROMPT, "None", "common-multiple-detection"),
        ("b.wav", PROMPT, "None", "common-multiple-detection"),
    ]
    assert two.text == "Robin"


@pytest.mark.parametrize("kind", ["labels", "raven", "audacity"])
@pytest.mark.parametrize("word", ["", "NA", "nan", "null", "-"])
def test_one_policy_for_rows_without_a_label(tmp_path, kind, word):
    lines = {
        "labels": ("labels.csv", ["file,label,start,end", "a.wav,Robin,0,1", f"a.wav,{word},1,2", "a.wav,Wren,2,3"]),
        "raven": (
            "a.Table.1.selections.txt",
            [f"{RAVEN}\tSpecies\tCall Type", "1\tS\t1\t0\t1\t0\t1\tRobin\tx", f"2\tS\t1\t1\t2\t0\t1\t{word}\tnoise",
             "3\tS\t1\t2\t3\t0\t1\tWren\tx"],
        ),
        "audacity": ("a.txt", ["", "0\t1\tRobin", f"1\t2\t{word}", "2\t3\tWren"]),
    }[kind]  # fmt: skip
    write(tmp_path, *lines, "a.wav")
    pairs, report = read(tmp_path)
    assert pairs == [("a.wav#t=0,1", "Robin"), ("a.wav#t=2,3", "Wren")]
    assert [(r.name, r.where.rpartition(":")[2]) for r in report.rejects] == [("a.wav", "3")]
    assert "the row has no label" in report.rejects[0].reason


def test_several_labels_in_a_cell(tmp_path):
    write(tmp_path / "in", "d.Table.1.selections.txt", [
        f"{RAVEN}\tSpecies", "1\tS\t1\t0.5\t1\t0\t1\tRobin; Wren", "2\tS\t1\t0.7\t1.5\t0\t1\tRobin, Wren",
        "3\tS\t1\t1\t2\t0\t1\tWren"], "d.wav")  # fmt: skip
    prepare(PrepareOptions(tmp_path / "in", tmp_path / "out", window=3.0, hop=3.0))
    assert Corpus([tmp_path / "out"]).entry(0).text == "Robin, Wren"
    assert read(tmp_path / "in")[0][:2] == [("d.wav#t=0.5,1", "Robin"), ("d.wav#t=0.5,1", "Wren")]
    table = write(tmp_path, "x.csv", ["id,file,common_name", "7,a.wav,Robin; Wren"])
    assert [(e.id, e.facts) for e in registry.read(table)] == [
        ("7#0", {"common_name": "Robin"}), ("7#1", {"common_name": "Wren"})]  # fmt: skip


def test_empty_tables_are_negatives(tmp_path):
    folder = tmp_path / "in"
    write(folder, "a.Table.1.selections.txt", [f"{RAVEN}\tSpecies", "1\tS\t1\t0.5\t1\t0\t1\tRobin"], "a.wav")
    write(folder, "b.Table.1.selections.txt", [f"{RAVEN}\tSpecies"], "b.wav")
    write(folder, "c.Table.1.selections.txt", [f"{RAVEN}\tSpecies"])  # of no recording
    prepare(PrepareOptions(folder, tmp_path / "out", window=1.0, hop=1.0))
    corpus = Corpus([tmp_path / "out"])
    assert [corpus.entry(e).text for e in range(len(corpus))] == ["Robin", *["None"] * 5]
    assert "no recording c" in (tmp_path / "out" / "rejects.jsonl").read_text()
    tracks = tmp_path / "tracks"
    write(tracks, "a.txt", ["0.5\t1\tRobin"], "a.wav")
    write(tracks, "b.TXT", [""], "b.wav")
    assert read(tracks)[0] == [("a.wav#t=0.5,1", "Robin"), ("b.wav", "None")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["0.0\t3.0\tTurdus merula, Common Blackbird\t0.8512"], [("0,3", "Turdus merula, Common Blackbird")]),
        (["0,5\t1,25\tRobin"], [("0.5,1.25", "Robin")]),
        (["", "", "0.5\t1\tRobin", "\\\t200.0\t900.0", "1\t2\tnocall"], [("0.5,1", "Robin"), ("1,2", "None")]),
        (["0.5\t1\tRobin; Wren"], [("0.5,1", "Robin"), ("0.5,1", "Wren")]),
    ],
)
@pytest.mark.parametrize("name", ["d.txt", "d.TXT", "d.BirdNET.results.txt", "d_labels.txt"])
def test_audacity_tracks(tmp_path, lines, expected, name):
    write(tmp_path, name, lines, "d.wav")
    assert read(tmp_path)[0] == [(f"d.wav#t={span}", text) for span, text in expected]


def test_begin_path(tmp_path):
    for site, bird in (("s1", "Robin"), ("s2", "Wren")):
        lines = [
            f"{RAVEN}\tBegin Path\tBegin File\tSpecies",
            f"1\tS\t1\t0.5\t1\t0\t1\tC:\\d\\{site}\\rec.wav\trec.wav\t{bird}",
        ]
        write(tmp_path, f"ann/{site}.Table.1.selections.txt", lines, f"audio/{site}/rec.wav")
    sound(tmp_path / "audio" / "rec.wav")
    pairs, report = read(tmp_path / "ann", root=tmp_path / "audio")
    assert pairs == [("s1/rec.wav#t=0.5,1", "Robin"), ("s2/rec.wav#t=0.5,1", "Wren")]
    assert not report.rejects


def test_tables_in_folders_like_those_of_the_recordings(tmp_path):
    """The same name in each site's folder: the folder of the table says which."""
    for site in ("s1", "s2"):
        write(tmp_path, f"ann/{site}/rec.txt", [f"0\t1\t{site}"], f"audio/{site}/rec.wav")
    assert read(tmp_path, "audacity")[0] == [("audio/s1/rec.wav#t=0,1", "s1"), ("audio/s2/rec.wav#t=0,1", "s2")]


OVER = ["Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies"]


@pytest.mark.parametrize(
    ("rows", "lengths", "expected"),
    [
        (["0.5\t1\ta.wav\tR", "3.5\t4\tb.wav\tW"], (3, 3), ["a.wav#t=0.5,1", "b.wav#t=0.5,1"]),
        (["0.5\t1\ta.wav\tR", "3.5\t4\tb.wav\tW"], (3, 9), ["a.wav#t=0.5,1", "b.wav#t=0.5,1"]),
        (["3.5\t4\tb.wav\tW", "0.5\t1\ta.wav\tR"], (3, 3), ["b.wav#t=0.5,1", "a.wav#t=0.5,1"]),
        (["0.5\t1\ta.wav\tR", "6.5\t7\tc.wav\tW"], (3, 3, 3), ["a.wav#t=0.5,1", "c.wav#t=0.5,1"]),  # none in b.wav
        (["0.5\t1\ta.wav\tR", "0.5\t1\tb.wav\tW"], (3, 3), ["a.wav#t=0.5,1", "b.wav#t=0.5,1"]),  # each from its start
    ],
)
def test_raven_over_several_files_without_offset(tmp_path, rows, lengths, expected):
    for name, seconds in zip("abc", lengths, strict=False):
        sound(tmp_path / f"{name}.wav", seconds)
    write(tmp_path, "all.txt", [*OVER, *(f"{n}\t{row}" for n, row in enumerate(rows, 1))])
    assert [name for name, _ in read(tmp_path)[0]] == expected


def test_raven_over_files_of_unknown_length(tmp_path):
    sound(tmp_path / "b.wav", 9)
    write(tmp_path, "all.txt", [*OVER, "1\t0.5\t1\ta.wav\tR", "2\t3.5\t4\tb.wav\tW"])
    with pytest.raises(UserError, match=r"all\.txt:2: the times count through 2 files.*File Offset"):
        read(tmp_path)


def test_the_channel_of_a_selection(tmp_path):
    """Each is heard alone, and both are in one split; of a mono recording there is one."""
    folder = tmp_path / "in"
    folder.mkdir()
    left, right = np.full(48_000, 0.25), np.full(48_000, -0.5)
    soundfile.write(folder / "st.wav", np.stack([left, right], 1), 16_000)
    rows = [
        f"{n}\tS\t{channel}\t0.5\t1\t0\t1\t{bird}" for n, (channel, bird) in enumerate([(1, "R"), (2, "W"), (3, "O")])
    ]
    write(folder, "st.Table.1.selections.txt", [f"{RAVEN}\tSpecies", *rows])
    write(folder, "mono.Table.1.selections.txt", [f"{RAVEN}\tSpecies", "1\tS\t1\t0\t1\t0\t1\tM"], "mono.wav")
    pairs, report = read(folder)
    assert pairs == [
        ("mono.wav#t=0,1", "M"), ("st.wav#channel=1#t=0.5,1", "R"), ("st.wav#channel=2#t=0.5,1", "W"),
    ]  # fmt: skip
    assert [r.reason for r in report.rejects] == ["channel 3 of a recording with 2"]
    assert {splits.recording(e) for e in registry.read(folder)} == {"mono.wav", "st.wav"}
    prepare(PrepareOptions(folder, tmp_path / "out", duplicates="none"))
    corpus = Corpus([tmp_path / "out"])
    waves = [corpus.clip(e, 0) for e in range(3)]
    assert [round(float(wave.mean()), 3) for wave in waves[1:]] == [0.25, -0.5]
    prepare(PrepareOptions(folder, tmp_path / "cut", duplicates="none", window=1.5, hop=1.5))
    corpus = Corpus([tmp_path / "cut"])
    texts = [corpus.entry(e).text for e in range(len(corpus))]
    assert texts == ["M", "None", "R", "W"]  # no negatives of a recording of which a label is rejected


def test_metadata_with_times(tmp_path):
    """The audio folder of `datasets`: names begin next to the table, folders name splits."""
    for split, bird in (("train", "Robin; Wren"), ("test", "nocall")):
        lines = ["file_name,label,start,end", f"r.wav,{bird},1,2", "r.wav,Wren,1.5,2"]
        write(tmp_path, f"{split}/metadata.csv", lines, f"{split}/r.wav")
    assert [(e.paths[0], e.text, e.split) for e in registry.read(tmp_path)] == [
        ("test/r.wav#t=1,2", "None", "test"), ("test/r.wav#t=1.5,2", "Wren", "test"),
        ("train/r.wav#t=1,2", "Robin", "train"), ("train/r.wav#t=1,2", "Wren", "train"),
        ("train/r.wav#t=1.5,2", "Wren", "train"),
    ]  # fmt: skip


def test_a_long_recording_at_a_low_rate(tmp_path):
    """25 minutes of infrasound at 100 Hz, and a table with thousands commas."""
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "r.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 150_000), 100, "PCM_U8")
    (tmp_path / "in" / "labels.csv").write_text(
        'file,label,start,end\nr.wav,Robin,"1,234","1,236"\nr.wav,Wren,900,902\n'
    )
    prepare(PrepareOptions(tmp_path / "in", tmp_path / "out", duplicates="none"))
    corpus = Corpus([tmp_path / "out"])
    assert [corpus.clip_names(e) for e in range(2)] == [["r.wav#t=1234,1236"], ["r.wav#t=900,902"]]
    assert [corpus.clip(e, 0).size for e in range(2)] == [32_000, 32_000]


@pytest.mark.parametrize(
    "header",
    [
        "Datei,Artname",
        "fichier,espèce",
        "archivo,especie",
        "nome file,specie",
        "bestand,soort",
        "AudioFileName,className",
    ],
)
def test_names_of_columns(tmp_path, header):
    pairs, _ = read(write(tmp_path, "x.csv", [header, "d.wav,Rotkehlchen"], "d.wav"))
    assert pairs == [("d.wav", "Rotkehlchen")]


def test_selections_without_times(tmp_path):
    """They are not about the whole recording."""
    lines = [f"{RAVEN}\tSpecies", "1\tS\t1\t\t\t0\t8\tRobin", "2\tS\t1\t1\t2\t0\t8\tWren"]
    pairs, report = read(write(tmp_path, "d.txt", lines, "d.wav"))
    assert pairs == [("d.wav#t=1,2", "Wren")]
    assert [(r.name, r.reason) for r in report.rejects] == [("d.wav", "the selection has no times")]


def test_objects_are_no_labels(tmp_path):
    cell = '"[{""start"":0.5,""end"":1,""labels"":[""Robin""]}]"'  # of Label Studio
    pairs, report = read(write(tmp_path, "x.csv", ["audio,label", f"d.wav,{cell}", "e.wav,Owl"], "d.wav", "e.wav"))
    assert pairs == [("e.wav", "Owl")]
    assert ["holds an object; export one row" in r.reason for r in report.rejects] == [True]


@pytest.mark.parametrize(
    "cell", ["Robin / Wren", "Robin & Wren", "Robin+Wren", '"Robin\nWren"', "\"('Robin', 'Wren')\""]
)
def test_labels_that_stand_alone_elsewhere(tmp_path, cell):
    lines = ["file,label", f"d.wav,{cell}", "e.wav,Robin", "e.wav,Wren"]
    pairs, _ = read(write(tmp_path, "x.csv", lines, "d.wav", "e.wav"))
    assert pairs[:2] == [("d.wav", "Robin"), ("d.wav", "Wren")]


def test_a_track_with_the_full_name_of_its_recording(tmp_path):
    pairs, _ = read(write(tmp_path, "d.wav.txt", [".5\t1.\tRobin", "-0.0\t1\tWren"], "d.wav", "d.flac"))
    assert pairs == [("d.wav#t=0.5,1", "Robin"), ("d.wav#t=0,1", "Wren")]
