"""A run over a base in int8: it goes on without loss, and leaves over the base it was given."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load_file

from nlm_jax.convert.formats import open_checkpoint
from nlm_jax.convert.run_file import read_run
from nlm_jax.core.errors import UserError
from nlm_jax.train.config import config_dict, train_config
from nlm_jax.train.loop import train

KERNEL = "llama/layers/up_proj/kernel"


def int8(cfg, **changes):
    """The first stage alone, with an int8 base."""
    model = dataclasses.replace(cfg.model, base_dtype="int8")
    return dataclasses.replace(cfg, model=model, stages=cfg.stages[:1], **changes)


def test_imported_base(config, weights, tmp_path):
    cfg = int8(config(steps=(2, 1)))
    train(cfg, tmp_path / "run")
    digests = read_run(tmp_path / "run").digests
    assert digests[KERNEL]["dtype"] == "int8"
    assert digests[KERNEL + "_scale"]["dtype"] == "float32"
    assert not (tmp_path / "run" / "frozen.safetensors").exists() or KERNEL not in load_file(
        tmp_path / "run" / "frozen.safetensors"
    )
    # What leaves is the base as it was imported, not its rounding.
    leaves = open_checkpoint(tmp_path / "run").load().leaves
    np.testing.assert_array_equal(leaves[KERNEL], open_checkpoint(weights).load().leaves[KERNEL])


@pytest.mark.slow
def test_random_base_resumes_exactly(config, tmp_path):
    """Integers drawn at random are kept in `frozen.safetensors` as float32, and are the same when read back."""
    cfg = int8(config(init={}, tokenizer="embedded"))
    train(cfg, tmp_path / "straight")
    train(cfg, tmp_path / "halted")
    last = tmp_path / "halted" / "checkpoints" / "stage1" / "last"
    newest = max(last.iterdir(), key=lambda p: int(p.name))
    newest.rename(tmp_path / "gone")  # as if it had been killed before its last checkpoint
    train(cfg, tmp_path / "halted")
    a, b = (open_checkpoint(tmp_path / name, "run", which="last").load().leaves for name in ("straight", "halted"))
    assert set(a) == set(b)
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)


def test_an_int8_base_does_not_train(config):
    cfg = config()
    values = config_dict(int8(cfg))
    values.stages[0].train.base = True
    with pytest.raises(UserError, match=r"stages\[0\].train.base: the base is stored in int8"):
        train_config(values)
