"""The scale of samples: integers of every type, and floats that are at none."""

import numpy as np
import pytest

from nlm_jax.audio import scale
from nlm_jax.core.errors import UserError

WAVE = 0.5 * np.sin(np.arange(2000) / 9)
NOISE = np.random.default_rng(0).standard_normal(2000)


@pytest.mark.parametrize(
    ("dtype", "zero", "full"),
    [
        ("int8", 0, 128),
        ("uint8", 128, 128),
        ("int16", 0, 2**15),
        ("uint16", 2**15, 2**15),
        ("int32", 0, 2**31),
        ("int32", 0, 2**15),
        ("uint32", 2**31, 2**31),
        ("int64", 0, 2**15),
        ("int64", 0, 2**23),
        ("int64", 0, 2**31),
        ("int64", 128, 128),
        ("int64", 2**15, 2**15),
        ("uint64", 128, 128),
    ],
)
def test_integers(dtype, zero, full):
    stored = (np.rint(WAVE * full) + zero).astype(dtype)
    np.testing.assert_allclose(scale.floats(stored), WAVE, atol=1.0 / full)


def test_the_bounds_of_a_column_count_for_its_quiet_rows():
    quiet = np.asarray([0, 3, -3], np.int64)
    np.testing.assert_array_equal(scale.floats(quiet), quiet / 32768)  # never louder than it was
    np.testing.assert_array_equal(scale.floats(quiet, (-(2**23), 2**20)), quiet / 2**23)
    np.testing.assert_array_equal(scale.floats(np.full(5, 128), (7, 250)), np.zeros(5))
    np.testing.assert_array_equal(scale.floats(np.zeros(5, np.int64)), np.zeros(5))


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (WAVE * 32767, "samples reach 1638.*divide them by their full scale"),
        (np.asarray([0.0] * 99 + [2.0]), "whole numbers"),
        (WAVE * 20, "samples reach 10, .* where full scale is 1"),
        (NOISE, r"samples reach .*, 1 in the root mean square"),  # zero mean and unit variance
        (np.arange(300), "whole numbers from 0 to 299 have no certain scale"),
        (np.asarray([-(2**40), 5]), "more than 32 bits"),
        (np.asarray([True, False]), "samples of type bool"),
        (np.asarray(["a"]), "samples of type <U1"),
        (np.asarray([1j]), "samples of type complex128"),
    ],
)
def test_what_is_refused(samples, says):
    with pytest.raises(UserError, match=says):
        scale.floats(samples)


def test_floats_at_full_scale_stay():
    for samples in (WAVE, WAVE * 3.9, NOISE / 5, np.asarray([0.0, 1.0, -1.0]), np.zeros(4), np.asarray([np.nan, 0.5])):
        np.testing.assert_array_equal(scale.floats(samples), samples)


def test_a_level_in_blocks():
    level = scale.Level()
    for block in np.array_split(WAVE, 7):
        level.add(block)
    assert (level.fault(), level.samples, level.peak) == ("", 2000, np.abs(WAVE).max())
    level.add(np.asarray([32767.0]))
    assert "samples reach 32767" in level.fault()
    assert scale.Level().fault() == ""


def test_messages_about_uncertain_types():
    assert (
        scale.described(np.dtype("int64"), -20000, 20000)
        == "int64 numbers from -20000 to 20000, read as 16-bit samples"
    )
    assert scale.described(np.dtype("int64"), 3, 250).endswith("read as unsigned 8-bit samples around 128")
    for sure in ("int16", "uint8", "int32", "float32"):
        assert scale.described(np.dtype(sure), -(2**30), 2**30) == ""
