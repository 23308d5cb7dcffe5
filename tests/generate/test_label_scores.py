"""`score` against teacher forcing, candidate by candidate; in buckets, per query, and messages about bad candidates."""

import itertools

import jax
import numpy as np
import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.data.text import answer_tokens
from nlm_jax.generate.audio_inputs import clips_of
from nlm_jax.generate.likelihood import label_buckets, log_likelihoods
from nlm_jax.generate.prompts import prompt

LABELS = ["a wren", "None", "Turdus merula", "a", "a frog, and another frog further away"]


def forced(model, audio, query, labels) -> list[tuple[float, int]]:
    """Sum of the log-probabilities of each label's tokens by teacher forcing, and the number of tokens."""
    prompts, audios = [query] * len(labels), [[audio]] * len(labels)
    logprob = np.asarray(jax.nn.log_softmax(model.logits(prompts, labels, audios)))
    cfg, sums = model.config, []
    start = len(prompt(model.tokenizer, clips_of(audio, cfg.audio), query, cfg))
    for row, label in zip(logprob, labels, strict=True):
        ids = answer_tokens(model.tokenizer, label, cfg.end_sym, cfg.max_txt_len)
        sums.append((row[start - 1 + np.arange(len(ids)), ids].sum(), len(ids)))
    return sums


def test_every_candidate_as_if_it_were_the_answer(tiny_model, clips_and_queries):
    audios, queries = clips_and_queries[0][:2], [f"<AudioHere> {q}" for q in clips_and_queries[1][:2]]
    scores = tiny_model.score(audios, queries, LABELS)
    means = tiny_model.score(audios, queries, LABELS, normalize="mean")
    relative = tiny_model.score(audios, queries, LABELS, against="None")
    for i, query in enumerate(queries):
        expected = forced(tiny_model, audios[i], query, LABELS)
        np.testing.assert_allclose(scores[i], [total for total, _ in expected], rtol=2e-6, atol=2e-5)
        np.testing.assert_allclose(means[i], [total / n for total, n in expected], rtol=2e-6, atol=1e-5)
        np.testing.assert_allclose(relative[i], scores[i] - scores[i][1], atol=1e-5)
        assert scores[i].dtype == np.float32
    total, n = expected[0]
    assert tiny_model.loss(queries[1:], LABELS[:1], [[audios[1]]]) == pytest.approx(-total / n, rel=1e-5)
    assert np.abs(scores[0] - scores[1]).max() > 1e-3  # the clip and the question matter


def test_scores_do_not_depend_on_the_buckets(tiny_model, clips_and_queries):
    """The same scores among three hundred labels, and in small buckets with few logits at a time."""
    audios, queries = clips_and_queries[0][:1], clips_and_queries[1][:1]
    labels = [f"species {i}" for i in range(300)] + LABELS
    every = tiny_model.score(audios, queries, labels)[0]
    assert every.shape == (305,)
    np.testing.assert_allclose(every[300:], tiny_model.score(audios, queries, LABELS)[0], atol=2e-5)
    clips = [clips_of(audio, tiny_model.config.audio) for audio in audios]
    model = (tiny_model.graphdef, tiny_model.state, tiny_model.config, tiny_model.tokenizer)
    small = log_likelihoods(*model, clips, queries, LABELS, positions=64, logits_bytes=4 * 518 * 3)
    np.testing.assert_allclose(small[0][0], every[300:], atol=2e-5)


def test_buckets_hold_every_label_once():
    """Within the budget, shorter ones first, sizes powers of two; the third row has no labels."""
    rng = np.random.default_rng(0)
    labels = [[[1 + i] * n for i, n in enumerate(rng.integers(1, 30, count))] for count in (40, 7, 0)]
    buckets = list(label_buckets(labels, rows=4, budget=256))
    assert len(buckets) > 3
    for row, expected in enumerate(labels):
        indices = [bucket.indices[row] for bucket in buckets if row < len(bucket.indices)]
        assert sorted(itertools.chain(*indices)) == list(range(len(expected)))
        for bucket, own in zip(buckets, indices, strict=True):
            for column, i in enumerate(own):
                assert bucket.tokens[row, column, : bucket.lengths[row, column]].tolist() == expected[i]
            assert not bucket.lengths[row, len(own) :].any()
    for bucket in buckets:
        (rows, width, length), inputs = bucket.tokens.shape, bucket.tokens.shape[2] - 1
        assert rows == 4
        assert bucket.lengths.max() <= length
        assert width & (width - 1) == inputs & (inputs - 1) == 0
        assert width == 1 or rows * width * inputs <= 256
    sizes = [bucket.tokens.shape[2] for bucket in buckets]
    assert sizes == sorted(sizes)


def test_lists_per_query(tiny_model, clips_and_queries):
    audios, queries = clips_and_queries[0][:3], clips_and_queries[1][:3]
    lists = [LABELS[:2], LABELS[2:5], ["", "a wren"]]
    scores = tiny_model.score(audios, queries, lists, batch_size=4)
    assert [len(row) for row in scores] == [2, 3, 2]
    for audio, query, candidates, row in zip(audios, queries, lists, scores, strict=True):
        np.testing.assert_allclose(tiny_model.score([audio], [query], candidates)[0], row, atol=2e-5)
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
def test_messages(tiny_model, clips_and_queries, unchecked, candidates, options, message):
    with pytest.raises(UserError, match=message):
        tiny_model.score(clips_and_queries[0][:1], clips_and_queries[1][:1], candidates, **options)
