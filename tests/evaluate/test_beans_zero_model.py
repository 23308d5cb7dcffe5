"""`nlm evaluate` with a model, on a synthetic dataset of BEANS-Zero's shape in each of its formats."""

import json

import numpy as np
import pytest

from nlm_jax.evaluate.beans_zero import answering, dataset, files

pyarrow = pytest.importorskip("pyarrow", reason="the benchmark's formats need pyarrow: pip install nlm_jax[data]")
parquet = pytest.importorskip("pyarrow.parquet")

RATE = 16_000


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
    """The dataset as Parquet, as `save_to_disk` writes one split, and as it writes a dictionary of splits."""
    table = pyarrow.Table.from_pylist(rows())
    folder = tmp_path / "data" / ("test" if request.param == "dict" else "")
    folder.mkdir(parents=True)
    if request.param == "parquet":
        parquet.write_table(table, folder / "part-0.parquet")
    else:
        file = str(folder / "data-00000-of-00001.arrow")
        with pyarrow.OSFile(file, "wb") as out, pyarrow.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
    return tmp_path / "data"


def test_reading(data):
    items = list(dataset.read(str(data)))
    assert [item.id for item in items] == [f"q{i}" for i in range(7)]
    assert [item.part for item in items[:3]] == ["esc50", "enabirds", "zf-indiv"]
    assert items[0].question == "Question 0?"
    assert items[1].question == "What are the common names for the species in the audio, if any?"  # of 34 species
    wave = items[0].waveform()
    assert wave.shape == (10 * RATE,)
    assert wave[: 5 * RATE].any()
    assert not wave[5 * RATE :].any()  # esc50 is cut at five seconds
    assert items[2].waveform()[5 * RATE : 6 * RATE].any()
    assert [item.id for item in dataset.read(str(data), ("zf-indiv",))] == ["q2", "q5"]


def test_answers_go_on_and_are_shared(tmp_path, data):
    asked, told = [], []

    def answers(sounds, questions):
        asked.extend(questions)
        return [f"answer {len(s)}" for s in sounds]

    file = tmp_path / "predictions.jsonl"
    failed = answering.answer(answering.share(dataset.read(str(data)), 0, 1, 2), answers, file, 2, told.append)
    assert failed == 1  # q5 holds no samples
    assert sum(told) == 6  # two of each part
    first = file.read_text()
    file.write_text(first[: first.rindex('"q4"')])  # killed in the middle of a line
    asked.clear()
    answering.answer(answering.share(dataset.read(str(data)), 0, 1, 2), answers, file, 2, told.append)
    assert sorted(a.id for a in files.read(file)) == ["q0", "q1", "q2", "q3", "q4"]
    assert len(asked) < 3
    parts = [[item.id for item in answering.share(dataset.read(str(data)), n, 2)] for n in range(2)]
    assert sorted(parts[0] + parts[1]) == [f"q{i}" for i in range(7)]
    assert not set(parts[0]) & set(parts[1])


def test_the_command(nlm, golden, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows()), data / "part-0.parquet")
    out = tmp_path / "out"
    flags = ("evaluate", f"--model={golden / 'model'}", f"--qformer-config={golden / 'qformer_config.json'}")
    flags += (f"--data={data}", f"--out={out}", "--max-new-tokens=3", "--dtype=float32")
    status, printed, err = nlm(*flags, "--limit=1", "--batch-size=2")
    assert status == 0, err
    assert "3 answers scored" in " ".join(printed.split())
    assert {a.dataset_name for a in files.read(out / "predictions.jsonl")} == {"esc50", "enabirds", "zf-indiv"}
    found = json.loads((out / "metrics.json").read_text())
    assert set(found["beans_zero"]) == {"esc50", "enabirds", "zf-indiv"}
    assert nlm("evaluate", f"--predictions={out}", f"--out={tmp_path / 'again'}")[0] == 0
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == found


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((), "give --predictions with answers to score, or --model and --data"),
        (("--model=x",), "--model needs --data"),
        (("--model=x", "--data=missing/folder/here"), "no such file or folder"),
        (("--model=x", "--data=.", "--parts", "zebra"), "--parts zebra: no such part"),
        (("--model=x", "--data=.", "--shard=4/4"), "--shard 4/4: write NUMBER/OF"),
        (("--model=x", "--data=empty"), "neither Parquet files nor a folder"),
    ],
)
def test_mistakes(nlm, tmp_path, monkeypatch, argv, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    status, _, err = nlm("evaluate", "--out=out", *argv)
    assert status == 2
    assert says in err
    assert "Traceback" not in err


def test_a_dataset_without_a_column(nlm, tmp_path):
    parquet.write_table(pyarrow.table({"id": ["a"], "audio": [[0.0]]}), tmp_path / "x.parquet")
    status, _, err = nlm("evaluate", "--model=x", f"--data={tmp_path}", f"--out={tmp_path / 'out'}")
    assert status == 2
    assert "no column 'dataset_name'" in err
