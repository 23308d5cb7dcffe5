"""The official tiny model in our code, its tolerances, and the reference's own float32 filter bank.

On quiet bins a float32 filter bank is the rounding noise of its FFT (golden/noise.json, `float32_input_noise`), and no
other FFT reproduces it. Tests that compare the model itself within 10 rounding steps therefore use `reference_fbank`,
which replaces our FFT by torch's; tests of the whole path from the waveform allow for that noise, as measured.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlm_jax.core.frames import n_frames
from nlm_jax.generate.api import NatureLM
from nlm_jax.generate.teacher_forcing import example_batch

torch = pytest.importorskip("torch", reason="the oracles need torch: pip install nlm_jax[test]")


def torch_fbank(waves: np.ndarray, window: np.ndarray, banks: np.ndarray, dtype) -> np.ndarray:
    """Kaldi's filter bank as torchaudio computes it, for f32[B, T]; the official arrays bit for bit in float32."""
    x = torch.tensor(np.asarray(waves)).to(dtype) * 2**15
    frames = x.unfold(1, 400, 160)
    frames = frames - frames.mean(-1, keepdim=True)
    frames = frames - 0.97 * torch.cat([frames[..., :1], frames[..., :-1]], -1)
    power = torch.fft.rfft(frames * torch.tensor(window).to(dtype), n=512).abs().pow(2.0)[..., :256]
    energy = (power @ torch.tensor(banks).to(dtype).T).clamp(min=torch.finfo(torch.float32).eps).log()
    return ((energy - 15.41663) / (2 * 6.55582)).to(torch.float32).numpy()


@pytest.fixture
def fbank_in(monkeypatch, arrays):
    """`fbank_in(dtype)`: the encoder uses torch's filter bank in that torch dtype from then on.

    torch's FFT depends on the processor. In float32, the stored frames of the official implementation therefore replace
    those computed here for the same samples.
    """
    golden, audio = arrays("fbank"), arrays("audio")
    stored = [(audio[n.removesuffix("__f32")], golden[n]) for n in golden.files if n.endswith("__f32")]
    window, banks = golden["povey_window"], golden["mel_filterbank"]

    def features_of(waves, dtype):
        features = torch_fbank(waves, window, banks, dtype)
        for ours, wave in zip(features, np.asarray(waves), strict=True):
            for clip, theirs in stored if dtype == torch.float32 else ():
                if np.array_equal(wave[: len(clip)], clip):
                    ours[: len(theirs)] = theirs
        return features

    def use(dtype):
        def fbank(waves):
            shape = jax.ShapeDtypeStruct((waves.shape[0], n_frames(waves.shape[1]), 128), jnp.float32)
            return jax.pure_callback(lambda w: features_of(w, dtype), shape, waves)

        jax.clear_caches()
        monkeypatch.setattr("nlm_jax.models.beats.model.fbank", fbank)

    yield use
    jax.clear_caches()


@pytest.fixture
def reference_fbank(fbank_in):
    fbank_in(torch.float32)


@pytest.fixture(scope="session")
def limit(golden):
    """`limit(file, array)`: ten times what one rounding step of the weights does to that golden array."""
    noise = json.loads((golden / "noise.json").read_text())

    def of(file: str, array: str) -> float:
        return 10 * noise["files"][file][array]["max_abs_diff"]

    of.input_noise = noise["float32_input_noise"]
    return of


@pytest.fixture(scope="session")
def arrays(golden):
    """`arrays(name)`: a golden npz."""
    return lambda name: np.load(golden / f"{name}.npz")


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
def clips(arrays):
    """`clips(name)`: a golden waveform f32[T]; the suffix "__reversed" reverses it."""
    waves = arrays("audio")

    def of(name: str) -> np.ndarray:
        base = name.removesuffix("__reversed")
        return waves[base] if base == name else waves[base][::-1]

    return of


@pytest.fixture(scope="session")
def batches(golden, arrays):
    """`batches(name)` -> prompts, texts, audios of a golden training batch."""
    info = json.loads((golden / "train_forward.json").read_text())["batches"]
    waves = arrays("train_forward")

    def of(name: str):
        batch, rows, audios = (
            info[name],
            iter(zip(waves[f"{name}__raw_wav"], info[name]["n_real_samples"], strict=True)),
            [],
        )
        for count in batch["audio_chunk_sizes"]:
            audios.append([wave[:real] for wave, real in (next(rows) for _ in range(count))])
        return batch["prompt"], batch["text"], audios

    return of


@pytest.fixture(scope="session")
def batch_for(batches):
    """`batch_for(model, name)`: a golden training batch as input of the model."""
    return lambda model, name: example_batch(model.tokenizer, model.config, *batches(name))
