"""How clips are made goes with a checkpoint through every format, and comes from the data of a run."""

import dataclasses
import json
import logging

import pytest

from nlm_jax.audio.config import AudioConfig
from nlm_jax.convert import run_file
from nlm_jax.convert.audio import KEY, OFFICIAL
from nlm_jax.convert.checksums import CHECKSUMS
from nlm_jax.convert.formats import audio_config, open_checkpoint, save
from nlm_jax.core.errors import UserError
from nlm_jax.models.presets import preset

SHORT = AudioConfig(2.0, "VHQ")


@pytest.mark.parametrize("audio", [SHORT, AudioConfig(), OFFICIAL])
@pytest.mark.parametrize("format", ["naturelm", "nlm"])
def test_round_trip(golden, open_golden, tmp_path, format, audio):
    checkpoint = open_golden().lazily()
    assert checkpoint.config.audio == audio_config(golden / "model") == OFFICIAL
    checkpoint = dataclasses.replace(checkpoint, config=dataclasses.replace(checkpoint.config, audio=audio))
    save(checkpoint, tmp_path / "out", format)
    assert audio_config(tmp_path / "out") == audio
    options = {"llm": golden / "llama"} if format == "naturelm" else {}
    again = open_checkpoint(tmp_path / "out", **options)
    assert again.config.audio == audio
    save(dataclasses.replace(again.lazily(), config=dataclasses.replace(again.config, audio=OFFICIAL)),
         tmp_path / "official")  # fmt: skip
    assert KEY not in json.loads((tmp_path / "official" / "config.json").read_text())


def test_the_official_class_reads_past_it(tmp_path):
    """Its base class hands over the fields that its constructor names, and no others."""
    torch = pytest.importorskip("torch", reason="the official class is torch's")
    from huggingface_hub import PyTorchModelHubMixin

    class Official(torch.nn.Module, PyTorchModelHubMixin):
        def __init__(self, *, llama_path, max_txt_len: int = 128):
            super().__init__()
            self.given = llama_path, max_txt_len
            self.weight = torch.nn.Parameter(torch.zeros(1))

    Official(llama_path="llama").save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text()) | {"max_txt_len": 160, KEY: dataclasses.asdict(SHORT)}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert Official.from_pretrained(tmp_path, strict=True).given == ("llama", 160)


@pytest.mark.parametrize("value", [{"seconds": 0.0}, {"seconds": "long"}, {"quality": "best"}, {"length": 2.0}, [2.0]])
def test_settings_that_cannot_be(tmp_path, value):
    (tmp_path / "config.json").write_text(json.dumps({"llama_path": "x", KEY: value}))
    with pytest.raises(UserError, match=rf"config\.json: {KEY}"):
        audio_config(tmp_path)


def stage(name, seconds, *train):
    return {"name": name, "data": {"seconds": seconds, "train": train}}


def saved(step):
    """A checkpoint that was saved to its end, of which nothing but the name is read."""
    step.mkdir(parents=True)
    (step / CHECKSUMS).write_text("{}")


@pytest.mark.parametrize("old", [False, True])
def test_a_run_has_the_length_of_the_stage_that_was_saved(tmp_path, old):
    """`run.json` of versions that had no such field is read by its stages."""
    cfg = dataclasses.replace(preset("tiny"), audio=AudioConfig(2.0, "HQ" if old else "VHQ"))
    config = {"stages": [stage("stage1", 4.0), stage("stage2", 2.0)]}
    run_file.write_run(tmp_path, run_file.Run(cfg, (), {}, ("stage1", "stage2"), config))
    if old:
        content = json.loads((tmp_path / run_file.RUN).read_text())
        del content["model"]["audio"]
        (tmp_path / run_file.RUN).write_text(json.dumps(content))
    assert run_file.read_run(tmp_path).model.audio == audio_config(tmp_path) == cfg.audio
    saved(tmp_path / run_file.CHECKPOINTS / "stage1" / "last" / "10")
    assert audio_config(tmp_path) == dataclasses.replace(cfg.audio, seconds=4.0)
    saved(tmp_path / run_file.CHECKPOINTS / "stage2" / "best" / "5")
    assert audio_config(tmp_path) == cfg.audio


def test_a_new_run_hears_as_its_data_was_prepared(tmp_path, caplog):
    from nlm_jax.train.config import train_config
    from nlm_jax.train.weights import audio_of_data, resolve_model

    for name, quality in (("a", "VHQ"), ("b", "VHQ"), ("c", "kaiser_best")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps({"audio": {"quality": quality}}))

    def audio(*names):
        paths = [str(tmp_path / name) for name in names]
        return audio_of_data(train_config({"stages": [stage("s", 3.0, *paths)]}), OFFICIAL)

    assert audio("a", "b") == AudioConfig(3.0, "VHQ")
    assert audio() == audio("missing") == AudioConfig(3.0, "kaiser_best")  # of the weights it starts from
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert audio("a", "c") == AudioConfig(3.0, "VHQ")
    assert "--quality VHQ in some directories and kaiser_best in others" in caplog.text
    with pytest.raises(UserError, match="audio follows from the data"):
        resolve_model(train_config({"model": {"overrides": {"audio": {"seconds": 2.0}}}}), [], 10)
