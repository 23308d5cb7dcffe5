"""Rows of datasets as strangers save them: several recordings, samples of any type, lists of classes, one split."""

import decimal
import io
import json
import re
import tarfile

import numpy as np
import pytest
import soundfile

from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare import audio_column, audio_sources
from nlm_jax.prepare.annotations import Annotations
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.prepare.readers import registry
from nlm_jax.prepare.rejects import Report

pyarrow = pytest.importorskip("pyarrow", reason="Parquet and Arrow files need pyarrow: pip install nlm_jax[data]")
parquet = pytest.importorskip("pyarrow.parquet")

RATE = 16_000
WAVE = 0.5 * np.sin(np.arange(4000) / 9)


def encoded(level, samples=1600):
    out = io.BytesIO()
    soundfile.write(out, np.full(samples, level), RATE, format="WAV")
    return out.getvalue()


def save(file, columns, features=None):
    """A table as Parquet or as the stream that `save_to_disk` writes; its folder."""
    result = pyarrow.table(columns)
    if features:
        result = result.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        parquet.write_table(result, file)
    else:
        with pyarrow.OSFile(str(file), "wb") as out, pyarrow.ipc.new_stream(out, result.schema) as stream:
            stream.write_table(result)
    return file.parent


def rejected(out):
    return [json.loads(line) for line in (out / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]


AUDIO = {"sampling_rate": RATE, "_type": "Audio"}
SPELLINGS = [[AUDIO], *({"feature": AUDIO, "_type": kind} for kind in ("List", "Sequence", "LargeList"))]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_lists_of_recordings(tmp_path, suffix, spelling):
    """Every row is one question about all of its recordings; a row without any is a reject."""
    cells = [[{"bytes": encoded((10 * row + k) / 100), "path": None} for k in range(row)] for row in (2, 0, 1, 3)]
    kind = pyarrow.list_(pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))
    columns = {"id": list("abcd"), "audio": pyarrow.array([*cells, None], kind)[:4], "label": list("wxyz")}
    folder = save(tmp_path / "data" / f"x.{suffix}", columns, {"audio": spelling})
    report = Report()
    examples = list(registry.read(folder, report=report))
    assert [(e.id, e.text, len(e.paths)) for e in examples] == [("a", "w", 2), ("c", "y", 1), ("d", "z", 3)]
    assert examples[0].paths == (f"x.{suffix}#row=0&clip=1", f"x.{suffix}#row=0&clip=2")
    assert [(r.name, r.reason) for r in report.rejects] == [
        (f"x.{suffix}#row=1", "names no recording in column 'audio'")]  # fmt: skip
    manifest = prepare(PrepareOptions(folder, tmp_path / "out"), workers=2)
    assert (manifest["examples"], manifest["clips"]) == (3, 6)
    corpus = Corpus([tmp_path / "out"])
    levels = [[round(100 * float(corpus.clip(e, k).mean())) for k in range(corpus.n_clips[e])] for e in range(3)]
    assert levels == [[20, 21], [10], [30, 31, 32]]


def test_lists_of_paths(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(encoded(0.1))
    cells = [["a.wav", "b.wav"], ["b.wav"], [], None, ["a.wav", None]]
    for k, column in enumerate(("audio", "files")):
        file = tmp_path / str(k) / "x.parquet"
        save(file, {column: [c and [v and f"../{v}" for v in c] for c in cells], "label": list("uvwxy")})
        manifest = prepare(PrepareOptions(file, tmp_path / f"out{k}"))
        assert (manifest["examples"], manifest["rejected"]["examples"]) == (2, 3)
        assert Corpus([tmp_path / f"out{k}"]).n_clips.tolist() == [2, 1]


def test_lists_of_arrays(tmp_path):
    """Arrays of several lengths are recordings; those of one length are channels, unless the question has more."""
    short, mark = WAVE[:1000].tolist(), "<Audio><AudioHere></Audio>"
    cells = [[WAVE.tolist(), short], [WAVE.tolist(), (-WAVE).tolist()], [short, short], [short], []]
    asks = ["", "", f"{mark}{mark} Same?", "", ""]
    columns = {"audio": cells, "sampling_rate": [RATE] * 5, "instruction": asks, "output": list("vwxyz")}
    folder = save(tmp_path / "data" / "x.parquet", columns)
    report = Report()
    examples = list(registry.read(folder, "datasets", report=report))
    assert [len(e.paths) for e in examples if e] == [2]  # the others have no question, and no label
    save(tmp_path / "data" / "x.parquet", {**columns, "label": list("vwxyz")})
    examples = list(registry.read(folder, report=report))
    assert [len(e.paths) for e in examples] == [2, 1, 2, 1]
    np.testing.assert_allclose(audio_sources.load(folder, examples[0].paths[1])[0], WAVE[:1000], atol=1e-6)
    assert not audio_sources.load(folder, examples[1].paths[0])[0].any()  # the mean of a wave and its opposite


def test_a_row_of_several_is_not_one_recording(tmp_path):
    cell = [{"bytes": encoded(0.1), "path": None}] * 2
    folder = save(tmp_path / "data" / "x.parquet", {"audio": [cell], "label": ["a"]})
    with pytest.raises(UserError, match=r"the row has 2 recordings; name one of them, as in x.parquet#row=0&clip=1"):
        audio_sources.load(folder, "x.parquet#row=0")
    with pytest.raises(UserError, match="the row has 2 recordings"):
        audio_sources.load(folder, "x.parquet#row=0&clip=3")
    assert audio_sources.load(folder, "x.parquet#row=0&clip=2#t=0,0.05")[0].size == 800


STORED = {
    "int64": (np.rint(WAVE * 32768).astype(np.int64), "int64 numbers from -16384 to 16384, read as 16-bit samples"),
    "int64 of 24 bits": (np.rint(WAVE * 2**23).astype(np.int64), "read as 24-bit samples"),
    "int64 of uint8": (np.rint(WAVE * 128 + 128).astype(np.int64), "read as unsigned 8-bit samples around 128"),
    "int32 of 16 bits": (np.rint(WAVE * 32768).astype(np.int32), "read as 16-bit samples"),
    "int32": (np.rint(WAVE * 2**31).astype(np.int32), ""),
    "int16": (np.rint(WAVE * 32768).astype(np.int16), ""),
    "int8": (np.rint(WAVE * 128).astype(np.int8), ""),
    "uint8": (np.rint(WAVE * 128 + 128).astype(np.uint8), ""),
    "uint16": (np.rint(WAVE * 32768 + 32768).astype(np.uint16), ""),
    "float16": (WAVE.astype(np.float16), ""),
    "float64": (WAVE, ""),
}


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("kind", STORED)
def test_samples_of_every_type(tmp_path, kind, suffix):
    samples, message = STORED[kind]
    quiet = samples[:1]  # the zero of its type: only the whole column says at what scale
    columns = {
        "audio": [{"array": s, "sampling_rate": RATE} for s in (samples, quiet.repeat(800))],
        "label": ["a", "b"],
    }
    folder = save(tmp_path / "data" / f"x.{suffix}", columns)
    report = Report()
    names = [e.paths[0] for e in registry.read(folder, report=report)]
    assert [message in text for text in report.notices] == [True] * bool(message)
    tolerance = 1.5 / 128 if "8" in kind else 1e-3
    np.testing.assert_allclose(audio_sources.load(folder, names[0])[0], WAVE, atol=tolerance)
    assert np.abs(audio_sources.load(folder, names[1])[0]).max() <= 1 / 128


def test_samples_without_a_rate_are_reported(tmp_path):
    folder = save(tmp_path / "data" / "x.parquet", {"audio": [WAVE.tolist()], "label": ["a"]})
    report = Report()
    list(registry.read(folder, report=report))
    assert "16000 Hz is assumed" in report.notices[0]


BAD = {
    "floats at the scale of integers": (list(WAVE * 32767), "divide them by their full scale"),
    "unit variance": (list(np.random.default_rng(0).standard_normal(4000)), "where full scale is 1"),
    "counters": (list(range(3000)), "have no certain scale"),
    "nothing": ([], "names no recording|no audio samples"),
    "null": (None, "no audio"),
    "a number": (7, "no list of numbers"),
    "booleans": ([True, False], "no list of numbers|type bool"),
    "an address": ("https://example.org/a.wav", "no such file"),
    "an empty name": ("", "no audio"),
    "an object": ({"left": [0.5], "right": [0.5]}, "no audio"),
    "objects in a struct": ({"array": [{"x": 1}], "sampling_rate": RATE}, "no list of numbers"),
    "texts": ({"array": ["0.1", "0.2"], "sampling_rate": RATE}, "no list of numbers|type <U3"),
    "NaN": ([0.5, float("nan")], "NaN"),
    "missing samples": ([0.5, None], "NaN"),
    "three axes": ([[[0.5, 0.5]] * 2] * 2, "shape|no list"),
    "one sample": ([0.5], "1 sample"),
}


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("kind", BAD)
def test_cells_that_are_no_audio_are_rejects(tmp_path, kind, suffix):
    cell, reason = BAD[kind]
    try:
        folder = save(tmp_path / "data" / f"x.{suffix}", {"audio": [cell], "label": ["a"]})
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        pytest.skip(f"no such column: {error}")
    save(folder / f"y.{suffix}", {"audio": [{"bytes": encoded(0.1), "path": None}], "label": ["b"]})
    manifest = prepare(PrepareOptions(folder, tmp_path / "out"))
    assert (manifest["examples"], manifest["rejected"]["examples"]) == (1, 1)
    (entry,) = rejected(tmp_path / "out")
    assert re.search(reason, entry["reason"]), entry
    assert entry["file"].startswith(f"x.{suffix}#row=0")


CLASSES = {"names": ["amerob", "norcar", "carwre"], "_type": "ClassLabel"}


@pytest.mark.parametrize("spelling", [[CLASSES], *({"feature": CLASSES, "_type": k} for k in ("List", "Sequence"))])
def test_lists_of_classes_have_names(tmp_path, spelling):
    audio = [{"bytes": encoded(0.1 * k), "path": None} for k in range(3)]
    columns = {"audio": audio, "labels": [[0, 1], [2], [-1, 0, 9]]}
    folder = save(tmp_path / "data" / "x.parquet", columns, {"audio": AUDIO, "labels": spelling})
    assert [e.text for e in registry.read(folder)] == ["amerob, norcar", "carwre", "amerob"]


def test_numbers_without_names_are_reported(tmp_path):
    folder = save(tmp_path / "x.parquet", {"audio": [{"bytes": encoded(0.1), "path": None}], "label": [3]})
    report = Report()
    assert [e.text for e in registry.read(folder, report=report)] == ["3"]
    assert "column 'label' holds numbers without names" in report.notices[0]


def test_rows_with_times_are_parts(tmp_path):
    audio = [{"bytes": encoded(0.1, 3 * RATE), "path": None}] * 4
    columns = {
        "audio": audio,
        "label": list("abcd"),
        "start_time": [0.5, None, 2.0, 1.0],
        "end_time": [1.5, None, 1.0, None],
    }
    folder = save(tmp_path / "data" / "x.parquet", columns)
    report = Report()
    assert [e.paths[0] for e in registry.read(folder, report=report)] == [
        "x.parquet#row=0#t=0.5,1.5",
        "x.parquet#row=1",
    ]
    assert [r.where.rpartition(" ")[2] for r in report.rejects] == ["2", "3"]
    prepare(PrepareOptions(folder, tmp_path / "out"))
    assert [Corpus([tmp_path / "out"]).clip(k, 0).size for k in range(2)] == [RATE, 3 * RATE]


def test_cells_that_python_has_no_value_for(tmp_path):
    """Times in nanoseconds and decimals: a row that can be asked about is, the rest goes on."""
    nano = pyarrow.array([1_600_000_000_000_000_001] * 3, pyarrow.timestamp("ns"))
    columns = {
        "audio": [{"bytes": encoded(0.1, 3 * RATE), "path": None}] * 3,
        "label": ["owl", None, "wren"],
        "recorded": nano,
        "start_time": pyarrow.array([decimal.Decimal("0.50"), None, decimal.Decimal("1.00")]),
        "end_time": pyarrow.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")]),
    }
    folder = save(tmp_path / "data" / "x.parquet", columns)
    report = Report()
    examples = [(e.text, e.paths[0]) for e in registry.read(folder, report=report)]
    assert examples == [("owl", "x.parquet#row=0#t=0.5,1.5"), ("wren", "x.parquet#row=2#t=1,2.25")]
    assert [r.name for r in report.rejects] == ["x.parquet#row=1"]


def test_a_single_test_split_is_reported(nlm, tmp_path):
    columns = {"audio": [{"bytes": encoded(0.1), "path": None}], "label": ["owl"]}
    folder = save(tmp_path / "data" / "test-00000-of-00001.parquet", columns)
    assert "no example is for training: all are of split test" in nlm("prepare", folder, "--out", tmp_path / "a")[1]
    assert "for training" not in nlm("prepare", folder, "--out", tmp_path / "b", "--split=test")[1]


def test_one_named_split_keeps_its_name(tmp_path):
    columns = {"audio": [{"bytes": encoded(0.1), "path": None}] * 3, "label": list("aab")}
    folder = save(tmp_path / "set" / "test" / "data-00000-of-00001.arrow", columns)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["test", "odd one"]}')
    save(tmp_path / "set" / "odd one" / "data-00000-of-00001.arrow", columns)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "dev"}')
    read = lambda path: {e.split for e in registry.read(path)}  # noqa: E731
    assert read(tmp_path / "set") == {"test", "odd one"}
    assert read(folder) == {"test"}
    (tmp_path / "set" / "dataset_dict.json").unlink()
    assert read(folder) == {"dev"}
    save(tmp_path / "hub" / "data" / "validation-00000-of-00001.parquet", columns)
    assert read(tmp_path / "hub") == {"validation"}
    save(tmp_path / "test_folder" / "x.parquet", columns)
    assert read(tmp_path / "test_folder" / "x.parquet") == {""}


def test_bounds_are_read_from_the_statistics(tmp_path, monkeypatch):
    """Of Parquet no sample is read to find the scale; without statistics all of them are."""
    cells = [[5, -20000], [3]]
    parquet.write_table(pyarrow.table({"audio": cells}), tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table({"audio": cells}), tmp_path / "b.parquet", write_statistics=False)
    monkeypatch.setattr(audio_column, "_samples", lambda *args: pytest.fail("reads samples"))
    assert audio_column.bounds(tmp_path / "a.parquet") == (-20000, 5)
    monkeypatch.undo()
    assert audio_column.bounds(tmp_path / "b.parquet") == (-20000, 5)


def tar(file, members):
    with tarfile.open(file, "w") as out:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))


def test_tars_as_strangers_write_them(tmp_path):
    """A key with broken metadata is a reject, one with several recordings a question about all, times make a part."""
    long = encoded(0.2, 2 * RATE)
    tar(
        tmp_path / "test-000.tar",
        {
            "a.wav": encoded(0.1), "a.json": b"{broken",
            "b.left.wav": encoded(0.3), "b.right.wav": encoded(0.4), "b.json": b'{"label": "pair"}',
            "c.wav": long, "c.json": b'{"label": "part", "start": 0.5, "end": 1.25}',
            "d.m4a": b"sound", "d.json": b'{"label": "lost"}',
            "e.wav": long, "e.json": b'{"label": "odd", "start": 1.5, "end": 1}',
        },
    )  # fmt: skip
    report = Report()
    examples = list(registry.read(tmp_path / "test-000.tar", report=report))
    assert [(e.text, len(e.paths), e.split) for e in examples] == [("pair", 2, "test"), ("part", 1, "test")]
    assert examples[1].paths == ("test-000.tar#member=c.wav#t=0.5,1.25",)
    assert [r.name for r in report.rejects] == ["test-000.tar#member=a.wav", "test-000.tar#member=e.wav#t=1.5,1"]
    assert any(".m4a" in text for text in report.notices)
    result = prepare(PrepareOptions(tmp_path / "test-000.tar", tmp_path / "out"))
    assert (result["examples"], result["clips"], result["rejected"]["examples"]) == (2, 3, 2)


def soundscapes(file):
    """Rows as BirdSet has them: each a copy of its soundscape, with the labels of one part."""
    one, other = encoded(0.3, 10 * RATE), encoded(0.2, 3 * RATE)
    columns = {
        "audio": [{"bytes": sound, "path": "same_name.ogg"} for sound in (one, one, other, one)],
        "ebird_code_multilabel": [[0, 1], [1], [1], [2, 0]],
        "start_time": [1.0, 2.0, 0.0, 8.0],
        "end_time": [2.0, 3.0, 1.0, 9.0],
    }
    names = {"_type": "Sequence", "feature": {"_type": "ClassLabel", "names": ["amerob", "norcar", "rebwoo"]}}
    save(file, columns, {"audio": {"_type": "Audio"}, "ebird_code_multilabel": names})


def test_rows_of_one_soundscape_share_its_windows(tmp_path):
    """What one row names is heard in the window that another row names as well; the content tells, not the name."""
    soundscapes(tmp_path / "x.parquet")
    options = PrepareOptions(tmp_path / "x.parquet", tmp_path / "out", window=5, hop=5)
    result = prepare(options)
    corpus = Corpus([str(tmp_path / "out")])
    assert [(corpus.clip_names(k), corpus.entry(k).text) for k in range(result["examples"])] == [
        (["x.parquet#row=0#t=0,5"], "amerob, norcar"),
        (["x.parquet#row=0#t=5,10"], "rebwoo, amerob"),
        (["x.parquet#row=2"], "norcar"),
    ]
    prepare(PrepareOptions(tmp_path / "x.parquet", tmp_path / "fine", window=1, hop=1))
    fine = Corpus([str(tmp_path / "fine")])
    answers = {fine.clip_names(k)[0]: fine.entry(k).text for k in range(len(fine))}
    assert answers["x.parquet#row=0#t=5,6"] == "None"  # all labels of that recording are known
    assert "x.parquet#row=2#t=1,2" not in answers  # one row: there may be others elsewhere


def test_rows_of_one_soundscape_are_held_out_together(tmp_path):
    soundscapes(tmp_path / "x.parquet")
    options = PrepareOptions(tmp_path / "x.parquet", tmp_path / "out", hold_out=0.5)
    annotations = Annotations(options)
    annotations.division.draw(list(annotations.division.assign(annotations.read())))
    splits = {e.paths[0].split("#t")[0]: e.split for e in annotations.division.assign(annotations.read())}
    assert len({splits[f"x.parquet#row={row}"] for row in (0, 1, 3)}) == 1


def test_lists_of_times_are_named(tmp_path):
    save(
        tmp_path / "x.parquet",
        {"audio": [encoded(0.3)], "label": [["a", "b"]], "start": [[0.5, 1.5]], "end": [[1.0, 2.0]]},
    )
    report = Report()
    assert [e.text for e in registry.read(tmp_path / "x.parquet", report=report)] == ["a, b"]
    assert ["has lists of times, which are not used" in text for text in report.notices] == [True, True]


def test_missing_times_are_those_of_the_whole_recording(tmp_path):
    nan = float("nan")
    save(
        tmp_path / "x.parquet",
        {"audio": [encoded(0.3)] * 2, "label": ["a", "b"], "start": [0.5, nan], "end": [1.0, nan]},
    )
    names = [e.paths[0] for e in registry.read(tmp_path / "x.parquet")]
    assert names == ["x.parquet#row=0#t=0.5,1", "x.parquet#row=1"]


def test_a_column_of_paths_by_any_name(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.wav").write_bytes(encoded(0.3))
    save(tmp_path / "x.parquet", {"filepath": ["C:\\data\\sub\\D.WAV"], "ebird_code": ["amerob"]})
    assert [(e.paths[0], e.text) for e in registry.read(tmp_path / "x.parquet")] == [("sub/d.wav", "amerob")]
