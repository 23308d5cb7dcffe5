"""`score` against teacher forcing, candidate by candidate; in chunks, per query, and what is wrong with candidates."""

import jax
import numpy as np
import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.data.text import answer_tokens
from nlm_jax.generate import likelihood
from nlm_jax.generate.audio_inputs import clips_of
from nlm_jax.generate.prompts import prompt

LABELS = ["a wren", "None", "Turdus merula", "a", "a frog, and another frog further away"]


def forced(model, audio, query, labels) -> list[tuple[float, int]]:
    """Sum of the log-probabilities of each label's tokens by teacher forcing, and how many there are."""
    prompts, audios = [query] * len(labels), [[audio]] * len(labels)
    logprob = np.asarray(jax.nn.log_softmax(model.logits(prompts, labels, audios)))
    cfg, made = model.config, []
    before = len(prompt(model.tokenizer, clips_of(audio, cfg.audio), query, cfg))
    for row, label in zip(logprob, labels, strict=True):
        ids = answer_tokens(model.tokenizer, label, cfg.end_sym, cfg.max_txt_len)
        made.append((row[before - 1 + np.arange(len(ids)), ids].sum(), len(ids)))
    return made


def test_every_candidate_as_if_it_were_the_answer(tiny_model, asked):
    audios, queries = asked[0][:2], [f"<AudioHere> {q}" for q in asked[1][:2]]
    found = tiny_model.score(audios, queries, LABELS)
    means = tiny_model.score(audios, queries, LABELS, normalize="mean")
    relative = tiny_model.score(audios, queries, LABELS, against="None")
    for i, query in enumerate(queries):
        expected = forced(tiny_model, audios[i], query, LABELS)
        np.testing.assert_allclose(found[i], [total for total, _ in expected], rtol=2e-6, atol=2e-5)
        np.testing.assert_allclose(means[i], [total / n for total, n in expected], rtol=2e-6, atol=1e-5)
        np.testing.assert_allclose(relative[i], found[i] - found[i][1], atol=1e-5)
        assert found[i].dtype == np.float32
    total, n = expected[0]
    assert tiny_model.loss(queries[1:], LABELS[:1], [[audios[1]]]) == pytest.approx(-total / n, rel=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3  # the clip and the question matter


def test_many_in_chunks(tiny_model, asked, monkeypatch):
    """Three hundred labels in passes of little room: as one by one, whatever stands beside them."""
    audios, queries = asked[0][:1], asked[1][:1]
    labels = [f"species {i}" for i in range(300)] + LABELS
    every = tiny_model.score(audios, queries, labels)[0]
    assert every.shape == (305,)
    np.testing.assert_allclose(every[300:], tiny_model.score(audios, queries, LABELS)[0], atol=2e-5)
    monkeypatch.setattr(likelihood, "POSITIONS", 64)
    monkeypatch.setattr(likelihood, "LOGITS", 4 * 518 * 3)
    np.testing.assert_allclose(tiny_model.score(audios, queries, LABELS)[0], every[300:], atol=2e-5)


def test_lists_per_query(tiny_model, asked):
    audios, queries = asked[0][:3], asked[1][:3]
    lists = [LABELS[:2], LABELS[2:5], ["", "a wren"]]
    found = tiny_model.score(audios, queries, lists, batch_size=4)
    assert [len(f) for f in found] == [2, 3, 2]
    for audio, query, mine, made in zip(audios, queries, lists, found, strict=True):
        np.testing.assert_allclose(tiny_model.score([audio], [query], mine)[0], made, atol=2e-5)
    assert tiny_model.score([], [], ["a"]) == []


@pytest.mark.parametrize(
    ("candidates", "options", "message"),
    [
        ([], {}, "give a list of texts"),
        ("a wren", {}, "candidates='a wren': give a list of texts"),
        ([["a"], ["b"]], {}, "2 lists for 1 queries"),
        ([[]], {}, "candidates of query 0: "),
        ([[1]], {}, "candidates of query 0: "),
        (["a"], {"normalize": "max"}, "normalize='max': no such way; use one of sum, mean"),
        (["a"], {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_messages(tiny_model, asked, candidates, options, message):
    with pytest.raises(UserError, match=message):
        tiny_model.score(asked[0][:1], asked[1][:1], candidates, **options)
