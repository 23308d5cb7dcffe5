"""The golden arrays: reading them, and the reference's own filter bank.

The set in this folder is a part of a larger one. Every array that is in both is the same in both.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file, save_file

from nlm_jax.core.frames import n_frames

STEPS = 10
"""Rounding steps of the weights that a difference may amount to."""
FLOOR = 1e-6
"""Differences up to this pass: arrays whose measured noise is smaller, or zero by chance."""
SMALL = pathlib.Path(__file__).resolve().parent
WAVES = {
    "beats": {"batch2": ("clip_2s", "clip_4p7s")},
    "prompt_wrap": {"": ("clip_4p7s", "clip_2s")},
    "train_forward": {
        "batch1": ("clip_4p7s", "clip_2s", "clip_4p7s__reversed"),
        "batch2": ("clip_2s", "clip_4p7s", "clip_4p7s"),
        "batch3_truncated": ("clip_4p7s", "clip_2s"),
    },
}
"""File -> batch -> its clips. The small set leaves `raw_wav` and `padding_mask` of these batches out."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An array of this package against the official one."""

    array: str
    difference: float
    """Largest absolute difference; 0 or 1 for what must be equal."""
    rounding: float = 0.0
    """Largest difference that one rounding step of the weights makes; 0 for what must be equal."""
    floor: float = 0.0

    @property
    def passed(self) -> bool:
        return self.difference <= max(STEPS * self.rounding, self.floor)


def equal(array: str, ours: Any, theirs: Any) -> Comparison:
    """A comparison of integers, texts or names."""
    same = np.array_equal(ours, theirs) if isinstance(theirs, np.ndarray) else ours == theirs
    return Comparison(array, 0.0 if same else 1.0)


def row(component_name: str, compared: list[Comparison]) -> str:
    """A line of the table."""
    worst, rounding = (max(getattr(c, field) for c in compared) for field in ("difference", "rounding"))
    texts = f"{worst:.1e}" if worst else "equal", f"{rounding:.1e}" if rounding else ""
    passed = "yes" if all(c.passed for c in compared) else "NO"
    return f"{component_name:<39} {len(compared):>6} {texts[0]:>18} {texts[1]:>17}  {passed}"


class GoldenSet:
    """A folder of golden arrays.

    Args:
      folder: the small set by default.
    """

    def __init__(self, folder: pathlib.Path = SMALL):
        self.folder = folder

    @property
    def is_small(self) -> bool:
        """Whether this is the committed set, which lacks some arrays of the larger one."""
        return not (pathlib.Path(self.folder) / "fitted_forward.npz").exists()

    def read(self, name: str) -> Any:
        """Content of a JSON file."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    @functools.lru_cache(None)  # noqa: B019  (few files, read for as long as the process lives)
    def arrays(self, file: str) -> dict[str, np.ndarray]:
        """Name -> array of `file`.npz."""
        with np.load(self.folder / f"{file}.npz") as stored:
            arrays = dict(stored)
        for batch, clips in WAVES.get(file, {}).items():
            prefix = f"{batch}__" if batch else ""
            waves = [self.clip(name) for name in clips]
            lengths = np.array([len(wave) for wave in waves])
            samples = np.arange(lengths.max())
            padded = np.stack([np.pad(wave, (0, len(samples) - len(wave))) for wave in waves])
            arrays.setdefault(f"{prefix}raw_wav", padded)
            if batch:
                arrays.setdefault(f"{prefix}padding_mask", samples >= lengths[:, None])
        return arrays

    def clip(self, name: str) -> Float[np.ndarray, "T"]:
        """A waveform at 16 kHz; `NAME__reversed` is the clip played backwards."""
        wave = self.arrays("audio")[name.removesuffix("__reversed")]
        return wave[::-1] if name.endswith("__reversed") else wave

    def batch(self, name: str) -> tuple[list[str], list[str], list[list[np.ndarray]]]:
        """Prompts, answers and clips of each example of a training batch."""
        info = self.read("train_forward.json")["batches"][name]
        waves = zip(self.arrays("train_forward")[f"{name}__raw_wav"], info["n_real_samples"], strict=True)
        audios = [[wave[:real] for wave, real in (next(waves) for _ in range(n))] for n in info["audio_chunk_sizes"]]
        return info["prompt"], info["text"], audios

    def rounding(self, file: str, array: str) -> float:
        """What one float32 rounding step of the weights, 1 + 6e-8 N(0, 1), does to an array: the largest difference."""
        return self.read("noise.json")["files"][file][array]["max_abs_diff"]

    @contextlib.contextmanager
    def reference_fbank(self, dtype: Any = np.float32) -> Iterator[None]:
        """Inside, the encoder's features are those of the reference, computed in `dtype`.

        On quiet bins a float32 filter bank is the rounding noise of its FFT (`float32_input_noise` of noise.json), and
        no other FFT reproduces it. So frames of which there are official float32 features are these.
        """
        stored, clips = self.arrays("fbank"), self.arrays("audio")
        official = [(clips[n.removesuffix("__f32")], stored[n]) for n in stored if n.endswith("__f32")]

        def features(waves):
            actual = kaldi_fbank(waves, stored["povey_window"], stored["mel_filterbank"], dtype)
            for row, wave in zip(actual, np.asarray(waves), strict=True):
                for clip, frames in official if dtype == np.float32 else ():
                    if np.array_equal(wave[: len(clip)], clip):
                        row[: len(frames)] = frames
            return actual

        def fbank(waves):
            shape = jax.ShapeDtypeStruct((waves.shape[0], n_frames(waves.shape[1]), 128), jnp.float32)
            return jax.pure_callback(features, shape, waves)

        jax.clear_caches()
        with mock.patch("nlm_jax.models.beats.model.fbank", fbank):
            yield
        jax.clear_caches()


def copy_small_set(folder: pathlib.Path) -> None:
    """Copies the committed set, with the weights of the language model alone in `llama/` as in the larger set.

    They are those of `model/` under Hugging Face's names, without adapter and without the row of [PAD].
    """
    shutil.copytree(SMALL, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    prefix, vocabulary, tensors = "llama_model.base_model.model.", 400, {}
    for name, tensor in load_file(SMALL / "model" / "model.safetensors").items():
        if name == "llama_embed_tokens.weight":
            tensors["model.embed_tokens.weight"] = tensor[:vocabulary]
        elif name == f"{prefix}lm_head.weight":
            tensors["lm_head.weight"] = tensor[:vocabulary]
        elif name.startswith(prefix) and ".lora_" not in name:
            tensors[name.removeprefix(prefix).replace(".base_layer", "")] = tensor
    save_file(tensors, folder / "llama" / "model.safetensors", metadata={"format": "pt"})


def kaldi_fbank(waves: np.ndarray, window: np.ndarray, banks: np.ndarray, dtype: Any) -> np.ndarray:
    """Kaldi's filter bank as torchaudio computes it, normalised as BEATs does.

    Args:
      waves: [B, T] waveforms.
      window: [400] analysis window.
      banks: [128, 256] triangular filters.
      dtype: of the computation.

    Returns:
      f32[B, frames, 128].
    """
    x = np.asarray(waves).astype(dtype) * dtype(2**15)
    frames = np.lib.stride_tricks.sliding_window_view(x, 400, axis=1)[:, ::160]
    frames = frames - frames.mean(-1, keepdims=True, dtype=dtype)
    frames = frames - dtype(0.97) * np.concatenate([frames[..., :1], frames[..., :-1]], -1)
    spectrum = np.fft.rfft(frames * window.astype(dtype), n=512)
    power = (np.abs(spectrum) ** 2)[..., :256]
    energy = np.log(np.maximum(power @ banks.T.astype(dtype), np.finfo(np.float32).eps))
    return ((energy - dtype(15.41663)) / dtype(2 * 6.55582)).astype(np.float32)
