"""Both official stages from their own files: a stock Llama, a BEATs .pt, the checkpoint that their trainer saved."""

import json

import hub_files
import numpy as np
import pytest
import soundfile
import test_official
import yaml

from nlm_jax.convert.formats import open_checkpoint
from nlm_jax.convert.run_file import read_run
from nlm_jax.convert.transfer import fetch
from nlm_jax.core.config import load
from nlm_jax.data.text import Tokenizer
from nlm_jax.train import loop
from nlm_jax.train.config import Init, TrainConfig, train_config
from nlm_jax.train.weights import open_weights


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """llama/, beats.pt, checkpoint_50.pth and what it holds, rows.jsonl."""
    folder = tmp_path_factory.mktemp("official")
    llama = hub_files.stock_llama(folder / "llama")
    rows = json.loads((llama / "config.json").read_text())["vocab_size"] + 1
    checkpoint = hub_files.random_checkpoint(hub_files.model_config(rows))
    hub_files.microsoft_beats(folder / "beats", checkpoint)
    hub_files.runner_checkpoint(folder / "checkpoint_50.pth", hub_files.trained_state(folder / "state", checkpoint))
    examples = []
    for i in range(8):
        soundfile.write(folder / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 16_000), 16_000)
        examples.append({"path": f"{i}.wav", "prompt": "What is it?", "text": f"owl {i}", "task": "species"})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, examples)))
    return folder, checkpoint


def smaller(files, **paths):
    """The official file with paths of here; the numbers that make it long are smaller."""
    folder, _ = files
    paths = {"model.llama_path": str(folder / "llama"), "model.beats_path": str(folder / "beats" / "beats.pt")} | paths
    paths |= {f"datasets.{split}_ann_path": str(folder / "rows.jsonl") for split in ("train", "valid", "test")}
    numbers = {"run.iters_per_epoch": 1, "run.optims.max_epoch": 1, "run.optims.warmup_steps": 1, "run.num_workers": 0,
               "run.batch_size_train": 1, "run.accum_grad_iters": 1, "datasets.audio_max_length_seconds": 1,
               "model.lora_rank": 4, "model.lora_alpha": 8, "model.num_audio_query_token": 1}  # fmt: skip
    return test_official.stage(**paths, **numbers)


@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_official_stages_train(nlm, files, tmp_path, number):
    folder, checkpoint = files
    ckpt = {"model.ckpt": str(folder / "checkpoint_50.pth")} if number == 2 else {}
    (tmp_path / f"train_stage{number}.yml").write_text(yaml.safe_dump(smaller(files, **ckpt)))
    workdir = tmp_path / "run"
    rows = ("rows=8", "row_clips=1", "row_tokens=256", "row_answers=64")  # one for each of the devices of the tests
    machine = [f"--config.stages.0.data.{value}" for value in rows]
    machine += [
        "--config.mesh.data=8",
        "--config.mesh.fsdp=1",
        "--config.eval.answers=0",
        "--config.log.tensorboard=False",
    ]
    status, _, err = nlm("train", f"--config={tmp_path / f'train_stage{number}.yml'}", f"--workdir={workdir}", *machine)
    assert status == 0, err
    run, tokenizer = read_run(workdir), Tokenizer.from_pretrained(workdir / "tokenizer")
    assert run.model.llama.vocab == tokenizer.vocab_size == checkpoint.config.llama.vocab
    assert run.model.beats.width == 48
    first = {path: fetch(leaf) for path, leaf in open_checkpoint(workdir, which="last").lazily().leaves.items()}
    near = np.abs(first["qformer/query_tokens"] - checkpoint.leaves["qformer/query_tokens"]).max()
    assert (near < 1e-3) == (number == 2)
    stock = open_checkpoint(folder / "llama").lazily()
    assert np.array_equal(first["llama/norm/scale"], fetch(stock.leaves["llama/norm/scale"]))
    head = first["llama/lm_head/kernel"].astype("f")
    np.testing.assert_allclose(head, fetch(stock.leaves["llama/lm_head/kernel"]), rtol=2**-7)  # as bfloat16
    assert not head[:, -1].any()


def test_nothing_official_is_called_unknown(nlm, files, tmp_path, monkeypatch):
    """beats_cfg is a required field of the newer official code, `extended` one of its inference."""
    _, checkpoint = files
    sizes = open_checkpoint(smaller(files)["model"]["beats_path"]).official["beats_cfg"]
    values = smaller(files, **{"model.beats_cfg": sizes}) | {"extended": {"datasets": []}}
    (tmp_path / "s.yml").write_text(yaml.safe_dump(values))
    seen = []
    monkeypatch.setattr(loop, "train", lambda config, workdir: seen.append(open_weights(config)) or 0)
    status, _, err = nlm("train", f"--config={tmp_path / 's.yml'}", f"--workdir={tmp_path / 'run'}")
    assert status == 0
    assert "left out" in err  # bandmask and others
    assert "beats_cfg" not in err
    assert "extended" not in err
    assert seen[0].model.beats == checkpoint.config.beats


def test_an_encoder_without_weights_has_the_sizes_of_the_file(files, tmp_path):
    sizes = open_checkpoint(smaller(files)["model"]["beats_path"]).official["beats_cfg"]
    values = smaller(files, **{"model.beats_cfg": sizes, "model.beats_path": ""})
    (tmp_path / "s.yml").write_text(yaml.safe_dump(values))
    translated = test_official.translate(tmp_path / "s.yml", tmp_path / "run")
    assert open_weights(train_config(translated.config)).model.beats == files[1].config.beats


@pytest.fixture
def stage1():
    """`stage1(*overrides)`: what `nlm train --config=configs/stage1.py` opens."""
    return lambda *overrides: open_weights(train_config(load("configs/stage1.py", list(overrides), TrainConfig)))


def test_the_documented_command_of_stage_1(stage1, files, tmp_path, nlm):
    """From a Llama of the hub, and from one that was imported before; the same model either way."""
    folder, checkpoint = files
    assert nlm("import", folder / "llama", "--out", tmp_path / "llama")[0] == 0
    assert nlm("import", folder / "beats" / "beats.pt", "--out", tmp_path / "beats")[0] == 0
    for llama, beats in ((folder / "llama", folder / "beats" / "beats.pt"), (tmp_path / "llama", tmp_path / "beats")):
        weights = stage1(f"--config.init.llama={llama}", f"--config.init.beats={beats}")
        assert weights.model.llama.vocab == checkpoint.config.llama.vocab
        assert Tokenizer.from_pretrained(weights.tokenizer).pad_id == checkpoint.config.llama.vocab - 1
        assert {"llama/norm/scale", "beats/norm/scale"} <= weights.importable()
        again = [open_checkpoint(**entry) for entry in weights.imports]  # as a resumed run and an export open them
        assert [one.config for one in again] == [one.config for one in weights.opened]


def test_a_whole_model_is_no_language_model(files):
    folder, _ = files
    for field in ("llama", "beats"):
        with pytest.raises(test_official.UserError, match=rf"config\.init\.{field}=.*: holds beats, .*init\.naturelm"):
            open_weights(TrainConfig(init=Init(**{field: str(folder / "state")})))
    with pytest.raises(test_official.UserError, match="not a BEATs checkpoint"):
        open_weights(TrainConfig(init=Init(beats=str(folder / "llama"))))


def test_a_tokenizer_that_is_too_large_is_named(files):
    folder, _ = files
    (folder / "big").mkdir(exist_ok=True)
    Tokenizer.train([f"{i} owls" for i in range(4000)], 2000).save(folder / "big")
    with pytest.raises(test_official.UserError, match=r"config\.tokenizer: has \d+ tokens but .* only 518 rows"):
        open_weights(TrainConfig(tokenizer=str(folder / "big"), init=Init(llama=str(folder / "llama"))))
