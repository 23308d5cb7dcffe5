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
from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.generate.api import NatureLM


class Loaded:
    """A model of random weights; how the server loads it."""

    def __init__(self):
        cfg = dataclasses.replace(testing.tiny_config(), compute_dtype="float32")
        self.model = NatureLM(Checkpoint(cfg, jax.tree.map(jnp.asarray, tiny.params(cfg))), testing.tokenizer())
        self.stages = []

    def load(self, say):
        from nlm_jax.serve.answer import loader

        def tell(stage):
            self.stages.append(stage)
            say(stage)

        return loader(lambda: self.model, slots=2, most_tokens=12, most_prompt=100)(tell)

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
    asked = [("Which species?", sounds[:1], 4), ("Caption it.", sounds[1:2], 12), ("Which one?", sounds[2:], 7)]

    def wav(sound):
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, 16_000, format="WAV", subtype="FLOAT")
        return {
            "payload_type": "base64_wav",
            "data": base64.b64encode(buffer.getvalue()).decode(),
            "sample_rate": 16_000,
        }

    items = [
        item(str(i), text, [wav(s) for s in heard], max_tokens=most) for i, (text, heard, most) in enumerate(asked)
    ]
    found = predict(client, *items).json()["responses"]
    assert loaded.stages == ["loading weights", "compiling"]
    texts, ids = (
        loaded.model.generate([heard for _, heard, _ in asked], [t for t, *_ in asked], [m for *_, m in asked],
                              batch_size=2, return_ids=as_ids)
        for as_ids in (False, True)
    )  # fmt: skip
    assert [r["predictions"][0] for r in found] == texts
    assert len(set(texts)) == 3
    for response, mine, (*_, most) in zip(found, ids, asked, strict=True):
        assert response["usage"]["completion_tokens"] == len(mine) <= most
        ended = mine[-1] in loaded.model.tokenizer.eos_ids
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
    (long,) = predict(client, item("x", "word " * 200, [wav(sounds[0])])).json()["responses"]
    assert "tokens with the audio, at most 100" in long["error"]
