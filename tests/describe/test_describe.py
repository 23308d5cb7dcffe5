"""nlm data describe: numbers of a corpus that is known exactly, a page that is whole, mistakes in one sentence."""

import html.parser
import json
import re
import shutil

import fsspec
import numpy as np
import pytest
import soundfile

from nlm_jax.core.chat import DEFAULT_END_SYM, DEFAULT_TEMPLATE
from nlm_jax.data.dataset import Corpus
from nlm_jax.describe import index, levels, show
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare

T = 16_000
CROW = "Chordata;Aves;Passeriformes;Corvidae;Corvus;Corvus corone"


class Whole(html.parser.HTMLParser):
    """Collects what a page asks for from elsewhere, and that every tag is closed."""

    VOID = ("meta", "img", "br", "line", "rect", "link", "polyline")

    def __init__(self):
        super().__init__()
        self.open, self.outside, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self.outside += [v for k, v in attributes if k in ("src", "href") and not v.startswith("data:")]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(folder):
    """describe.json, and the text of describe.html after checking that it is whole."""
    page = Whole()
    content = (folder / "describe.html").read_text(encoding="utf-8")
    page.feed(content)
    assert not page.open
    assert not page.outside
    assert content.count("<audio ") == content.count("<img ")
    return json.loads((folder / "describe.json").read_text(encoding="utf-8")), " ".join(page.text)


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory):
    """Four recordings, 2 s at -9 dBFS, 1 s silent, 1 s clipped and 4 s half silent; a fifth is missing."""
    folder = tmp_path_factory.mktemp("known")
    tone = np.sin(2 * np.pi * 500 * np.arange(4 * T) / T).astype(np.float32)
    half = np.where(np.arange(4 * T) < 2 * T, 0.5 * tone, 0.0)
    for name, wave in (
        ("tone.wav", 0.5 * tone[: 2 * T]), ("silent.wav", 0 * tone[:T]),
        ("clipped.wav", np.clip(3 * tone[:T], -1, 1)), ("half.wav", half),
    ):  # fmt: skip
        soundfile.write(folder / name, wave, T)
    question = "Which of these, if any, are present? crow, owl, None"
    crow = {"path": "tone.wav", "label": "crow", "domain": "animal", "licence": "CC0", "split": "train",
            "extra_tasks": [{"task": "common-simple-detection", "prompt": question, "text": "crow"}]}  # fmt: skip
    rows = [
        {**crow, "task": "common-name", "prompt": "What is it?", "text": "Crow"},
        {
            "path": "half.wav",
            "task": "pitch",
            "prompt": "How high?",
            "text": "500",
            "domain": "music",
            "licence": "CC-BY",
        },
        {"path": "silent.wav", "task": "common-name", "prompt": "Hm?", "text": "<b>wren</b>", "label": "<wren>"},
        {
            "id": "pair",
            "files": ["clipped.wav", "tone.wav"],
            "task": "same",
            "prompt": "Same?",
            "text": "no",
            "label": "crow",
        },
        {"path": "missing.wav", "task": "common-name", "prompt": "What is it?", "text": "Crow", "label": "crow"},
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = folder / "known"
    prepare(PrepareOptions(folder / "rows.jsonl", out, encoding="pcm16"))
    taxa = json.loads((out / "index" / "taxa.json").read_text())
    (out / "index" / "taxa.json").write_text(json.dumps([CROW if t == "crow" else t for t in taxa]))
    return out


def test_numbers(corpus_dir, nlm, tmp_path):
    status, out, err = nlm("data", "describe", corpus_dir, "--out", tmp_path / "told", "--augmented", "--seconds", 1)
    assert status == 0, err
    assert "5 examples, 4 clips" in out
    summary, text = read(tmp_path / "told")
    assert (summary["examples"], summary["clips"]) == (5, 4)
    assert summary["hours"] == pytest.approx(8 / 3600, abs=1e-4)
    by = lambda key: {r["name"]: r for r in summary[key]}  # noqa: E731
    assert {n: r["examples"] for n, r in by("tasks").items()} == {
        "common-name": 2,
        "common-simple-detection": 1,
        "pitch": 1,
        "same": 1,
    }
    assert (by("tasks")["same"]["clips"], by("tasks")["common-name"]["clips"]) == (2, 2)
    assert by("domains")["animal"] == {"name": "animal", "examples": 2, "clips": 1, "hours": round(2 / 3600, 4)}
    assert set(by("licences")) == {"CC0", "CC-BY", "unknown"}
    assert {n: r["examples"] for n, r in by("splits").items()} == {"train": 2, "(none)": 3}
    node = summary["taxa"]["roots"][0]
    for rank, name in zip(("phylum", "class", "order", "family", "genus", "species"), CROW.split(";"), strict=True):
        assert (node["rank"], node["name"], node["examples"], node["clips"]) == (rank, name, 3, 2)
        node = node["children"][0] if node["children"] else node
    assert [one["name"] for one in summary["taxa"]["labels"]] == ["<wren>"]
    assert summary["taxa"]["unlabelled"] == 1
    labels = summary["labels"]
    assert [(r["name"], r["examples"]) for r in labels["top"]] == [("Corvus corone", 3), ("<wren>", 1)]
    assert labels["gini"] == pytest.approx(0.25)
    assert labels["effective_number"] == pytest.approx(np.exp(-(3 * np.log(3 / 4) + np.log(1 / 4)) / 4), abs=0.01)
    assert summary["durations"]["max"] == 4.0
    assert summary["levels"]["clips"] == summary["levels"]["of"] == 4
    assert summary["levels"]["clipping"]["clips"] == 1
    assert summary["levels"]["silence"]["silent_clips"] == 1
    assert summary["levels"]["silence"]["share_of_time"] == pytest.approx(3 / 8, abs=0.01)
    assert summary["levels"]["first"] == {"silent": ["silent.wav"], "clipped": ["clipped.wav"], "offset": []}
    assert "Clips that are silent throughout, first: silent.wav; all are in flagged.jsonl." in text
    flagged = [json.loads(line) for line in (tmp_path / "told" / "flagged.jsonl").read_text().splitlines()]
    assert [(one["clip"], one["is"]) for one in flagged] == [("silent.wav", ["silent"]), ("clipped.wav", ["clipped"])]
    assert summary["sources"]["rates"] == {"16000": 4}
    assert summary["sources"]["ultrasound"] == {"recordings": 0, "first": []}
    assert summary["levels"]["peak_dbfs"]["max"] == pytest.approx(0.0, abs=0.01)
    assert summary["levels"]["rms_dbfs"]["min"] == levels.FLOOR
    assert (summary["rejects"]["clips"], summary["rejects"]["examples"]) == (1, 1)
    assert summary["rejects"]["reasons"] == [
        {"reason": "...: no such file", "entries": 1, "examples": 1, "file": "missing.wav"}
    ]
    assert {r["task"]: r["answers"] for r in summary["answers"]}["common-name"] == 2
    assert "<b>wren</b>" in text  # escaped: it is text, not a tag


def test_examples_show_the_whole_prompt(corpus_dir, nlm, tmp_path):
    assert nlm("data", "describe", corpus_dir, "--out", tmp_path, "--examples", 5, "--seconds", 1)[0] == 0
    summary, text = read(tmp_path)
    assert {one["task"] for one in summary["shown"]} == {"common-name", "common-simple-detection", "pitch", "same"}
    same = next(one for one in summary["shown"] if one["task"] == "same")
    question = "<Audio><AudioHere></Audio><Audio><AudioHere></Audio> Same?"
    assert same["prompt"] == DEFAULT_TEMPLATE.replace("{}", question) + "no" + DEFAULT_END_SYM
    assert [c["name"] for c in same["clips"]] == ["clipped.wav", "tone.wav"]
    assert "<|start_header_id|>user<|end_header_id|>" in text
    assert re.search(r"<Audio><AudioHere></Audio>\s*Same\?", text)
    assert (tmp_path / "describe.html").read_text().count("<audio ") == sum(
        len(one["clips"]) for one in summary["shown"]
    )
    assert "augmented" not in summary


def test_every_augmentation_before_and_after(corpus_dir, nlm, tmp_path):
    assert (
        nlm("data", "describe", corpus_dir, "--out", tmp_path, "--augmented", "--examples", 0, "--seconds", 1)[0] == 0
    )
    summary, _ = read(tmp_path)
    pairs = {one["kind"]: one for one in summary["augmented"]}
    assert list(pairs) == list(show.KINDS)
    for kind in ("noise", "time_scale", "time_shift", "band_stop", "reverb", "gain"):
        assert pairs[kind]["after"]["parameters"], kind
        assert pairs[kind]["after"]["answer"] == pairs[kind]["answer"]
    gain = pairs["gain"]
    risen = gain["after"]["levels"][0]["rms"] - gain["levels"][0]["rms"]
    assert (
        risen == pytest.approx(gain["after"]["parameters"]["dB"], abs=0.1) or gain["after"]["levels"][0]["peak"] > -0.1
    )
    assert (pairs["none"]["task"], pairs["none"]["after"]["answer"]) == ("common-simple-detection", "None")
    assert "skipped" in pairs["mixup"]  # there is one detection question, and nothing to mix with it
    assert pairs["mixup"]["after"] is None
    again = tmp_path / "again"
    nlm("data", "describe", corpus_dir, "--out", again, "--augmented", "--examples", 0, "--seconds", 1)
    assert read(again)[0]["augmented"] == summary["augmented"]


def test_config_brings_data_ranges_and_epochs(prepared, nlm, tmp_path):
    config = tmp_path / "config.py"
    data = {
        "train": [str(prepared)],
        "rows": 4,
        "augment": {"mixup_prob": 0.25, "gain_prob": 0.5, "gain": (6.0, 6.0)},
        "mixture": {"domain": {"animal": 1.0, "speech": 1.0, "music": 0.0}, "balance": "taxon"},
    }
    run_config = {"stages": [{"name": "s", "steps": 50, "data": data}]}
    config.write_text(f"from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({run_config!r})")
    arguments = (
        "data",
        "describe",
        "--config",
        config,
        "--augmented",
        "--examples",
        1,
        "--sample",
        5,
        "--seconds",
        0.5,
    )
    status, _, err = nlm(*arguments, "--out", tmp_path / "a")
    assert status == 0, err
    summary, text = read(tmp_path / "a")
    pairs = {one["kind"]: one for one in summary["augmented"]}
    assert (pairs["gain"]["probability"], pairs["gain"]["after"]["parameters"]) == (0.5, {"dB": 6.0})
    assert set(pairs["mixup"]["after"]["answer"].split(", ")) > {pairs["mixup"]["answer"]} - {"None"}
    assert summary["levels"]["clips"] == 5
    (stage,) = summary["mixture"]
    rows = {(r["of"], r["name"]): r for r in stage["rows"]}
    assert rows["domain", "music"]["epochs"] == 0.0
    assert rows["domain", "animal"]["share"] == pytest.approx(0.5, abs=1e-3)
    assert rows["all", "everything"]["draws"] == pytest.approx(stage["examples_drawn"], rel=1e-3)
    assert "50 steps of 4 rows" in text
    nlm(*arguments, "--out", tmp_path / "b", "--config.stages.0.steps=100")
    assert read(tmp_path / "b")[0]["mixture"][0]["steps"] == 100
    config.write_text(config.read_text().replace(str(prepared), "elsewhere"))
    assert "elsewhere: no such directory" in nlm(*arguments, "--out", tmp_path / "c")[2]
    assert nlm("data", "describe", prepared, *arguments[2:], "--out", tmp_path / "c")[0] == 0
    assert read(tmp_path / "c")[0]["mixture"] == summary["mixture"]


def test_several_directories_and_what_old_ones_lack(corpus_dir, prepared, nlm, tmp_path):
    """No taxa, no list of rejects, one directory in a bucket."""
    old = tmp_path / "old"
    shutil.copytree(prepared, old)
    for file in (old / "index" / "taxon.npy", old / "index" / "taxa.json", old / "rejects.jsonl"):
        file.unlink()
    status, _, err = nlm("data", "describe", old, corpus_dir, "--out", tmp_path / "out", "--sample", 8, "--examples", 2)
    assert status == 0, err
    summary, text = read(tmp_path / "out")
    assert [d["name"] for d in summary["directories"]] == ["old", "known"]
    assert summary["examples"] == len(Corpus([prepared])) + 5
    assert summary["taxa"]["unlabelled"] == len(Corpus([prepared])) + 1
    assert summary["rejects"]["list_missing"] == ["old"]
    assert "rejects.jsonl is missing in old" in text


def test_buckets(corpus_dir, nlm, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fs = fsspec.filesystem("memory")
    fs.put(f"{corpus_dir}/", "/described/known/", recursive=True)
    status, _, err = nlm("data", "describe", "memory://described/known", "--out", tmp_path / "a", "--seconds", 1)
    assert status == 0, err
    nlm("data", "describe", corpus_dir, "--out", tmp_path / "b", "--seconds", 1)
    assert read(tmp_path / "a")[0] == read(tmp_path / "b")[0]
    fs.rm("/described", recursive=True)


def test_mistakes(corpus_dir, nlm, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "plain.py").write_text(
        "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'seed': 1})"
    )
    out = ("--out", tmp_path / "out")
    for arguments, message in (
        ((tmp_path / "nothing", *out), "nothing: no such directory"),
        ((tmp_path, *out), "no manifest.json"),
        (out, "no data given; name directories"),
        ((corpus_dir, "--out", tmp_path / "file"), "is a file; name a folder"),
        ((corpus_dir, *out, "--examples", -1), "--examples=-1: must be at least 0"),
        ((corpus_dir, *out, "--seconds", 0), "--seconds=0.0: must be positive"),
        ((corpus_dir, *out, "--config", tmp_path / "plain.py"), "has no stages"),
        ((corpus_dir, *out, "--augmentd"), "unknown argument '--augmentd'; did you mean --augmented?"),
    ):
        status, _, err = nlm("data", "describe", *arguments)
        assert status == 2, arguments
        assert message in err, err
    assert not (tmp_path / "out").exists()
    status, _, err = nlm("data")
    assert status == 2
    assert "describe" in err


# --- the parts --------------------------------------------------------------------------------------------------------
def test_gini_and_effective_number():
    assert index.gini(np.asarray([5, 5, 5])) == pytest.approx(0.0)
    assert index.gini(np.asarray([0, 0, 0, 12])) == pytest.approx(0.75)
    pairs = np.asarray([1, 2, 7, 30])
    assert index.gini(pairs) == pytest.approx(np.abs(pairs[:, None] - pairs).mean() / (2 * pairs.mean()))
    assert index.effective_number(np.asarray([4, 4, 4, 4])) == pytest.approx(4.0)
    assert index.effective_number(np.asarray([9, 0])) == pytest.approx(1.0)


def test_spread_of_nothing_one_and_equal_values():
    assert index.spread(np.zeros(0))["counts"] == []
    assert index.spread(np.asarray([3.0]))["counts"] == [1]
    assert index.spread(np.full(7, 2))["counts"] == [7]


def test_levels_of_a_wave():
    square = np.where(np.arange(T) % 100 < 50, 0.5, -0.5).astype(np.float32)
    assert levels.measure(square) == {"rms": pytest.approx(-6.02, abs=0.01), "peak": pytest.approx(-6.02, abs=0.01),
                                      "clipped": 0.0, "silent": 0.0, "offset": 0.0}  # fmt: skip
    assert levels.measure(np.zeros(0, np.float32))["silent"] == 1.0
    assert levels.runs(np.asarray([1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1], bool), 3) == 7
    assert len(set(levels.chosen(1000, 100).tolist())) == 100
    np.testing.assert_array_equal(levels.chosen(5, 0), np.arange(5))
