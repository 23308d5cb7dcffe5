"""Beam search: the candidates of a step are those of `lax.top_k`; minimum lengths as in transformers' `generate`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlm_jax.convert.formats import save
from nlm_jax.generate.audio_inputs import Clip
from nlm_jax.generate.beam import largest
from nlm_jax.generate.prompts import prompt

LARGEST = jax.jit(largest, static_argnums=1)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 7), (24, 5), (1000, 24), (1003, 1), (4099, 22)])
def test_the_largest_are_those_of_a_whole_sort(n, k):
    """Continuous values; values with many ties; and rows of mostly -inf, as with few end symbols."""
    rng = np.random.default_rng(n + k)
    rows = np.stack([rng.normal(size=n), rng.integers(-3, 3, n), np.full(n, -np.inf), np.full(n, -np.inf)])
    rows[3, rng.integers(0, n, 3)] = 1.0
    rows[0, -1] = 100.0  # in an incomplete last block
    for ours, expected in zip(LARGEST(jnp.asarray(rows), k), jax.lax.top_k(jnp.asarray(rows), k), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers about its own parts
def test_minimum_lengths_are_those_of_transformers(tiny_model, clips_and_queries, tmp_path):
    """transformers decodes the exported language model from our vectors, one query at a time; we decode all together.

    Scores are sums (length_penalty=0), as versions of transformers count the length differently.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    save(tiny_model.checkpoint, tmp_path, "llama-merged")
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    words, tokenizer, ends = theirs.get_input_embeddings(), tiny_model.tokenizer, tiny_model.tokenizer.eos_ids
    waves, queries = clips_and_queries[0][:4], clips_and_queries[1][:4]
    vectors, inputs = np.asarray(tiny_model.encode_audio(np.stack(waves))), []
    for wave, query, own in zip(waves, queries, vectors, strict=True):
        p = prompt(tokenizer, [Clip.of(wave)], query, tiny_model.config)
        row = words(torch.tensor(p.tokens, dtype=torch.long)).detach()
        row[p.audio_slot >= 0] = torch.tensor(own)[p.audio_slot[p.audio_slot >= 0]]
        inputs.append(row[None])
    lengths = {}
    for least in (0, 4, 7):
        ours = tiny_model.generate(waves, queries, 8, 2, min_length=least, length_penalty=0.0, return_ids=True)
        for row, ids in zip(inputs, ours, strict=True):
            reference = theirs.generate(
                inputs_embeds=row,
                attention_mask=torch.ones(row.shape[:2], dtype=torch.long),
                num_beams=2,
                do_sample=False,
                length_penalty=0.0,
                early_stopping=False,
                max_new_tokens=8,
                min_new_tokens=least,
                eos_token_id=list(ends),
                pad_token_id=tokenizer.pad_id,
            )
            assert without_end(ids, ends) == without_end(reference[0].tolist(), ends), least
        lengths[least] = [len(ids) for ids in ours]
    assert min(lengths[0]) <= 4 < min(lengths[4]) < 8 == min(lengths[7]), lengths


def without_end(ids, ends):
    """Tokens, and whether an end symbol follows. (Of several, 4.44 and we write the first, 5 the actual one.)"""
    return (ids[:-1], True) if ids[-1] in ends else (ids, False)
