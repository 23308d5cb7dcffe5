"""A real, tiny model behind HTTP: its answers are those of `NatureLM.generate`, also in company, streamed and drawn."""

import base64
import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
import tiny_training as tiny
from serve_tools import item, predict

from nlm_jax import testing
from nlm_jax.audio.fbank import fbank
from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.core.frames import n_tokens, used_samples
from nlm_jax.core.tree import named_leaves, revision
from nlm_jax.generate import decode
from nlm_jax.generate.api import NatureLM
from nlm_jax.generate.schedule import Admission
from nlm_jax.models.beats.model import patches
from nlm_jax.serve.engine_backend import EngineBackend, loader
from nlm_jax.serve.types import ServeQuestion


class Loaded:
    """A model of random weights; how the server loads it."""

    def __init__(self):
        cfg = dataclasses.replace(testing.tiny_config(), compute_dtype="float32")
        self.model = NatureLM(Checkpoint(cfg, jax.tree.map(jnp.asarray, tiny.params(cfg))), testing.tokenizer())
        self.stages = []

    def load(self, report_stage, admission):
        def report(stage):
            self.stages.append(stage)
            report_stage(stage)

        self.backend = loader(lambda: self.model, slots=2, max_tokens=12, max_prompt=100)(report, admission)
        return self.backend

    def failed(self, error):
        raise error

    class gate:
        set = staticmethod(lambda: None)

    loaded = gate


@pytest.fixture(scope="module")
def loaded():
    return Loaded()


def test_the_engine_answers(serving, loaded):
    client = serving(loaded, batch_size=4)
    rng = np.random.default_rng(0)
    sounds = [(0.1 * rng.standard_normal(160_000)).astype(np.float32) for _ in range(3)]
    cases = [("Which species?", sounds[:1], 4), ("Caption it.", sounds[1:2], 12), ("Which one?", sounds[2:], 7)]

    def wav(sound):
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, 16_000, format="WAV", subtype="FLOAT")
        return {
            "payload_type": "base64_wav",
            "data": base64.b64encode(buffer.getvalue()).decode(),
            "sample_rate": 16_000,
        }

    items = [
        item(str(i), text, [wav(s) for s in parts], max_tokens=most) for i, (text, parts, most) in enumerate(cases)
    ]
    responses = predict(client, *items).json()["responses"]
    assert loaded.stages == ["loading weights", "compiling"]
    texts, ids = (
        loaded.model.generate([parts for _, parts, _ in cases], [t for t, *_ in cases], [m for *_, m in cases],
                              batch_size=2, return_ids=as_ids)
        for as_ids in (False, True)
    )  # fmt: skip
    assert [r["predictions"][0] for r in responses] == texts
    assert len(set(texts)) == 3
    for response, token_ids, (*_, most) in zip(responses, ids, cases, strict=True):
        assert response["usage"]["completion_tokens"] == len(token_ids) <= most
        ended = token_ids[-1] in loaded.model.tokenizer.eos_ids
        assert response["finish_reason"] == ("stop" if ended else "length")
        assert response["usage"]["prompt_tokens"] > 29  # vectors of a clip, and some words

    *pieces, last = [json.loads(x) for x in client.post("/ask", json=items[1] | {"sample_id": "x"}).text.splitlines()]
    assert last["text"] == texts[1]
    assert "".join(piece.get("text", "") for piece in pieces) == texts[1]
    assert sum("text" in piece for piece in pieces) > 1, "it came all at once"

    def drawn(seed):
        config = {"max_tokens": 12, "temperature": 1.5, "seed": seed}
        (one,) = predict(client, items[1] | {"generation_config": config}).json()["responses"]
        return one["predictions"][0]

    assert drawn(1) == drawn(1)
    assert len({drawn(1), drawn(2), texts[1]}) == 3
    far = "x" * (256 * 100 + 1)
    (long,) = predict(client, item("x", far, [wav(sounds[0])])).json()["responses"]
    assert "far more than 100 tokens" in long["error"]
    (long,) = predict(client, item("x", "word " * 200, [wav(sounds[0])])).json()["responses"]
    assert "tokens with the audio, at most 100" in long["error"]


def test_usual_lengths_are_compiled_before_anybody_asks(serving, loaded):
    """Beside the questions, which need not wait; then one of another length compiles nothing more to be let in."""
    client = serving(loaded, batch_size=4)
    predict(client, item("x", "What?", [recording(np.full(8000, 0.1, np.float32))]))
    loaded.backend.join_warm_up(120)
    sizes = decode.prefill_rows._cache_size()
    for text in ("Caption it, please, at some length.", "word " * 8):
        (response,) = predict(client, item("x", text, [recording(np.full(8000, 0.1, np.float32))])).json()["responses"]
        assert "error" not in response
    assert decode.prefill_rows._cache_size() == sizes


def test_lengths_chosen_by_clients_share_programs(loaded):
    """What makes no token of the encoder is left out: the answer is the same, and so is the program."""
    backend = EngineBackend(loaded.model.engine(slots=2), loaded.model.tokenizer, loaded.model.config, 100)
    try:
        sound = (0.1 * np.random.default_rng(2).standard_normal(160_000)).astype(np.float32)
        lengths = range(16_000, 48_000, 370)
        parts = {n: backend.prompt(ServeQuestion((sound[:n],), "What?", 5)).sounds[0].samples for n in lengths}
        assert len(set(parts.values())) <= 1 + 32_000 / 2560
        assert all(n_tokens(n) == n_tokens(used) > n_tokens(used - 1) for n, used in parts.items())
        for n in (18_159, 18_160):  # the last of one length, and the first of the next
            exact, less = (np.asarray(patches(fbank(jnp.asarray(sound[None, :k])))) for k in (n, used_samples(n)))
            np.testing.assert_array_equal(less, exact)  # all that the encoder is given
        whole = backend.prompt(ServeQuestion((sound,), "What?", 5)).sounds[0]
        assert whole.samples == loaded.model.config.audio.samples  # as all other roads
    finally:
        backend.close()


def test_the_deterministic_mode_answers_too(loaded):
    """Two at a time and alone: one text, from rows that have their whole cache from the start."""
    backend = loader(lambda: loaded.model, 2, 12, 100, deterministic=True)(lambda stage: None, Admission())
    question = ServeQuestion((np.full(16_000, 0.1, np.float32),), "Which species?", 12)
    try:
        alone = backend.engine.enqueue(backend.request(question)).result(60)
        together = backend.engine.enqueue_all([backend.request(question) for _ in range(2)])
        assert {f.result(60).text for f in together} == {alone.text}
        assert backend.engine.rows.cache.slots == 128  # 100 + 12, in whole buckets
    finally:
        backend.close()


def recording(samples, rate=44_100):
    """A WAV of floats f32[T] or f32[T, C], as an audio input."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
    return {"payload_type": "base64_wav", "data": base64.b64encode(buffer.getvalue()).decode()}


def spoilt():
    """Recordings that no one can hear: their mean, or what resampling makes of them, is NaN or infinite."""
    alternating = np.float32(3e38) * (1 - 2 * (np.arange(4000) % 2)).astype(np.float32)
    holed = np.full((4000, 2), 0.1, np.float32)
    holed[2000] = 3e38
    return [np.full((4000, 2), 3e38, np.float32), alternating, holed, np.full(4000, np.nan, np.float32)]


@pytest.mark.parametrize("stereo", [0, 1, 2, 3])
def test_a_corrupt_recording_fails_only_its_own_request(serving, loaded, stereo):
    """Asked alone, next to good ones, as a stream and as a draw; what is asked after it is answered as before."""
    client = serving(loaded, batch_size=4)
    rng = np.random.default_rng(1)
    good = item("good", "Which species?", [recording((0.1 * rng.standard_normal(8000)).astype(np.float32))])
    bad = item("bad", "Which species?", [recording(spoilt()[stereo])])
    drawn = good | {"sample_id": "drawn", "generation_config": {"temperature": 1.2, "seed": 3}}
    before = [r["predictions"] for r in predict(client, good, drawn).json()["responses"]]
    for others in ((bad,), (bad, bad | {"sample_id": "b2"}), (good, bad, drawn)):
        for responses in predict(client, *others).json()["responses"]:
            if responses["sample_id"].startswith("b"):
                assert "audio_inputs[0]: " in responses["error"]
                assert not responses["predictions"]
        assert [r["predictions"] for r in predict(client, good, drawn).json()["responses"]] == before
    response = client.post("/ask", json={k: v for k, v in bad.items() if k != "sample_id"})
    assert response.status_code == 422
    assert "audio_inputs[0]: " in response.json()["error"]
    assert [r["predictions"] for r in predict(client, good, drawn).json()["responses"]] == before
    if stereo == 3:
        assert "nlm_not_finite_total 5.0" in client.get("/metrics").text


def test_the_revision_is_that_of_the_weights(serving, loaded):
    """The same for the same numbers, another if one of them is another or lies elsewhere."""
    client = serving(loaded, batch_size=4)
    predict(client, item("x", "What?", [recording(np.full(8000, 0.1, np.float32))]))
    first = client.get("/info").json()["model_revision"]
    leaves = named_leaves(loaded.model.state)
    assert first == revision(leaves)
    assert len(first) == 16
    path = next(iter(leaves))
    for change in (lambda x: np.nextafter(x, 9), lambda x: x[::-1]):
        changed = np.array(leaves[path])
        changed.flat[:2] = change(changed.flat[:2])
        assert revision(leaves | {path: jnp.asarray(changed)}) != first
    assert revision({"a": leaves[path]}) != revision({"b": leaves[path]})
