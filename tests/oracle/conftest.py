"""The official tiny model in our code, its tolerances, and the reference's own float32 filter bank.

On quiet bins a float32 filter bank is the rounding noise of its FFT (golden/noise.json, `float32_input_noise`), and no
other FFT reproduces it. Tests that compare the model itself within 10 rounding steps therefore use `reference_fbank`,
which replaces our features by the official ones; tests of the whole path from the waveform allow for that noise, as
measured.
"""

import contextlib
import json

import numpy as np
import pytest

from nlm_jax.generate.api import NatureLM
from nlm_jax.generate.teacher_forcing import example_batch

torch = pytest.importorskip("torch", reason="the oracles need torch: pip install nlm_jax[test]")


@pytest.fixture
def fbank_in(golden_set):
    """`fbank_in(dtype)`: from then on the encoder's features are the reference's, computed in that numpy dtype."""
    with contextlib.ExitStack() as stack:
        yield lambda dtype: stack.enter_context(golden_set.reference_fbank(dtype))


@pytest.fixture
def reference_fbank(golden_set):
    with golden_set.reference_fbank():
        yield


@pytest.fixture(scope="session")
def limit(golden):
    """`limit(file, array)`: ten times what one rounding step of the weights does to that golden array."""
    noise = json.loads((golden / "noise.json").read_text())

    def of(file: str, array: str) -> float:
        return 10 * noise["files"][file][array]["max_abs_diff"]

    of.input_noise = noise["float32_input_noise"]
    return of


@pytest.fixture(scope="session")
def load_model(golden):
    """`load_model("model" or "fitted", merging_alpha)` as the facade, in float32."""
    loaded = {}

    def load(weights: str = "model", merging_alpha: float = 1.0) -> NatureLM:
        if (weights, merging_alpha) not in loaded:
            options = {"qformer_config": golden / "qformer_config.json"}
            src = golden / "model"
            if weights != "model":
                src = golden / "checkpoints" / f"checkpoint_{weights}_trainable_only.pth"
                options["base"] = golden / "model"
            model = NatureLM.from_pretrained(src, dtype="float32", merging_alpha=merging_alpha, **options)
            loaded[weights, merging_alpha] = model
        return loaded[weights, merging_alpha]

    return load


@pytest.fixture(scope="session")
def model(load_model) -> NatureLM:
    return load_model()


@pytest.fixture(scope="session")
def clips(golden_set, arrays):
    """`clips(name)`: a golden waveform f32[T]; the suffix "__reversed" reverses it."""

    def of(name: str) -> np.ndarray:
        arrays("audio")[name.removesuffix("__reversed")]  # skips the test if the set has no such clip
        return golden_set.clip(name)

    return of


@pytest.fixture(scope="session")
def batches(golden_set):
    """`batches(name)` -> prompts, texts, audios of a golden training batch."""
    return golden_set.batch


@pytest.fixture(scope="session")
def batch_for(batches):
    """`batch_for(model, name)`: a golden training batch as input of the model."""
    return lambda model, name: example_batch(model.tokenizer, model.config, *batches(name))
