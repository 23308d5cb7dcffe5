"""The report on BEANS-Zero predictions, and the synthetic dataset it is shown with."""

import html.parser
import json
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from nlm_jax.audio.config import AudioConfig
from nlm_jax.evaluate.beans_zero import dataset, published, report, synthetic
from nlm_jax.evaluate.beans_zero.parts import MAX_SECONDS, PARTS, kind_of, label_sets
from nlm_jax.evaluate.prediction_files import PredictionRow, write_predictions

pytest.importorskip("pyarrow", reason="the benchmark's formats need pyarrow: pip install nlm_jax[data]")
COLUMNS = {
    "source_dataset", "audio", "id", "metadata", "file_name", "instruction", "instruction_text", "output", "task",
    "dataset_name", "license",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """All parts, three questions each."""
    return synthetic.write(tmp_path_factory.mktemp("synthetic") / "data", 3)


def test_synthetic_dataset(data):
    items = list(dataset.read_questions(dataset.read_rows(str(data)), AudioConfig()))
    assert [item.part for item in items[::3]] == list(PARTS)
    for item in items:
        wave = item.waveform()
        assert len(wave) == 16_000 * MAX_SECONDS.get(item.part, 10.0)
        assert np.abs(wave).max() > 0.02
        assert item.query
        if kind_of(item.part) == "classification":
            assert item.label in label_sets()[item.part]
    again = {item.id: item.waveform() for item in items[:4]}
    for row in synthetic.rows(3, ["esc50"], 0):
        assert set(row) == COLUMNS
        assert json.loads(row["metadata"]).keys() == {"sample_rate", "duration"}
        assert row["instruction"] == f"<Audio><AudioHere></Audio> {row['instruction_text']}"
        rate = json.loads(row["metadata"])["sample_rate"]
        stored = dataset.BenchmarkItem(row["id"], "esc50", "", "", row["audio"], rate, AudioConfig())
        np.testing.assert_allclose(stored.waveform(), again[row["id"]], atol=1e-6)


def test_synthetic_dataset_in_the_format_of_save_to_disk(tmp_path, data):
    folder = synthetic.write(tmp_path / "disk", 3, form="arrow")
    assert json.loads((folder / "state.json").read_text())["_data_files"] == [{"filename": "data-00000-of-00001.arrow"}]
    assert dataset.read_rows(str(folder)) == dataset.read_rows(str(data))


class Page(html.parser.HTMLParser):
    """Collects the references of a page, and checks that its tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.stack, self.refers = [], []

    def handle_starttag(self, tag, attrs):
        self.refers += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_the_page(nlm, tmp_path, data):
    """Predictions for every part, half of them wrong: published scores, confusion matrices, audio; no external file."""
    questions, rows = dataset.read_rows(str(data)), []
    for number, question in enumerate(questions):
        wrong = questions[number - 1].label if number % 2 else "None"
        text = question.label if number % 3 else wrong
        rows.append(PredictionRow(text, question.label, question.id, question.part))
    rows[0] = PredictionRow("<script>alert(1)</script>", rows[0].label, rows[0].id, rows[0].dataset_name)
    write_predictions(tmp_path / "predictions.jsonl", rows)
    out = tmp_path / "out"
    flags = (f"--predictions={tmp_path / 'predictions.jsonl'}", f"--data={data}", f"--out={out}", "--no-spice")
    status, _, err = nlm("evaluate", *flags)
    assert status == 0, err
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.stack == []
    assert page.refers
    assert all(refer.startswith(("data:audio/mpeg", "data:image/png")) for refer in page.refers)
    assert "<script>" not in text
    for chart in re.findall(r"<svg.*?</svg>", text):
        xml.etree.ElementTree.fromstring(chart)
    for word in (
        "0.788 (table 3)",
        "0.609 (table 4)",
        "0.035 (table 4, its birds only)",
        "0.343 (table 5)",
        "0.794 (table 6)",
    ):
        assert word in text
    assert text.count('aria-label="confusion matrix"') > 10
    assert text.count("<audio") == text.count("<article>") > 15
    assert len(text) < 12_000_000


def test_published_scores():
    """A number of each table, by system."""
    assert tuple(published.FIGURES) == published.SYSTEMS
    assert all(part in PARTS for figures in published.FIGURES.values() for part in figures)
    assert set(published.FIGURES["NatureLM-audio"]) == set(PARTS)
    assert published.of_part("cbi").keys() == set(published.SYSTEMS)
    assert published.of_part("cbi")["Perch"] == published.Published(0.744, "table 4")
    assert published.of_part("gibbons")["BioLingual"].value == 0.018
    assert published.of_part("unknown") == {}


def test_worst_predictions():
    """The farthest of each label precedes the second of any; no correct ones; captions by CIDEr-D."""
    pairs = [("Owk", "Owl"), ("Owl", "Owl"), ("Great Tid", "Great Tit"), ("Blue Tit", "Great Tit"),
             ("Ovenbird", "Great Tit"), ("Blue Tit", "Blue Tit"), ("Blue Tit", "Ovenbird")]  # fmt: skip
    rows = [PredictionRow(text, label, str(i), "x") for i, (text, label) in enumerate(pairs)]
    assert {row.id for row in report.worst("x", rows, 2)} == {"4", "6"}
    assert [row.id for row in report.worst("x", rows, 9)][2:] == ["3"]
    captions = [("a fox barks", "a fox barks"), ("rain", "an owl calls"), ("a frog", "a frog sings")]
    rows = [PredictionRow(text, label, str(i), "captioning") for i, (text, label) in enumerate(captions)]
    assert [row.id for row in report.worst("captioning", rows, 2)] == ["1", "2"]


def test_confused_pairs_of_a_detection():
    assert report.confused_pairs(["Owl", "Fox"], ["Owl", "Cow"]) == [("Owl", "Owl"), ("Fox", "Cow")]
    assert report.confused_pairs([], []) == [("None", "None")]
    assert report.confused_pairs([], ["Owl"]) == [("None", "Owl")]
    assert report.confused_pairs(["Owl"], []) == [("Owl", "None")]
    assert report.confused_pairs(["Owl"], ["Owl"]) == [("Owl", "Owl")]


def test_confusion_matrix_of_many_labels():
    """Of forty labels those with the most errors are shown, the rest of their predictions as "other"."""
    rows = [PredictionRow(f"label {(i + i % 3) % 40:02d}", f"label {i:02d}", str(i), "x") for i in range(40)]
    chart = report.confusion_figure("x", rows)
    assert "the 20 labels with the most errors" in chart
    assert "other" in chart
    assert report.confusion_figure("x", [PredictionRow("a", "a", "0", "x")]) == ""
