"""`nlm evaluate` with a model, on a synthetic dataset of BEANS-Zero's shape in each of its formats."""

import argparse
import collections
import json

import numpy as np
import pytest
from rich.console import Console

from nlm_jax.audio.config import AudioConfig
from nlm_jax.evaluate import prediction_files, runner
from nlm_jax.evaluate.beans_zero import dataset, synthetic
from nlm_jax.evaluate.beans_zero import predict as making
from nlm_jax.evaluate.beans_zero.parts import SHORT_QUESTION

pyarrow = pytest.importorskip("pyarrow", reason="the benchmark's formats need pyarrow: pip install nlm_jax[data]")
parquet = pytest.importorskip("pyarrow.parquet")

RATE = 16_000
CLIPS = AudioConfig()


def rows():
    """Seven questions of three parts; one of them has no audio."""
    rng, made = np.random.default_rng(0), []
    for i in range(7):
        part = ("esc50", "enabirds", "zf-indiv")[i % 3]
        audio = [] if i == 5 else rng.uniform(-0.2, 0.2, RATE * 6).astype(np.float32).tolist()
        made.append(
            {
                "source_dataset": "made",
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
    return made


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
    items = list(dataset.read(dataset.heads(str(data)), CLIPS))
    assert [item.id for item in items] == [f"q{i}" for i in range(7)]
    assert [item.part for item in items[:3]] == ["esc50", "enabirds", "zf-indiv"]
    assert items[0].question == "Question 0?"
    assert items[1].question == SHORT_QUESTION  # of 34 species
    assert items[0].waveform().shape == (5 * RATE,)  # esc50 is cut at five seconds, and heard as that
    wave = items[2].waveform()
    assert wave.shape == (10 * RATE,)
    assert wave[5 * RATE : 6 * RATE].any()
    assert not wave[6 * RATE :].any()
    assert [head.id for head in dataset.heads(str(data))] == [item.id for item in items]
    assert [item.id for item in dataset.read([dataset.heads(str(data))[n] for n in (2, 3, 6)], CLIPS)] == [
        "q2",
        "q3",
        "q6",
    ]


def test_stored_sounds(tmp_path):
    """Bytes of a file with its own rate, a struct with an array, none at all, and bytes that are no sound."""
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(22_050, 0.5), 22_050, format="WAV")
    item = dataset.Item("a", "watkins", "?", "x", {"bytes": buffer.getvalue(), "path": None}, 8_000, CLIPS)
    assert item.waveform().shape == (3 * RATE,)
    np.testing.assert_allclose(item.waveform()[4_000:12_000], 0.5, atol=1e-3)
    array = dataset.Item(
        "b", "x", "?", "x", {"array": [0.25] * 8_000, "sampling_rate": 8_000, "bytes": None}, RATE, CLIPS
    )
    assert np.flatnonzero(array.waveform() > 0.1).size == pytest.approx(RATE, abs=200)
    for audio in (None, {"bytes": b"RIFF"}, []):
        with pytest.raises(Exception, match=r"audio|samples"):
            dataset.Item("c", "x", "?", "x", audio, RATE, CLIPS).waveform()


def ask(folder, data, *, number=0, of=1, limit=0, parts=(), batch=2):
    """Answers with a stand-in model: (questions asked, what could not be answered, steps told)."""
    asked, told, heads = [], [], dataset.heads(str(data))

    def replies(items, waves):
        asked.extend(item.id for item in items)
        return [runner.Reply(f"answer {len(wave)}") for wave in waves]

    todo, _ = runner.plan(heads, parts, limit, number, of, runner.known(folder))
    mark = "" if of == 1 else f".{number}-of-{of}"
    failed = runner.answer(dataset.read((heads[row] for row in todo), CLIPS), replies, folder, mark, batch, told.append)
    return asked, failed, sum(told)


def test_answers_go_on_where_they_stopped(tmp_path, data):
    asked, failed, told = ask(tmp_path / "out", data, limit=2)
    assert (sorted(asked), failed, told) == (["q0", "q1", "q2", "q3", "q4"], 1, 6)  # q5 holds no samples
    bad = [json.loads(text) for text in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert [(row["id"], row["dataset_name"]) for row in bad] == [("q5", "zf-indiv")]
    assert "holds no" in bad[0]["error"]
    file = tmp_path / "out" / "predictions.jsonl"
    first = file.read_text()
    file.write_text(first[: first.rindex('"q4"')])  # killed in the middle of a line
    asked, _, _ = ask(tmp_path / "out", data, limit=2)
    assert asked == ["q4"]
    assert [a.id for a in prediction_files.read(file)] == ["q0", "q1", "q2", "q3", "q4"]
    assert json.loads(file.read_text().splitlines()[0]).keys() == {"prediction", "label", "id", "dataset_name"}


def test_processes_share_the_questions(tmp_path, data):
    folder = tmp_path / "out"
    shares = [ask(folder, data, number=number, of=3)[0] for number in range(3)]
    assert sorted(id_ for share in shares for id_ in share) == ["q0", "q1", "q2", "q3", "q4", "q6"]
    assert ask(folder, data)[0] == []  # and a process alone has nothing left to do
    assert len(making.gathered(folder, Console())) == 6


def test_an_id_that_stands_twice_is_asked_twice():
    heads = [dataset.Head("a", "x", "l"), dataset.Head("a", "x", "l"), dataset.Head("b", "x", "l")]
    assert runner.plan(heads, (), 0, 0, 1, collections.Counter()) == ([0, 1, 2], 3)
    assert runner.plan(heads, (), 0, 0, 1, collections.Counter([("x", "a")])) == ([1, 2], 3)


def test_another_process_may_be_writing(tmp_path):
    """A line that is cut short in another's file is neither counted nor removed."""
    prediction_files.write(tmp_path / "predictions.0-of-2.jsonl", [prediction_files.Answer("a", "a", "1", "x")])
    growing = tmp_path / "predictions.1-of-2.jsonl"
    growing.write_text('{"prediction": "a", "la')
    assert runner.known(tmp_path) == {("x", "1"): 1}
    assert [a.id for a in making.gathered(tmp_path, Console())] == ["1"]
    assert growing.read_text() == '{"prediction": "a", "la'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Five parts of the made dataset, two questions each: every kind, and clips of two lengths."""
    folder = tmp_path_factory.mktemp("made") / "data"
    return synthetic.write(folder, 2, ("zf-indiv", "hiceas", "captioning", "call-type", "watkins"))


def test_alphas_from_one_load(nlm, golden, tmp_path, made, monkeypatch):
    """Each alpha answers as a model that was loaded with it, its outcome in a folder, all of them side by side."""
    from nlm_jax import NatureLM

    loads, load = [], NatureLM.from_pretrained.__func__
    counting = classmethod(lambda cls, *args, **options: loads.append(args) or load(cls, *args, **options))
    monkeypatch.setattr(NatureLM, "from_pretrained", counting)
    out, model = tmp_path / "out", (golden / "model", golden / "qformer_config.json")
    flags = ("evaluate", f"--model={model[0]}", f"--qformer-config={model[1]}", f"--data={made}", f"--out={out}")
    flags += ("--max-new-tokens=4", "--dtype=float32", "--batch-size=2", "--limit=1", "--parts", "zf-indiv", "hiceas")
    status, printed, err = nlm(*flags, "--merging-alpha", "0", "0.5", "1")
    assert status == 0, err
    assert len(loads) == 1
    assert "by merging alpha" in printed
    sweep = json.loads((out / "sweep.json").read_text())
    assert list(sweep) == ["0", "0.5", "1"]
    assert "<svg" in (out / "report.html").read_text()
    half = NatureLM.from_pretrained(model[0], dtype="float32", qformer_config=model[1], merging_alpha=0.5)
    items = list(dataset.read(dataset.heads(str(made))[:4:2], half.config.audio))
    texts = half.generate([i.waveform() for i in items], [i.question for i in items], max_new_tokens=4)
    there = {a.id: a.prediction for a in prediction_files.read(out / "alpha-0.5" / "predictions.jsonl")}
    assert there == {item.id: text for item, text in zip(items, texts, strict=True)}
    for alpha in ("0", "0.5", "1"):
        folder = out / f"alpha-{alpha}"
        assert json.loads((folder / "metrics.json").read_text()) == sweep[alpha]
        assert "data:audio/mpeg;base64," in (folder / "report.html").read_text()
    assert nlm(*flags, "--merging-alpha", "0", "0.5", "1")[0] == 0
    assert len(loads) == 2  # the one of this test: nothing was left to answer
    # What a folder holds was made in one way.
    flags = tuple(flag.replace(str(out), str(out / "alpha-0.5")) for flag in flags)
    status, _, err = nlm(*flags, "--merging-alpha", "0.7")
    assert status == 2
    assert "holds answers made with merging_alpha=0.5, not 0.7; give another --out" in " ".join(err.split())
    # And its answers are scored as they are.
    status, printed, _ = nlm("evaluate", f"--predictions={out / 'alpha-1'}", f"--out={tmp_path / 'again'}")
    assert status == 0
    assert "2 answers scored" in " ".join(printed.split())
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == sweep["1"]


class Scorer:
    """A stand-in for a model: it finds the label likeliest whose name is longest, and "None" as likely as 9 letters."""

    config = argparse.Namespace(audio=CLIPS)

    def score(self, audios, queries, candidates, normalize, batch_size):
        assert (normalize, batch_size) == ("mean", 3)
        assert len(audios) == len(queries) == len(candidates)
        return [np.array([9.0 if n == "None" else len(n) for n in names], np.float32) for names in candidates]

    def generate(self, audios, queries, **options):
        return ["a caption" for _ in audios]


def test_labels_are_scored(tmp_path, made, monkeypatch):
    """`--score labels`: the likeliest label, of a detection all above "None"; the numbers are kept, and rank."""
    args = argparse.Namespace(
        data=str(made), limit=0, batch_size=3, shard="0/1", parts=(), merging_alpha=[1.0], out=tmp_path / "out",
        score="labels", normalize="mean", num_beams=1, max_new_tokens=5, model="m",
    )  # fmt: skip
    monkeypatch.setattr(making, "loaded", lambda _: Scorer())
    list(making.made(args, {"call-type": ["call", "song", "drumming"]}, Console()))
    found = {a.id: a for a in making.gathered(tmp_path / "out", Console())}
    assert found["zf-indiv-0000"].prediction == "More"
    assert found["call-type-0000"].prediction == "drumming"
    assert found["watkins-0001"].prediction == "Short-Finned Pacific Pilot Whale"
    assert found["hiceas-0000"].prediction == "Minke whale"
    assert found["hiceas-0000"].scores == {"Minke whale": 2.0}
    assert found["captioning-0000"].prediction == "a caption"  # there is no label to choose
    assert found["captioning-0000"].scores is None
    lines = (tmp_path / "out" / "label_scores.jsonl").read_text().splitlines()
    assert {"id", "dataset_name", "scores"} == json.loads(lines[0]).keys()
    assert len(lines) == 8


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((), "give --predictions with answers to score, or --model and --data"),
        (("--model=x",), "--model needs --data"),
        (("--model=x", "--data=missing/folder/here"), "no such file or folder"),
        (("--model=x", "--data=.", "--parts", "zebra"), "--parts zebra: no such part"),
        (("--model=x", "--data=.", "--shard=4/4"), "--shard 4/4: write NUMBER/OF"),
        (("--model=x", "--data=empty"), "neither Parquet files nor a folder"),
        (("--model=x", "--data=.", "--limit=-1"), "--limit must not be negative"),
        (("--model=x", "--data=.", "--merging-alpha", "nan"), "--merging-alpha: give numbers"),
        (("--model=x", "--data=.", "--num-beams=0"), "--num-beams must be at least 1"),
        (("--synthetic=empty", "--data=x"), "leave --data out"),
        (("--synthetic=full",), "full: holds something else; give a new folder"),
        (("--predictions=full",), "full: holds no predictions*.jsonl"),
        (("--predictions=full/a.jsonl", "--out=full/a.jsonl"), "is a file; give a folder"),
        (("--model=x", "--data=full/bad.parquet"), "bad.parquet: not a readable parquet file"),
    ],
)
def test_mistakes(nlm, tmp_path, monkeypatch, argv, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    for name in ("a.jsonl", "bad.parquet"):
        (tmp_path / "full" / name).write_text("{}")
    out = () if any(flag.startswith("--out") for flag in argv) else ("--out=out",)
    status, _, err = nlm("evaluate", *out, *argv)
    assert status == 2
    assert says in " ".join(err.split())
    assert "Traceback" not in err


def test_datasets_that_lack_something(nlm, tmp_path):
    good = rows()[:1]
    for name, row, says in (
        ("a", [{"id": "a", "audio": [0.0]}], "no column 'dataset_name'"),
        ("b", [{k: v for k, v in good[0].items() if k != "metadata"}], "no column 'metadata'"),
        ("c", [good[0] | {"metadata": "{"}], "metadata of q0 is not JSON"),
    ):
        parquet.write_table(pyarrow.Table.from_pylist(row), tmp_path / f"{name}.parquet")
        if name == "c":
            with pytest.raises(Exception, match=says):
                list(dataset.read(dataset.heads(str(tmp_path / "c.parquet")), CLIPS))
            continue
        status, _, err = nlm("evaluate", "--model=x", f"--data={tmp_path / name}.parquet", f"--out={tmp_path / 'out'}")
        assert status == 2
        assert says in err
