"""`nlm evaluate` with a model, on a synthetic dataset of BEANS-Zero's shape in each of its formats."""

import argparse
import collections
import json

import numpy as np
import pytest
from rich.console import Console

from nlm_jax.audio.config import AudioConfig
from nlm_jax.evaluate import runner
from nlm_jax.evaluate.beans_zero import dataset, predict, synthetic
from nlm_jax.evaluate.beans_zero.parts import SHORT_QUERY
from nlm_jax.evaluate.output_folder import PredictionWriter, count_answered, read_folder
from nlm_jax.evaluate.prediction_files import PredictionRow, read_predictions, write_predictions
from nlm_jax.evaluate.types import Reply

pyarrow = pytest.importorskip("pyarrow", reason="the benchmark's formats need pyarrow: pip install nlm_jax[data]")
parquet = pytest.importorskip("pyarrow.parquet")

RATE = 16_000
CLIPS = AudioConfig()


def rows():
    """Seven questions of three parts; one of them has no audio."""
    rng, rows = np.random.default_rng(0), []
    for i in range(7):
        part = ("esc50", "enabirds", "zf-indiv")[i % 3]
        audio = [] if i == 5 else rng.uniform(-0.2, 0.2, RATE * 6).astype(np.float32).tolist()
        rows.append(
            {
                "source_dataset": "synthetic",
                "audio": audio,
                "id": f"q{i}",
                "created_at": "",
                "metadata": json.dumps({"sample_rate": RATE, "duration": 6.0}),
                "file_name": f"{i}.wav",
                "instruction": f"<Audio><AudioHere></Audio> Question {i}?",
                "instruction_text": f"Question {i}?",
                "output": ("dog", "Robin, Wren", "One")[i % 3],
                "task": "t",
                "dataset_name": part,
                "license": "CC0",
            }
        )
    return rows


@pytest.fixture(params=["parquet", "arrow", "dict"])
def data(request, tmp_path):
    """The dataset as Parquet in small row groups, as `save_to_disk` writes one split, and a dictionary of splits."""
    table = pyarrow.Table.from_pylist(rows())
    folder = tmp_path / "data" / ("test" if request.param == "dict" else "")
    folder.mkdir(parents=True)
    if request.param == "parquet":
        parquet.write_table(table, folder / "part-0.parquet", row_group_size=2)
    else:
        for number, piece in enumerate((table.slice(0, 4), table.slice(4))):
            file = str(folder / f"data-0000{number}-of-00002.arrow")
            with pyarrow.OSFile(file, "wb") as out, pyarrow.ipc.new_stream(out, table.schema) as stream:
                stream.write_table(piece)
        (folder / "cache-0123.arrow").write_bytes(b"not part of it")
    return tmp_path / "data"


def test_reading(data):
    items = list(dataset.read_questions(dataset.read_rows(str(data)), CLIPS))
    assert [item.id for item in items] == [f"q{i}" for i in range(7)]
    assert [item.part for item in items[:3]] == ["esc50", "enabirds", "zf-indiv"]
    assert items[0].query == "Question 0?"
    assert items[1].query == SHORT_QUERY  # of 34 species
    assert items[0].waveform().shape == (5 * RATE,)  # esc50 is cut at five seconds
    wave = items[2].waveform()
    assert wave.shape == (10 * RATE,)
    assert wave[5 * RATE : 6 * RATE].any()
    assert not wave[6 * RATE :].any()
    rows = dataset.read_rows(str(data))
    assert [row.id for row in rows] == [item.id for item in items]
    some = dataset.read_questions([rows[n] for n in (2, 3, 6)], CLIPS)
    assert [item.id for item in some] == ["q2", "q3", "q6"]


def test_stored_audio(tmp_path):
    """Bytes of a file with its own rate, a struct with an array, no audio, and bytes that cannot be decoded."""
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(22_050, 0.5), 22_050, format="WAV")
    item = dataset.BenchmarkItem("a", "watkins", "?", "x", {"bytes": buffer.getvalue(), "path": None}, 8_000, CLIPS)
    assert item.waveform().shape == (3 * RATE,)
    np.testing.assert_allclose(item.waveform()[4_000:12_000], 0.5, atol=1e-3)
    array = dataset.BenchmarkItem(
        "b", "x", "?", "x", {"array": [0.25] * 8_000, "sampling_rate": 8_000, "bytes": None}, RATE, CLIPS
    )
    assert np.flatnonzero(array.waveform() > 0.1).size == pytest.approx(RATE, abs=200)
    for audio in (None, {"bytes": b"RIFF"}, []):
        with pytest.raises(Exception, match=r"audio|samples"):
            dataset.BenchmarkItem("c", "x", "?", "x", audio, RATE, CLIPS).waveform()


def answer(folder, data, *, process=0, processes=1, limit=0):
    """Answers with a stand-in model: (ids of questions put to it, number without an answer, progress)."""
    ids, progress, rows = [], [], dataset.read_rows(str(data))

    def reply(questions, waveforms):
        ids.extend(question.id for question in questions)
        return [Reply(f"answer {len(wave)}") for wave in waveforms]

    todo, _ = runner.select_rows(rows, (), limit, process, processes, count_answered(folder))
    writer = PredictionWriter(folder, "" if processes == 1 else f".{process}-of-{processes}")
    questions = dataset.read_questions((rows[index] for index in todo), CLIPS)
    failed = runner.answer(questions, reply, writer, 2, progress.append)
    return ids, failed, sum(progress)


def test_resuming(tmp_path, data):
    ids, failed, progress = answer(tmp_path / "out", data, limit=2)
    assert (sorted(ids), failed, progress) == (["q0", "q1", "q2", "q3", "q4"], 1, 6)  # q5 has no samples
    errors = [json.loads(text) for text in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert [(row["id"], row["dataset_name"]) for row in errors] == [("q5", "zf-indiv")]
    assert "holds no" in errors[0]["error"]
    file = tmp_path / "out" / "predictions.jsonl"
    first = file.read_text()
    file.write_text(first[: first.rindex('"q4"')])  # killed in the middle of a line
    ids, _, _ = answer(tmp_path / "out", data, limit=2)
    assert ids == ["q4"]
    assert [a.id for a in read_predictions(file)] == ["q0", "q1", "q2", "q3", "q4"]
    assert json.loads(file.read_text().splitlines()[0]).keys() == {"prediction", "label", "id", "dataset_name"}


def test_processes_share_the_questions(tmp_path, data):
    folder = tmp_path / "out"
    shares = [answer(folder, data, process=process, processes=3)[0] for process in range(3)]
    assert sorted(id_ for share in shares for id_ in share) == ["q0", "q1", "q2", "q3", "q4", "q6"]
    assert answer(folder, data)[0] == []  # a single process then has nothing left to answer
    assert len(read_folder(folder)) == 6


def test_a_repeated_id_is_answered_twice():
    rows = [dataset.BenchmarkRow(id_, "x", "label") for id_ in ("a", "a", "b")]
    assert runner.select_rows(rows, (), 0, 0, 1, collections.Counter()) == ([0, 1, 2], 3)
    assert runner.select_rows(rows, (), 0, 0, 1, collections.Counter([("x", "a")])) == ([1, 2], 3)


def test_another_process_may_be_writing(tmp_path):
    """A truncated line in another process's file is neither counted nor removed."""
    write_predictions(tmp_path / "predictions.0-of-2.jsonl", [PredictionRow("a", "a", "1", "x")])
    incomplete = tmp_path / "predictions.1-of-2.jsonl"
    incomplete.write_text('{"prediction": "a", "la')
    assert count_answered(tmp_path) == {("x", "1"): 1}
    assert [a.id for a in read_folder(tmp_path)] == ["1"]
    assert incomplete.read_text() == '{"prediction": "a", "la'


@pytest.fixture(scope="module")
def synthetic_data(tmp_path_factory):
    """Five parts, two questions each: every kind, and clips of two lengths."""
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    return synthetic.write(folder, 2, ("zf-indiv", "hiceas", "captioning", "call-type", "watkins"))


def test_alphas_from_one_load(nlm, golden, tmp_path, synthetic_data, monkeypatch):
    """Each alpha gives the predictions of a model loaded with it, in a folder of its own; a page compares all."""
    from nlm_jax import NatureLM

    loads, load = [], NatureLM.from_pretrained.__func__
    counting = classmethod(lambda cls, *args, **options: loads.append(args) or load(cls, *args, **options))
    monkeypatch.setattr(NatureLM, "from_pretrained", counting)
    out, model = tmp_path / "out", (golden / "model", golden / "qformer_config.json")
    flags = ("evaluate", f"--model={model[0]}", f"--qformer-config={model[1]}", f"--data={synthetic_data}")
    flags += (f"--out={out}",)
    flags += ("--max-new-tokens=4", "--dtype=float32", "--batch-size=2", "--limit=1", "--parts", "zf-indiv", "hiceas")
    status, printed, err = nlm(*flags, "--merging-alpha", "0", "0.5", "1")
    assert status == 0, err
    assert len(loads) == 1
    assert "by merging alpha" in printed
    sweep = json.loads((out / "sweep.json").read_text())
    assert list(sweep) == ["0", "0.5", "1"]
    assert "<svg" in (out / "report.html").read_text()
    half = NatureLM.from_pretrained(model[0], dtype="float32", qformer_config=model[1], merging_alpha=0.5)
    items = list(dataset.read_questions(dataset.read_rows(str(synthetic_data))[:4:2], half.config.audio))
    texts = half.generate([i.waveform() for i in items], [i.query for i in items], max_new_tokens=4)
    predictions = {a.id: a.prediction for a in read_predictions(out / "alpha-0.5" / "predictions.jsonl")}
    assert predictions == {item.id: text for item, text in zip(items, texts, strict=True)}
    for alpha in ("0", "0.5", "1"):
        folder = out / f"alpha-{alpha}"
        assert json.loads((folder / "metrics.json").read_text()) == sweep[alpha]
        assert "data:audio/mpeg;base64," in (folder / "report.html").read_text()
    assert nlm(*flags, "--merging-alpha", "0", "0.5", "1")[0] == 0
    assert len(loads) == 2  # the second is this test's own: every question was answered
    # All predictions of a folder are made with the same settings.
    flags = tuple(flag.replace(str(out), str(out / "alpha-0.5")) for flag in flags)
    status, _, err = nlm(*flags, "--merging-alpha", "0.7")
    assert status == 2
    assert "contains predictions made with merging_alpha=0.5, not 0.7; give another --out" in " ".join(err.split())
    # A folder of predictions is scored without a model.
    status, printed, _ = nlm("evaluate", f"--predictions={out / 'alpha-1'}", f"--out={tmp_path / 'again'}")
    assert status == 0
    assert "2 predictions scored" in " ".join(printed.split())
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == sweep["1"]


class Scorer:
    """A stand-in for a model: the score of a label is the length of its name, that of "None" is 9."""

    config = argparse.Namespace(audio=CLIPS)

    def score(self, audios, queries, candidates, normalize, batch_size):
        assert (normalize, batch_size) == ("mean", 3)
        assert len(audios) == len(queries) == len(candidates)
        return [np.array([9.0 if n == "None" else len(n) for n in names], np.float32) for names in candidates]

    def generate(self, audios, queries, **options):
        return ["a caption" for _ in audios]


def test_labels_are_scored(tmp_path, synthetic_data, monkeypatch):
    """`--score labels`: the most likely label, of a detection all above "None"; the scores are written, and rank."""
    args = argparse.Namespace(
        data=str(synthetic_data), out=tmp_path / "out", limit=0, batch_size=3, shard="0/1", parts=(),
        merging_alpha=[1.0], score="labels", normalize="mean", num_beams=1, max_new_tokens=5, model="m",
    )  # fmt: skip
    monkeypatch.setattr(predict, "load_model", lambda args: Scorer())
    list(predict.answer_by_alpha(args, {"call-type": ["call", "song", "drumming"]}, Console()))
    predictions = {a.id: a for a in read_folder(tmp_path / "out")}
    assert predictions["zf-indiv-0000"].prediction == "More"
    assert predictions["call-type-0000"].prediction == "drumming"
    assert predictions["watkins-0001"].prediction == "Short-Finned Pacific Pilot Whale"
    assert predictions["hiceas-0000"].prediction == "Minke whale"
    assert predictions["hiceas-0000"].scores == {"Minke whale": 2.0}
    assert predictions["captioning-0000"].prediction == "a caption"  # there are no candidate labels
    assert predictions["captioning-0000"].scores is None
    lines = (tmp_path / "out" / "label_scores.jsonl").read_text().splitlines()
    assert {"id", "dataset_name", "scores"} == json.loads(lines[0]).keys()
    assert len(lines) == 8


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "give either --predictions to score, or --model and --data"),
        (("--model=x",), "--model needs --data"),
        (("--model=x", "--data=missing/folder/here"), "no such file or folder"),
        (("--model=x", "--data=.", "--parts", "zebra"), "--parts zebra: no such part"),
        (("--model=x", "--data=.", "--shard=4/4"), "--shard 4/4: write NUMBER/OF"),
        (("--model=x", "--data=empty"), "neither Parquet files nor a folder"),
        (("--model=x", "--data=.", "--limit=-1"), "--limit must not be negative"),
        (("--model=x", "--data=.", "--merging-alpha", "nan"), "--merging-alpha: give numbers"),
        (("--model=x", "--data=.", "--num-beams=0"), "--num-beams must be at least 1"),
        (("--synthetic=empty", "--data=x"), "leave --data out"),
        (("--synthetic=full",), "full: contains other files; give a new folder"),
        (("--predictions=full",), "full: contains no predictions*.jsonl"),
        (("--predictions=full/a.jsonl", "--out=full/a.jsonl"), "is a file; give a folder"),
        (("--model=x", "--data=full/bad.parquet"), "bad.parquet: not a readable parquet file"),
    ],
)
def test_invalid_flags(nlm, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    for name in ("a.jsonl", "bad.parquet"):
        (tmp_path / "full" / name).write_text("{}")
    out = () if any(flag.startswith("--out") for flag in argv) else ("--out=out",)
    status, _, err = nlm("evaluate", *out, *argv)
    assert status == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_datasets_without_a_column(nlm, tmp_path):
    good = rows()[:1]
    for name, row, message in (
        ("a", [{"id": "a", "audio": [0.0]}], "no column 'dataset_name'"),
        ("b", [{k: v for k, v in good[0].items() if k != "metadata"}], "no column 'metadata'"),
        ("c", [good[0] | {"metadata": "{"}], "metadata of q0 is not JSON"),
    ):
        parquet.write_table(pyarrow.Table.from_pylist(row), tmp_path / f"{name}.parquet")
        if name == "c":
            with pytest.raises(Exception, match=message):
                list(dataset.read_questions(dataset.read_rows(str(tmp_path / "c.parquet")), CLIPS))
            continue
        status, _, err = nlm("evaluate", "--model=x", f"--data={tmp_path / name}.parquet", f"--out={tmp_path / 'out'}")
        assert status == 2
        assert message in err
