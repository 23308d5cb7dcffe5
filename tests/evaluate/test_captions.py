"""Captions: CIDEr-D as pycocoevalcap computes it, and SPICE if Java and its jars are installed."""

import json
import pathlib
import stat
import sys

import numpy as np
import pytest

from nlm_jax.evaluate.beans_zero import spice
from nlm_jax.evaluate.beans_zero.cider import cider_d
from nlm_jax.evaluate.prediction_files import PredictionRow, write_predictions

ORACLE = json.loads((pathlib.Path(__file__).parent / "cider_oracle.json").read_text(encoding="utf-8"))


def test_cider_of_every_caption():
    """Forty captions that pycocoevalcap has scored: correct, empty, repeated, with words changed, of other scripts."""
    metrics = cider_d(ORACLE["captions"], ORACLE["references"])
    np.testing.assert_allclose(metrics, ORACLE["scores"], rtol=0, atol=1e-9)
    assert abs(np.mean(metrics) - ORACLE["mean"]) <= 1e-9


def test_cider_equals_pycocoevalcap():
    cider = pytest.importorskip("pycocoevalcap.cider.cider", reason="pip install nlm_jax[spice]")
    rng = np.random.default_rng(3)
    words = np.array(["owl", "frog", "calls", "sings", "the", "a", "while", "rain", ".", "wind"])
    pairs = [[" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(2)] for _ in range(60)]
    _, expected = cider.Cider().compute_score(
        {i: [b] for i, (_, b) in enumerate(pairs)}, {i: [a] for i, (a, _) in enumerate(pairs)}
    )
    np.testing.assert_allclose(cider_d(*zip(*pairs, strict=True)), expected, rtol=0, atol=1e-9)


JAVA = """#!{python}
import json, sys
source, target = sys.argv[4], sys.argv[6]
assert sys.argv[2:4] == ["-jar", "spice-1.0.jar"] and sys.argv[5:] == ["-out", target, "-subset", "-silent"]
rows = json.load(open(source))
same = lambda row: float(row["test"] == row["refs"][0])
scores = [{{"image_id": row["image_id"], "scores": {{"All": {{"f": same(row)}}}}}} for row in rows]
json.dump(scores[{first}:], open(target, "w"))
sys.exit({status})
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install(...)`: a `java` that scores 1 for a caption equal to its reference, and the scorer's jars."""

    def build(java=True, package=True, parser=True, first=0, status=0):
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
        (tmp_path / "bin").mkdir()
        if java:
            program = tmp_path / "bin" / "java"
            program.write_text(JAVA.format(python=sys.executable, first=first, status=status))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        folder = tmp_path / "site" / "pycocoevalcap"
        (folder / "spice" / "lib").mkdir(parents=True)
        for name in (spice.JAR, *(spice.PARSER if parser else ())):
            (folder / "spice" / name).touch()
        if package:
            (folder / "__init__.py").touch()
        else:
            monkeypatch.setattr(spice.importlib.util, "find_spec", lambda _: None)

    return build


@pytest.fixture
def captions(tmp_path):
    file = tmp_path / "captions.jsonl"
    pairs = (("an owl calls", "an owl calls"), ("a frog", "two birds over water"))
    write_predictions(
        file, [PredictionRow(prediction, label, str(i), "captioning") for i, (prediction, label) in enumerate(pairs)]
    )
    return file


def test_spider(nlm, install, captions, tmp_path):
    install()
    status, printed, _ = nlm("evaluate", f"--predictions={captions}", f"--out={tmp_path / 'out'}")
    assert status == 0
    assert "CIDEr-D only" not in printed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["beans_zero"]["captioning"]
    assert metrics["spice"] == 0.5
    assert metrics["spider_score"] == (metrics["cider"] + 0.5) / 2
    assert ".532 (table 6)" in (tmp_path / "out" / "report.html").read_text().replace("0.532", ".532")
    assert nlm("evaluate", f"--predictions={captions}", f"--out={tmp_path / 'no'}", "--no-spice")[0] == 0
    assert "spice" not in json.loads((tmp_path / "no" / "metrics.json").read_text())["beans_zero"]["captioning"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"java": False}, "SPICE needs Java, and there is no `java` on the path"),
        ({"package": False}, "SPICE needs its jar; pip install 'nlm_jax[spice]'"),
        ({"parser": False}, "SPICE lacks lib/stanford-corenlp-3.6.0.jar"),
        ({"status": 3}, "SPICE ended with status 3"),
        ({"first": 1}, "SPICE gave no score to 1 of 2 captions"),
    ],
)
def test_without_spice(nlm, install, captions, tmp_path, options, message):
    install(**options)
    status, printed, _ = nlm("evaluate", f"--predictions={captions}", f"--out={tmp_path / 'out'}")
    assert status == 0
    assert f"captions are scored by CIDEr-D only: {message}" in " ".join(printed.split())
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["beans_zero"]["captioning"]
    assert set(metrics) == {"cider", "cider_raw_times_10"}
