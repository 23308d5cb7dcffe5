"""The model card of every export: metadata that the hub reads, licences of what went in, and an example that runs."""

import contextlib
import dataclasses
import io as text_io
import json
import re

import hub_files
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import yaml

from nlm_jax.convert import card, formats, io, run_file
from nlm_jax.core.tree import nest
from nlm_jax.data.text import embedded_directory
from nlm_jax.models.presets import preset

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning:peft")


@pytest.fixture(scope="module")
def exported():
    """A tiny model from nothing with the embedded tokenizer."""
    rows = json.loads((embedded_directory() / "tokenizer.json").read_text())["added_tokens"][-1]["id"] + 1
    cfg = preset("tiny")
    small = dataclasses.replace(cfg, llama=dataclasses.replace(cfg.llama, vocab=rows, layers=1))
    return dataclasses.replace(hub_files.random_checkpoint(small), tokenizer=embedded_directory())


def front(folder):
    text = (folder / "README.md").read_text()
    return yaml.safe_load(text.split("---")[1]), text


@pytest.mark.parametrize("format", sorted(formats.FORMATS))
def test_the_example_of_a_card_runs(exported, tmp_path, monkeypatch, format):
    options = {"with_base": True} if format == "peft" else {}
    formats.save(exported, tmp_path / "my model", format, **options)
    head, text = front(tmp_path / "my model")
    assert (head["pipeline_tag"], head["library_name"]) == card.KINDS[format][:2]
    assert {"audio", "bioacoustics"} <= set(head["tags"])
    assert head["license"] == "unknown"
    assert "base_model" not in head
    assert "# my model\n" in text
    assert "$" not in text
    monkeypatch.chdir(tmp_path / "my model")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with contextlib.redirect_stdout(text_io.StringIO()) as stdout:
        exec(compile(code, "README.md", "exec"), {})
    assert stdout.getvalue().strip() or format == "naturelm"


def test_a_part_in_our_own_format(exported, tmp_path, monkeypatch):
    leaves = {path: leaf for path, leaf in exported.leaves.items() if path.startswith("beats/")}
    formats.save(dataclasses.replace(exported, leaves=leaves), tmp_path / "out", "nlm")
    monkeypatch.chdir(tmp_path / "out")
    exec(re.findall(r"```python\n(.*?)```", front(tmp_path / "out")[1], re.DOTALL)[0], {})


@pytest.mark.parametrize(
    ("base", "llama", "licence", "built"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", {}, "llama3.1", True),
        ("meta-llama/Meta-Llama-3-8B", {}, "llama3", True),
        ("/data/Llama-3.2-1B", {}, "llama3.2", True),
        ("/data/model", {"vocab_size": 128256}, "llama3.1", True),
        ("/data/model", {"_name_or_path": "meta-llama/Llama-2-7b-hf"}, "llama2", True),
        ("/llama/model", {"vocab_size": 32000}, "other", False),
        ("mistralai/Mistral-7B-v0.3", {}, "other", False),
        ("", {}, "unknown", False),
    ],
)
def test_the_licence_of_the_language_model(exported, tmp_path, base, llama, licence, built):
    notes = (f"the official class reads the language model {base}", f"look into {tmp_path}/llama")
    card.write_card(dataclasses.replace(exported, base=base, llama=llama), tmp_path, "out", "naturelm", notes)
    head, text = front(tmp_path)
    assert head["license"] == licence
    assert ("Built with Llama" in text) == built
    assert head.get("base_model") == ([base] if base and not base.startswith("/") else None)
    assert "/data" not in text
    assert "/llama/model" not in text
    assert "Look into ./llama." in text


def test_a_licence_that_the_directory_states(exported, tmp_path):
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    stated = dataclasses.replace(
        exported, base=str(tmp_path / "llm"), llama={"vocab_size": exported.config.llama.vocab - 1}
    )
    assert card.language_model_licence(stated) == ("apache-2.0", "")


def test_weights_of_the_official_model_are_not_for_sale(exported, tmp_path):
    official = {"llama_path": "meta-llama/Llama-3.1-8B-Instruct"}
    base = "meta-llama/Llama-3.1-8B-Instruct"
    formats.save(dataclasses.replace(exported, official=official, base=base), tmp_path / "out", "naturelm")
    head, text = front(tmp_path / "out")
    assert (head["license"], head["license_name"]) == ("other", "llama3.1-and-cc-by-nc-sa-4.0")
    assert "non-commercial" in text
    assert "Built with Llama" in text


@pytest.fixture
def workdir(exported, tmp_path):
    """A run of two stages with validations, at the best checkpoint of the second."""
    folder = tmp_path / "run"
    with ocp.CheckpointManager(folder / run_file.CHECKPOINTS / "two" / "best") as manager:
        params = {path: jnp.asarray(leaf) for path, leaf in exported.leaves.items()}
        manager.save(40, args=ocp.args.Composite(params=ocp.args.StandardSave(nest(params))))
    stage = {
        "steps": 40,
        "data": {"train": ["/secret/place/birds"], "rows": 8, "row_clips": 2},
        "train": {"lora": True},
    }
    config = {"stages": [{"name": name} | stage for name in ("one", "two", "three")], "init": {"run": "/runs/before"}}
    run_file.write_run(folder, run_file.Run(exported.config, (), {}, ("one", "two", "three"), config))
    scores = [
        {"loss": 0.5, "accuracy": 0.9, "exact": 0.8, "task": {"naming": {"loss": 0.4, "accuracy": 1, "exact": 1}}}
    ]
    scores += [{"loss": 0.9, "accuracy": 0.1, "exact": 0.0}]
    records = [{"step": i, "kind": "valid", "stage": "two", **s} for i, s in enumerate(scores)]
    records += [{"step": 3, "kind": "valid", "stage": "one", "loss": 0.1, "accuracy": 1, "exact": 1}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


def test_what_a_run_did(workdir, tmp_path):
    """Stages as far as the checkpoint, the validation of that checkpoint, and the same by way of our own format."""
    formats.save(formats.open_checkpoint(workdir).lazily(), tmp_path / "nlm", "nlm")
    formats.save(formats.open_checkpoint(tmp_path / "nlm").lazily(), tmp_path / "out", "naturelm")
    for folder in (tmp_path / "nlm", tmp_path / "out"):
        _, text = front(folder)
        assert "starting from before." in text
        assert "| one | 40 | 16 | lora | birds |\n| two | 40 | 16 | lora | birds |\n" in text
        assert "three" not in text
        assert "| all | 0.5000 | 90.0% | 80.0% |\n| naming | 0.4000 | 100.0% | 100.0% |" in text
        assert "/secret" not in text


def test_reading_a_run_says_nothing_of_files_that_it_lacks(workdir, caplog, capfd):
    formats.open_checkpoint(workdir)
    assert "Metadata" not in caplog.text + capfd.readouterr().err


@pytest.mark.parametrize("shard", [10**9, 20_000])
def test_a_bar_has_its_total_from_the_start(exported, tmp_path, shard):
    class Bar:
        total = done = 0

        def expect(self, count):
            self.total += count

        def __call__(self, _name):
            self.done += 1
            assert self.done <= self.total

    bar = Bar()
    formats.save(exported, tmp_path / "out", "llama-merged", progress=bar, max_shard_bytes=shard)
    assert bar.done == bar.total == len(io.read_tensors(tmp_path / "out"))
    assert np.isfinite(bar.total)
