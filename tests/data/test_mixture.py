"""The stream: every epoch a permutation, shares exact in every prefix, any position at once."""

import numpy as np
import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.data.config import MixtureConfig
from nlm_jax.data.corpus import Corpus
from nlm_jax.data.mixture import PERIOD, Group, Stream, groups_of, permute


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 4097])
def test_permutation(size):
    for key in (1, 2):
        got = permute(np.arange(size), size, np.full(size, key, np.uint64))
        np.testing.assert_array_equal(np.sort(got), np.arange(size))
    if size >= 64:
        other = permute(np.arange(size), size, np.full(size, 1, np.uint64))
        assert (got != other).mean() > 0.9
        assert abs(np.corrcoef(got, np.arange(size))[0, 1]) < 5 / np.sqrt(size)


def test_one_group_passes_every_example_once_an_epoch():
    stream = Stream([Group("all", 1.0, 1000)], seed=3)
    epochs = stream.lookup(np.arange(5000)).reshape(5, 1000)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(1000), (5, 1)))
    assert len({tuple(e) for e in epochs}) == 5
    assert (Stream([Group("all", 1.0, 1000)], seed=4).lookup(np.arange(1000)) != epochs[0]).mean() > 0.9


def test_shares_are_exact_in_every_prefix():
    weights = {"a": 0.5, "b": 0.3, "c": 0.2, "rare": 1e-4}
    total = sum(weights.values())
    groups = [Group(n, w, 10, np.arange(10) + 10 * k) for k, (n, w) in enumerate(weights.items())]
    stream = Stream(groups, seed=0)
    drawn = stream.lookup(np.arange(2 * PERIOD)) // 10
    for k, weight in enumerate(weights.values()):
        count = np.cumsum(drawn == k)
        assert np.abs(count - weight / total * (np.arange(2 * PERIOD) + 1)).max() < 3.5
    for k in range(3):  # inside a group, epoch after epoch
        own = stream.lookup(np.arange(PERIOD))[drawn[:PERIOD] == k][:500].reshape(50, 10)
        assert (np.sort(own, axis=1) == np.arange(10) + 10 * k).all()


def test_any_position_at_once():
    """A group of a hundred million examples, far out in the stream, in any order and company."""
    stream = Stream([Group("big", 0.9, 10**8), Group("small", 0.1, 3, np.arange(3))], seed=1)
    far = 10**14 + np.arange(1000)
    together = stream.lookup(far)
    assert together.max() < 10**8
    np.testing.assert_array_equal(stream.lookup(far[::-7]), together[::-7])
    assert [int(stream.lookup(far[k : k + 1])[0]) for k in (0, 17, 999)] == together[[0, 17, 999]].tolist()


def test_weights_of_a_corpus(prepared):
    corpus = Corpus([prepared])
    assert [g.name for g in groups_of(corpus, MixtureConfig())] == ["all"]
    mixture = MixtureConfig(domain={"animal": 3.0, "speech": 1.0, "music": 0.0}, task={"cap*": 0.0, "same": 2.0})
    groups = groups_of(corpus, mixture)
    shares = Stream(groups, 0).shares
    by_domain = {d: sum(s for n, s in shares.items() if n.split("/")[1] == d) for d in corpus.domains}
    assert by_domain["animal"] == pytest.approx(0.75, abs=1e-4)
    assert by_domain["music"] == 0.0
    assert not any("caption" in name for name in shares)
    task = lambda t: shares[f"tones/animal/{t}"]  # noqa: E731
    pairs = sum(1 for e in range(len(corpus)) if corpus.entry(e).task == "same" and corpus.entry(e).domain == "animal")
    assert task("same") / task("common-name") == pytest.approx(2 * pairs / 20, rel=1e-3)
    drawn = Stream(groups, 0).lookup(np.arange(4000))
    assert {corpus.entry(int(e)).task for e in np.unique(drawn)} == {"common-name", "common-simple-detection", "same"}


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (MixtureConfig(domain={"animal": 1.0}), "no share for speech, music"),
        (MixtureConfig(task={"captoin": 1.0}), r"data\.mixture\.task\.captoin: not in the data"),
        (MixtureConfig(source={"tones": -1.0}), r"-1\.0 is no weight"),
        (MixtureConfig(source={"tones": 0.0}), "every weight is 0"),
        (MixtureConfig(domain=dict.fromkeys(("animal", "speech", "music"), 1.0), task={"*": 0.0}), "all have factor 0"),
    ],
)
def test_bad_weights(prepared, mixture, message):
    with pytest.raises(UserError, match=message):
        Stream(groups_of(Corpus([prepared]), mixture), 0)
