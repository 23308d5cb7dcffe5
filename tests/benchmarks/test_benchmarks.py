"""The benchmarks run, at sizes that take seconds, and write down what they compared. Times are not looked at."""

import dataclasses
import importlib
import json
import pathlib
import sys

import numpy as np
import pytest
import soundfile
import tiny_training as tiny

from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.formats import save
from nlm_jax.data.text import Tokenizer, embedded_directory

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """`bench(name, *flags)`: what the benchmark called `name` wrote."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def run(name, *flags):
        for module in ("common", "peer", "loader", name):
            monkeypatch.delitem(sys.modules, module, raising=False)
        file = tmp_path / f"{name}.json"
        importlib.import_module(name).main([*flags, "--repeats=1", f"--json={file}"])
        content = json.loads(file.read_text())
        assert {"date", "device", "versions", "cores"} <= set(content)
        assert all(np.isfinite(rate) and rate > 0 for rate in content["rates"].values())
        assert content["peer"] in content["rates"]
        assert len(content["rates"]) >= 2
        return content

    return run


def test_fbank(bench):
    pytest.importorskip("kaldi_native_fbank")
    pytest.importorskip("torch")
    assert float(bench("fbank", "--clips=2", "--seconds=1")["largest difference"]) < 0.1


def test_conv(bench):
    bench("conv", "--clips=1", "--tokens=32", "--width=32", "--groups=4", "--taps=8")


def test_data(bench):
    pytest.importorskip("torch")
    figures = bench("data", "--clips=24", "--kind=wav", "--rate=16000", "--seconds=0.2")
    shards = {"nlm_jax, FLAC shards", "nlm_jax, 16-bit shards", "nlm_jax, 16-bit shards, fsspec"}
    assert set(figures["rates"]) == {*shards, "nlm_jax, from files", "torch DataLoader"}


@pytest.mark.skipif(not pathlib.Path("/proc/self/smaps_rollup").is_file(), reason="memory is read where Linux says it")
def test_scale(bench, tmp_path):
    """Every process that streams is there; the same seed plans the same rows, and another mixture others."""
    flags = ("--clips=100", "--batches=2", "--workers=1", "--recordings=2")
    figures = bench("scale", "--part=memory", "--part=prepare", *flags)
    memory = ("memory: corpus", "memory: processes, main", "memory: processes, worker 1", "memory: threads, main")
    assert {name for name in figures if name.startswith("memory: ")} == set(memory)
    scale = sys.modules["scale"]
    corpus = scale.index(tmp_path / "index", 20_000)
    plain, again, full = (scale.planning(corpus, m) for m in (scale.MixtureConfig(), scale.MixtureConfig(), scale.FULL))
    assert plain["rows"] == again["rows"] != full["rows"]
    assert full["peak"] > 0


def test_startup(bench):
    pytest.importorskip("torch")
    figures = bench("startup", "--preset=tiny")
    assert figures["peak host memory, nlm_jax"].endswith("GiB")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers and peft about each other
def test_train_step(bench):
    """Both sides start near the loss of guessing: they do the same task on the same examples."""
    pytest.importorskip("torch")
    pytest.importorskip("peft")
    figures = bench("train_step", "--size=tiny", "--clips=3")
    losses = figures["loss of the first step"]
    assert all(abs(loss - np.log(513)) < 0.7 for loss in losses.values()), losses
    assert figures["useful positions, nlm_jax"].endswith("%")


def test_int8(bench, tmp_path):
    """Both roundings are eight bits of one scale a channel: they move the loss of a random model as little."""
    pytest.importorskip("qwix")
    cfg = tiny.model_config(layers=1)
    words = Tokenizer.from_pretrained("embedded").vocab_size
    cfg = dataclasses.replace(cfg, llama=dataclasses.replace(cfg.llama, vocab=words))
    checkpoint_ = Checkpoint(cfg, dict(tiny.params(cfg)), tokenizer=embedded_directory())
    save(checkpoint_, tmp_path / "model", "nlm")
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    row = {"path": "a.wav", "prompt": "What is this?", "text": "a wren", "task": "name", "split": "valid"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    flags = (f"--model={tmp_path / 'model'}", f"--data={tmp_path / 'rows.jsonl'}", "--seconds=1", "--batch=1")
    figures = bench("int8", *flags)
    assert float(figures["loss minus float32's, float32"]) == 0
    moved = [abs(float(figures[f"loss minus float32's, {name}"])) for name in ("nlm_jax int8", "qwix int8")]
    assert all(0 < m < 0.05 for m in moved), moved


def test_generate(bench):
    """Both sides decode the same ids from the same vectors of clips."""
    pytest.importorskip("torch")
    flags = ("--size=tiny", "--questions=5", "--batch=2", "--tokens=4", "--longest=6")
    figures = bench("generate", *flags)
    assert figures["answers with equal ids from equal vectors"] == "100%"
    kinds = ("mixed", "equal", "several")
    assert {f"{side}, {kind}" for side in ("nlm_jax", "transformers") for kind in kinds} == set(figures["rates"])
    assert all(float(figures[f"ratio, {kind}"]) > 0 for kind in kinds)
