"""Official training YAML files: every name finds its place, is left out by name, or is refused by name."""

import copy
import json

import numpy as np
import pytest
import soundfile
import yaml

from nlm_jax.core.config import override
from nlm_jax.core.errors import UserError
from nlm_jax.data.config import AugmentConfig
from nlm_jax.train import loop
from nlm_jax.train.config import TrainConfig, train_config
from nlm_jax.train.official_config import NONE, translate, unprepared
from nlm_jax.train.partition import Components

TEMPLATE = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"


def stage(**changes):
    """A file of the official shape, with numbers of its own; `changes` are {"run.seed": 3}, None takes a name out."""
    values = {
        "model": {
            "llama_path": "llama-dir", "beats_path": "beats.pt", "ckpt": "", "flash_attn": "flash_attention_2",
            "freeze_beats": False, "freeze_llama": True, "use_audio_Qformer": True, "max_pooling": False,
            "downsample_factor": 8, "freeze_audio_QFormer": False, "window_level_Qformer": True,
            "num_audio_query_token": 2, "second_per_window": 0.5, "second_stride": 0.25, "audio_llama_proj_model": "",
            "freeze_audio_llama_proj": True, "lora": True, "lora_rank": 16, "lora_alpha": 24, "lora_dropout": 0.2,
            "multi_prompt": True, "prompt_template": TEMPLATE, "prompt_path": "train_prompt.json",
            "test_prompt_path": "test_prompt.json", "max_txt_len": 190, "end_sym": "<|end_of_text|>",
        },
        "datasets": {"train_ann_path": "train.jsonl", "valid_ann_path": "valid.jsonl", "test_ann_path": "test.jsonl",
                     "audio_max_length_seconds": 8},
        "run": {
            "seed": 17, "output_dir": "out", "evaluate": False, "log_freq": 7, "epoch_based": False,
            "iters_per_epoch": 1000, "accum_grad_iters": 2, "batch_size_train": 6, "batch_size_eval": 4,
            "num_workers": 0, "device": "cuda", "use_distributed": True, "amp": True, "world_size": 4,
            "dist_url": "env://", "custom_metrics": False, "decode_ratio": 0.1,
            "optims": {"max_epoch": 30, "warmup_steps": 500, "warmup_start_lr": 0, "init_lr": "8e-5", "min_lr": 2.0e-5,
                       "weight_decay": 0.04, "beta2": 0.99, "max_grad_norm": 3, "max_grad_value": 0.5,
                       "resume_epoch": True, "resume_optimizer": True},
            "augmentations": {"bandmask": 0.1, "revecho": 0.1, "timescale": 0.9, "flip": 0.1, "noise_dirs": ["n1"],
                              "noise_prob": 0.3, "time_scale_prob": 0.05, "mask_audio_prob": 0.15, "time_scale": 1.3,
                              "low_snr": -9, "high_snr": 21, "use_augmentation": True, "mixup_prob": 0.4,
                              "mixup_count": 3},
        },
        "generate": {"max_new_tokens": 50, "num_beams": 4, "do_sample": False, "min_length": 1, "temperature": 0.1,
                     "repetition_penalty": 1.0, "length_penalty": 1.0},
    }  # fmt: skip
    values = copy.deepcopy(values)
    for name, value in changes.items():
        *path, last = name.split(".")
        node = values
        for part in path:
            node = node[part]
        node[last] = value
        if value is None:
            del node[last]
    return values


@pytest.fixture
def official(tmp_path):
    """`official(**changes)`: the translated file."""

    def make(**changes):
        (tmp_path / "stage.yml").write_text(yaml.safe_dump(stage(**changes)))
        return translate(tmp_path / "stage.yml", tmp_path / "run")

    return make


def test_every_number_finds_its_place(official, tmp_path):
    translated = official()
    config = train_config(translated.config)
    (one,) = config.stages
    assert (config.seed, one.data.seed, config.log.every, config.eval.max_new_tokens) == (17, 17, 7, 50)
    assert (config.init.llama, config.init.beats, config.init.naturelm) == ("llama-dir", "beats.pt", "")
    assert (config.model.compute_dtype, config.model.base_dtype, config.model.max_txt_len) == ("bfloat16",) * 2 + (190,)
    assert config.model.overrides == {
        "qformer": {"queries": 2, "window_seconds": 0.5, "stride_seconds": 0.25},
        "llama": {"lora": {"rank": 16, "alpha": 24.0, "dropout": 0.2}},
        "prompt_template": TEMPLATE,
        "end_sym": "<|end_of_text|>",
    }
    assert one.train == Components(beats=True, qformer=True, projection=False, lora=True, base=False)
    # 6 examples on each of 4 devices, twice before a step; the schedule counted iterations.
    assert one.data.rows * one.data.row_clips == 6 * 4 * 2
    assert (one.accumulate, one.steps, one.optim.warmup_steps, one.optim.steps_per_epoch) == (2, 15_000, 250, 500)
    assert (one.optim.peak_lr, one.optim.min_lr, one.optim.warmup_start_lr) == (8e-5, 2e-5, 0.0)
    assert (one.optim.weight_decay, one.optim.beta2) == (0.04, 0.99)
    assert (one.optim.max_grad_norm, one.optim.max_grad_value) == (3.0, 0.5)
    assert one.data.seconds == 8.0
    assert one.data.augment == AugmentConfig(
        noise_prob=0.3, noise_snr=(-9.0, 21.0), mixup_prob=0.4, mixup_partners=3, none_prob=0.15, time_scale_prob=0.05,
        time_scale=1.3,
    )  # fmt: skip
    folder = tmp_path / "run.data"
    assert (one.data.train, one.data.valid) == ((str(folder / "train"),), (str(folder / "valid"),))
    assert translated.annotations == {str(folder / "train"): "train.jsonl", str(folder / "valid"): "valid.jsonl"}
    assert translated.tokenizer == "llama-dir"


def test_what_is_left_out_is_named(official):
    unknown, noise = official().warnings
    for name in ("bandmask", "revecho", "timescale", "flip"):
        assert f"run.augmentations.{name}" in unknown
    assert "noise_dirs" in noise
    assert "prompt_path" not in unknown
    assert "run.colour" in official(**{"run.colour": 1}).warnings[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"run.augmentations.use_augmentation": False}, lambda c: c.stages[0].data.augment == AugmentConfig()),
        ({"model.lora": False}, lambda c: not c.stages[0].train.lora and c.model.overrides["llama"]["lora"] is None),
        ({"model.freeze_beats": True}, lambda c: not c.stages[0].train.beats),
        ({"model.freeze_llama": False}, lambda c: c.stages[0].train.base),
        ({"run.amp": False}, lambda c: c.model.compute_dtype == c.model.base_dtype == "float32"),
        ({"run.optims.max_grad_norm": None}, lambda c: c.stages[0].optim.max_grad_norm == NONE),
        ({"run.optims.warmup_start_lr": None}, lambda c: c.stages[0].optim.warmup_start_lr == -1),
        ({"model.flash_attn": "eager"}, lambda c: c.model.attention == "xla"),
        ({"model.ckpt": "official-dir"}, lambda c: (c.init.naturelm, c.init.llm) == ("official-dir", "llama-dir")),
        ({"generate": None}, lambda c: c.eval.max_new_tokens == 60),
    ],
)
def test_switches(official, changes, expected):
    assert expected(train_config(official(**changes).config))


def test_a_bare_pth_gets_its_config(official, tmp_path):
    translated = official(**{"model.ckpt": "gs://b/checkpoint_50.pth"})
    config = train_config(translated.config)
    assert config.init.naturelm == "gs://b/checkpoint_50.pth"
    ((file, text),) = translated.sides.items()
    assert str(file) == config.init.config
    assert json.loads(text)["lora_rank"] == 16
    assert json.loads(text)["beats_cfg"]["encoder_layers"] == 12


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.use_audio_Qformer": False}, "model.use_audio_Qformer=False is not supported"),
        ({"run.epoch_based": True}, "run.epoch_based=True is not supported"),
        ({"model.audio_llama_proj_model": "x.pt"}, "audio_llama_proj_model='x.pt' is not supported"),
        ({"model.lora_rank": "many"}, "model.lora_rank must be int, is 'many'"),
        ({"run.optims.init_lr": "fast"}, "run.optims.init_lr must be float, is 'fast'"),
        ({"run.optims": None}, "run.optims is missing"),
        ({"model.llama_path": None}, "model.llama_path is missing"),
        ({"run.accum_grad_iters": 0}, "accum_grad_iters must be at least 1"),
        ({"model": [1]}, "model must hold names and values"),
    ],
)
def test_mistakes_are_named(official, changes, says):
    with pytest.raises(UserError, match=says.replace("[", r"\[")):
        official(**changes)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        translate(tmp_path / "x.yml", tmp_path)
    (tmp_path / "x.yml").write_text("a: [1")
    with pytest.raises(UserError, match="not YAML"):
        translate(tmp_path / "x.yml", tmp_path)


def test_annotations_that_are_not_there(official):
    translated = official()
    with pytest.raises(UserError, match=r"train\.jsonl: no such file; mend datasets\.\*_ann_path"):
        unprepared(translated, train_config(translated.config))
    override(translated.config, ["--config.stages.0.data.train=('d',)", "--config.stages.0.data.valid=()"], TrainConfig)
    assert unprepared(translated, train_config(translated.config)) == {}


def test_the_command_prepares_and_trains(nlm, tmp_path, monkeypatch):
    """Data is ready when training begins; an override still counts."""
    rows = []
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 16_000), 16_000)
        rows.append({"path": f"{i}.wav", "prompt": "What is it?", "text": f"owl {i}", "task": "species"})
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    paths = {f"datasets.{split}_ann_path": str(tmp_path / "a.jsonl") for split in ("train", "valid")}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(stage(**paths)))
    seen = []
    monkeypatch.setattr(loop, "train", lambda config, workdir: seen.append((config, workdir)) or 0)
    flags = (f"--config={tmp_path / 's.yaml'}", f"--workdir={tmp_path / 'run'}", "--config.tokenizer=embedded")
    status, _, err = nlm("train", *flags, "--config.seed=5")
    assert status == 0, err
    assert "warning: " in err
    ((config, _),) = seen
    assert config.seed == 5
    for directory in (*config.stages[0].data.train, *config.stages[0].data.valid):
        with open(f"{directory}/manifest.json") as file:
            assert json.load(file)["examples"] == 3
