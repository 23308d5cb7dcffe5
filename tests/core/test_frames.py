"""Frame, token and window counts against the official implementation."""

import json

from nlm_jax.core import frames


def test_windows_of_every_duration(golden):
    info = json.loads((golden / "windows.json").read_text())
    assert info["durations"]
    for row in info["durations"]:
        assert frames.n_frames(row["samples"]) == row["fbank_frames"]
        assert frames.n_tokens(row["samples"]) == row["tokens"]
        assert frames.n_windows(row["samples"]) == (row["windows"] or 0)


def test_window_settings(golden):
    for row in json.loads((golden / "windows.json").read_text())["window_variants"]:
        kernel, stride = frames.window_tokens(row["second_per_window"]), frames.window_tokens(row["second_stride"])
        assert (kernel, stride) == (row["kernel"], row["stride"])
        assert frames.n_windows(75200, kernel, stride) == row["n_windows"]


def test_frames_and_tokens_of_the_clips(golden):
    info = json.loads((golden / "beats_info.json").read_text())
    for row in (row for row in info.values() if isinstance(row, dict)):
        assert frames.n_frames(row["n_samples"]) == row["n_frames"]
        assert frames.n_tokens(row["n_samples"]) == row["n_tokens"]
