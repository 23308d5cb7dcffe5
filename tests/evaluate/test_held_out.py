"""`nlm evaluate --benchmark corpus`: held-out questions of prepared data, with a stand-in for the model."""

import json

import numpy as np
import pytest

from nlm_jax import testing
from nlm_jax.cli import main
from nlm_jax.generate.api import NatureLM
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare

HELD_OUT = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two questions about each of 12 training clips and 4 held-out ones."""
    folder = tmp_path_factory.mktemp("corpus")
    files = testing.write_corpus(folder, clips=12, seconds=0.6)
    rows = files["train"].read_text().splitlines() + files["valid"].read_text().splitlines()[: 2 * HELD_OUT]
    (folder / "all.jsonl").write_text("\n".join(rows) + "\n")
    out = folder / "prepared"
    prepare(PrepareOptions(folder / "all.jsonl", out))
    return out


class Model:
    """Answers every question with the same, slightly misspelled name."""

    def __init__(self, answer):
        self.answer, self.queries = answer, []

    def generate(self, audios, queries, **_):
        self.queries += queries
        assert all(len(clips) == 1 and clips[0].shape == (160_000,) for clips in audios)
        return [self.answer] * len(queries)


@pytest.fixture
def model(monkeypatch, tmp_path):
    model = Model("Low Humer")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"llama_path": "llama"}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(NatureLM, "from_pretrained", classmethod(lambda cls, *a, **k: model))
    return model


def evaluate(data, out, *more):
    command = ["evaluate", "--benchmark", "corpus", "--model", "m", "--data", str(data), "--out", str(out)]
    return main([*command, *more])


def test_scores_and_baselines(data, model, tmp_path, capsys):
    assert evaluate(data, tmp_path / "scores") == 0
    assert len(model.queries) == 2 * HELD_OUT
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())["tasks"]
    naming = metrics["common-name"]
    assert naming["questions"] == HELD_OUT
    assert naming["accuracy"] == 0.0
    assert naming["accuracy_by_nearest_label"] == pytest.approx(1 / len(testing.NAMES))
    assert naming["logistic"] == 1.0  # tones of four pitches
    assert naming["majority"] == pytest.approx(1 / len(testing.NAMES))
    low, high = naming["interval"]
    assert 0.0 == low < high < 1.0
    page = (tmp_path / "scores" / "report.html").read_text()
    assert all(text in page for text in ("common-name", "expected: Low Hummer", "<audio", "data:image/png"))
    assert "logistic" in capsys.readouterr().out


def test_resuming(data, model, tmp_path):
    out = tmp_path / "scores"
    assert evaluate(data, out, "--limit", "2") == 0
    assert len(model.queries) == 4
    assert evaluate(data, out) == 0
    assert len(model.queries) == 2 * HELD_OUT
    answered = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len({(row["dataset_name"], row["id"]) for row in answered}) == 2 * HELD_OUT
    assert evaluate(data, out) == 0
    assert len(model.queries) == 2 * HELD_OUT


def test_a_corrupt_clip_is_skipped_and_counted(data, model, tmp_path, capsys, monkeypatch):
    from nlm_jax.data import shards

    whole = shards.decode_clip

    def decode(record, *where):
        if shards.clip_header(record)[0]["name"].endswith("valid-000.wav"):
            raise shards.CorruptRecord("valid-000.wav: damaged")
        return whole(record, *where)

    monkeypatch.setattr(shards, "decode_clip", decode)
    assert evaluate(data, tmp_path / "scores") == 0
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert metrics["left_out"] == 2
    assert metrics["tasks"]["common-name"]["questions"] == HELD_OUT - 1
    assert "2 questions were skipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--split", "tset"], "no example of split 'tset'"),
        (["--limit", "-1"], "--limit must not be negative"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--data", "nowhere"], "nowhere: no such directory"),
    ],
)
def test_invalid_flags(data, model, tmp_path, capsys, flags, message):
    assert evaluate(data, tmp_path / "scores", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "scores").exists()


def test_a_corpus_without_another_split_has_no_baselines(model, tmp_path):
    files = testing.write_corpus(tmp_path / "c", clips=4, seconds=0.6)
    prepare(PrepareOptions(files["valid"], tmp_path / "p"))
    assert evaluate(tmp_path / "p", tmp_path / "scores") == 0
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())["tasks"]
    assert "logistic" not in metrics["common-name"]
    assert np.isfinite(metrics["common-name"]["macro_recall"])
