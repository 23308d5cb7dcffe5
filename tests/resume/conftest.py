"""One tiny model on disk, one corpus, one compilation cache: the runs of these tests share them."""

import dataclasses
import os

import jax
import pytest
import tiny_training as tiny

from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.formats import save
from nlm_jax.data.text import Tokenizer, embedded_directory
from nlm_jax.train.config import train_config


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Every run compiles the same programs; a folder of compiled ones serves other processes too."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "compiled"
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    yield folder
    jax.config.update("jax_compilation_cache_dir", before[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return tiny.corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A directory of format nlm: the tiny model with dropout everywhere."""
    cfg = tiny.model_config(dropout=0.1)
    rows = Tokenizer.from_pretrained("embedded").vocab_size
    cfg = dataclasses.replace(cfg, llama=dataclasses.replace(cfg.llama, vocab=rows))
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save(Checkpoint(cfg, dict(tiny.params(cfg)), tokenizer=embedded_directory()), folder, "nlm")
    return folder


@pytest.fixture
def config(corpus, weights):
    """`config(**changes)`: two stages of a few steps; the second trains less than the first."""

    def make(*, mesh=(1, 8, 1), steps=(4, 3), every=2, lr=1e-3, **changes):
        def stage(number, **trains):
            data = {"train": (str(corpus),), "valid": (str(corpus),), "seconds": 1.0, "rows": 8, "threads": 2}
            data |= {"row_tokens": 160, "row_clips": 2, "row_answers": 32}
            optim = {"peak_lr": lr, "min_lr": 1e-4, "warmup_steps": 0}
            count = steps[number - 1]
            return {"name": f"stage{number}", "steps": count, "data": data, "optim": optim, "train": trains}

        return train_config(
            {
                "model": {"base_dtype": "bfloat16"},
                "init": {"naturelm": str(weights)},
                "stages": [stage(1), stage(2, beats=False)],
                "mesh": dict(zip(("data", "fsdp", "tensor"), mesh, strict=True)),
                "checkpoint": {"every": every},
                "eval": {"every": 2, "examples": 8, "answers": 0},
                "log": {"every": 1, "tensorboard": False},
                **changes,
            }
        )

    return make
