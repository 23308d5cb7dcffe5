"""The embedding at each position of a prompt, of words and of clips, against the official arrays."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from nlm_jax.data.text import PLACEHOLDER
from nlm_jax.generate.audio_inputs import Clip
from nlm_jax.generate.prompts import text_format
from nlm_jax.generate.teacher_forcing import example, teacher_forced


@pytest.fixture
def embed(model):
    """Embeddings f32[B, S, D] of prompts without an answer, and which positions are real."""
    run = jax.jit(lambda state, batch: nnx.merge(model.graphdef, state).embed(batch))

    def of(prompts, audios, samples):
        fmt = text_format(model.config, samples)
        examples = [
            example(model.tokenizer, [Clip.of(wave) for wave in waves], prompt, None, fmt)
            for waves, prompt in zip(audios, prompts, strict=True)
        ]
        batch = jax.tree.map(np.asarray, teacher_forced(examples, samples, fmt))
        return np.asarray(run(model.state, batch)), batch.segments > 0

    return of


def test_wrapped_prompts(golden, arrays, limit, embed, model, reference_fbank):
    theirs = arrays("prompt_wrap")
    prompts = [case["prompt"] for case in json.loads((golden / "prompts.json").read_text())["prompts"]]
    waves = theirs["raw_wav"]
    assert np.abs(np.asarray(model.encode_audio(waves)) - theirs["audio_embeds"]).max() <= limit(
        "prompt_wrap.npz", "audio_embeds"
    )
    assert prompts[5].count(PLACEHOLDER) == 2
    for name, texts, audios in (
        ("two_audio", [prompts[5]], [list(waves)]),
        ("batch2", [prompts[0], prompts[3]], [[waves[0]], [waves[1]]]),
    ):
        ours, real = embed(texts, audios, waves.shape[1])
        ours, real = ours[:, 1:], real[:, 1:]  # the official arrays begin after BOS
        np.testing.assert_array_equal(real, theirs[f"{name}__attention_mask"])
        difference = np.abs(ours - theirs[f"{name}__inputs_embeds"])[real]
        assert difference.max() <= limit("prompt_wrap.npz", f"{name}__inputs_embeds")
