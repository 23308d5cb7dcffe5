"""The committed golden arrays: the parity table of check.py, and that they are those of the larger set."""

import contextlib

import numpy as np
import pytest
from check import FROM_OFFICIAL_FEATURES, FROM_WAVEFORMS, Checker
from golden_set import SMALL, GoldenSet, copy_small_set

IN_ORACLES = (
    *("greedy and beam answers", "gradients", "six AdamW steps", "loss"),
    *("BEATs, every stage", "windows, Q-Former, projection"),
)
"""Rows that take long and that tests/oracle compares in every run, from the same arrays."""


@pytest.fixture(scope="module")
def checker():
    return Checker(GoldenSet())


@pytest.mark.parametrize(
    "component",
    [
        pytest.param(name, marks=pytest.mark.slow if name in IN_ORACLES else ())
        for name in (*FROM_WAVEFORMS, *FROM_OFFICIAL_FEATURES)
    ],
)
def test_parity(checker, component):
    official = component in FROM_OFFICIAL_FEATURES
    compare = (FROM_WAVEFORMS | FROM_OFFICIAL_FEATURES)[component]
    with checker.golden.reference_fbank() if official else contextlib.nullcontext():
        compared = list(compare(checker))
    assert compared
    assert [c for c in compared if not c.passed] == []


def test_a_difference_is_noticed(checker):
    (exact,) = (c for c in FROM_WAVEFORMS["RoPE tables"](checker) if c.array == "rope cos")
    assert exact.passed
    assert not checker.compare("qformer", "clip_2s__audio_embeds", np.zeros((5, 64))).passed


def test_the_larger_set_holds_the_same_arrays(shared, tmp_path):
    larger = GoldenSet(shared / "golden")
    copy_small_set(tmp_path / "copy")
    for file in sorted(SMALL.glob("*.npz")):
        ours, theirs = GoldenSet().arrays(file.stem), larger.arrays(file.stem)
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name], err_msg=f"{file.stem} {name}", strict=True)
    for file in ("model/model.safetensors", "llama/model.safetensors", "llama/tokenizer.json", "prompts.json"):
        assert (tmp_path / "copy" / file).read_bytes() == (shared / "golden" / file).read_bytes()


def test_the_set_is_small():
    assert sum(file.stat().st_size for file in SMALL.rglob("*") if "__pycache__" not in file.parts) <= 4_000_000
