"""The stream: every epoch a permutation, shares exact in every prefix, any position at once."""

import numpy as np
import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.data.config import MixtureConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.mixture import groups_of
from nlm_jax.data.shuffle import permute
from nlm_jax.data.train_stream import PERIOD, Group, TrainStream


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 4097])
def test_permutation(size):
    for key in (1, 2):
        result = permute(np.arange(size), size, np.full(size, key, np.uint64))
        np.testing.assert_array_equal(np.sort(result), np.arange(size))
    if size >= 64:
        other = permute(np.arange(size), size, np.full(size, 1, np.uint64))
        assert (result != other).mean() > 0.9
        assert abs(np.corrcoef(result, np.arange(size))[0, 1]) < 5 / np.sqrt(size)


def test_one_group_passes_every_example_once_an_epoch():
    stream = TrainStream([Group("all", 1.0, 1000)], seed=3)
    epochs = stream.lookup(np.arange(5000)).reshape(5, 1000)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(1000), (5, 1)))
    assert len({tuple(e) for e in epochs}) == 5
    assert (TrainStream([Group("all", 1.0, 1000)], seed=4).lookup(np.arange(1000)) != epochs[0]).mean() > 0.9


def test_shares_are_exact_in_every_prefix():
    weights = {"a": 0.5, "b": 0.3, "c": 0.2, "rare": 1e-4}
    total = sum(weights.values())
    groups = [Group(n, w, 10, np.arange(10) + 10 * k) for k, (n, w) in enumerate(weights.items())]
    stream = TrainStream(groups, seed=0)
    drawn = stream.lookup(np.arange(2 * PERIOD)) // 10
    for k, weight in enumerate(weights.values()):
        count = np.cumsum(drawn == k)
        assert np.abs(count - weight / total * (np.arange(2 * PERIOD) + 1)).max() < 3.5
    for k in range(3):  # inside a group, epoch after epoch
        own = stream.lookup(np.arange(PERIOD))[drawn[:PERIOD] == k][:500].reshape(50, 10)
        assert (np.sort(own, axis=1) == np.arange(10) + 10 * k).all()


def test_any_position_at_once():
    """A group of a hundred million examples, far out in the stream, in any order and company."""
    stream = TrainStream([Group("big", 0.9, 10**8), Group("small", 0.1, 3, np.arange(3))], seed=1)
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
    shares = TrainStream(groups, 0).shares
    by_domain = {d: sum(s for n, s in shares.items() if n.split("/")[1] == d) for d in corpus.domains}
    assert by_domain["animal"] == pytest.approx(0.75, abs=1e-4)
    assert by_domain["music"] == 0.0
    assert not any("caption" in name for name in shares)
    task = lambda t: shares[f"tones/animal/{t}"]  # noqa: E731
    pairs = sum(1 for e in range(len(corpus)) if corpus.entry(e).task == "same" and corpus.entry(e).domain == "animal")
    assert task("same") / task("common-name") == pytest.approx(2 * pairs / 20, rel=1e-3)
    drawn = TrainStream(groups, 0).lookup(np.arange(4000))
    assert {corpus.entry(int(e)).task for e in np.unique(drawn)} == {"common-name", "common-simple-detection", "same"}


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (MixtureConfig(domain={"animal": 1.0}), "no share for speech, music"),
        (MixtureConfig(task={"captoin": 1.0}), r"data\.mixture\.task\.captoin: not in the data"),
        (MixtureConfig(source={"tones": -1.0}), r"-1\.0 is not a weight"),
        (MixtureConfig(source={"tones": 0.0}), "every weight is 0"),
        (MixtureConfig(domain=dict.fromkeys(("animal", "speech", "music"), 1.0), task={"*": 0.0}), "all have factor 0"),
    ],
)
def test_bad_weights(prepared, mixture, message):
    with pytest.raises(UserError, match=message):
        TrainStream(groups_of(Corpus([prepared]), mixture), 0)


# --- taxa, temperature, balance, caps ---------------------------------------------------------------------------------
CROW, RAVEN = "Chordata;Aves;Passeriformes;Corvidae;Corvus;Corvus corone", "Chordata;Aves;;;;Corvus corax"
BARE, FROG, WORD = "Corvus corax", "Chordata;Amphibia;Anura;Ranidae;Rana;Rana temporaria", "seven"


class Listed(Corpus):
    """A corpus as far as the mixture looks at it: rows of (source, domain, task, lineage, how many)."""

    def __init__(self, *rows):
        columns = list(zip(*(row[:4] for row in rows for _ in range(row[4])), strict=True))
        names = [list(dict.fromkeys(column)) for column in columns]
        self.sources, self.domains, self.tasks, self.taxa = names
        codes = [np.asarray([n.index(v) for v in c], np.int32) for n, c in zip(names, columns, strict=True)]
        self.part_of, self.domain, self.task, self.taxon = codes

    def __len__(self):
        return len(self.task)


ANIMALS = Listed(
    ("xc", "bio", "name", CROW, 300),
    ("xc", "bio", "name", RAVEN, 90),
    ("inat", "bio", "name", BARE, 10),
    ("inat", "bio", "call", FROG, 25),
    ("digits", "speech", "word", WORD, 200),
    ("digits", "speech", "caption", "", 75),
)


def drawn(corpus, draws, seed=0, **fields):
    stream = TrainStream(groups_of(corpus, MixtureConfig(**fields), seed), seed)
    return stream.lookup(np.arange(draws))


def counts(corpus, examples):
    of = np.bincount(corpus.taxon[examples], minlength=len(corpus.taxa))
    return dict(zip(corpus.taxa, of.tolist(), strict=True))


@pytest.mark.parametrize(
    ("pattern", "raised"),
    [
        ("Aves", {CROW, RAVEN}),
        ("Corvus*", {CROW, RAVEN, BARE}),
        ("Ranidae", {FROG}),
        ("Chordata;Aves;*", {CROW, RAVEN}),
        ("seven", {WORD}),
    ],
)
def test_a_taxon_is_named_at_any_rank(pattern, raised):
    before = counts(ANIMALS, drawn(ANIMALS, 40_000))
    after = counts(ANIMALS, drawn(ANIMALS, 40_000, taxon={pattern: 3.0}))
    of = lambda totals, names: sum(totals[n] for n in names)  # noqa: E731
    others = set(ANIMALS.taxa) - raised
    ratio = of(after, raised) / of(after, others) / (of(before, raised) / of(before, others))
    assert ratio == pytest.approx(3.0, rel=0.03)
    reduced = counts(ANIMALS, drawn(ANIMALS, 5_000, taxon={pattern: 0.0}))
    assert of(reduced, raised) == 0
    assert all(reduced[name] for name in others)


def test_the_first_pattern_counts():
    totals = counts(ANIMALS, drawn(ANIMALS, 20_000, taxon={"Corvus corax": 1.0, "Aves": 0.0}))
    assert totals[CROW] == 0
    assert totals[RAVEN] / totals[BARE] == pytest.approx(9, rel=0.05)


def test_temperature_flattens_tasks():
    """Natural shares 400 : 25 : 200 : 75 become their square roots; sources keep their part of a task."""
    natural = {"name": 400, "call": 25, "word": 200, "caption": 75}
    flat = TrainStream(groups_of(ANIMALS, MixtureConfig(temperature=2.0)), 0).shares
    total = sum(n**0.5 for n in natural.values())
    for task, n in natural.items():
        assert sum(s for name, s in flat.items() if name.endswith(task)) == pytest.approx(n**0.5 / total, abs=1e-4)
    assert flat["xc/bio/name"] / flat["inat/bio/name"] == pytest.approx(39, rel=1e-2)
    inside = TrainStream(groups_of(ANIMALS, MixtureConfig(temperature=1e6, domain={"bio": 3, "speech": 1})), 0).shares
    assert inside["inat/bio/call"] == pytest.approx(0.375, abs=1e-3)
    assert inside["digits/speech/caption"] == pytest.approx(0.125, abs=1e-3)
    sharp = TrainStream(groups_of(ANIMALS, MixtureConfig(temperature=0.5)), 0).shares
    assert sharp["digits/speech/word"] / sharp["digits/speech/caption"] == pytest.approx((200 / 75) ** 2, rel=1e-2)


def test_balance_is_over_species_of_all_sources():
    """Two lineages of one species, in two directories, are one species with 100 examples next to one with 300."""
    names = Listed(*[("xc" if k % 2 else "inat", "bio", "name", lineage, n) for k, (lineage, n) in enumerate(
        [(CROW, 300), (RAVEN, 90), (BARE, 10), (FROG, 4)])])  # fmt: skip
    equal = counts(names, drawn(names, 30_000, balance="taxon"))
    assert equal[CROW] == pytest.approx(10_000, abs=2)
    assert equal[RAVEN] + equal[BARE] == pytest.approx(10_000, abs=2)
    assert equal[FROG] == pytest.approx(10_000, abs=2)
    root = counts(names, drawn(names, PERIOD, balance="sqrt"))
    total = 300**0.5 + 10 + 2
    assert root[CROW] / PERIOD == pytest.approx(300**0.5 / total, rel=0.01)
    assert root[FROG] / PERIOD == pytest.approx(2 / total, rel=0.01)
    # What is drawn of a species is all of it before anything comes twice.
    stream = drawn(names, 3 * 300, balance="taxon")
    of_crow = stream[names.taxon[stream] == names.taxa.index(CROW)]
    assert len(set(of_crow.tolist())) == len(of_crow) == 300


def test_every_round_has_every_species():
    many = Listed(*[("s", "d", "t", f"sp{k}", 1 + k % 7) for k in range(200)])
    examples = drawn(many, 10_000, balance="taxon")
    rounds = many.taxon[examples].reshape(50, 200)
    assert (np.sort(rounds, axis=1) == np.arange(200)).all()
    assert len({tuple(r) for r in rounds}) == 50


def test_caps():
    capped = drawn(ANIMALS, 40_000, species_cap=20, seed=1)
    capped_per_taxon = {name: set(capped[ANIMALS.taxon[capped] == k].tolist()) for k, name in enumerate(ANIMALS.taxa)}
    assert {name: len(examples) for name, examples in capped_per_taxon.items() if name not in (RAVEN, BARE)} == {
        CROW: 20,
        FROG: 20,
        WORD: 20,
        "": 75,  # no species, no cap
    }
    assert len(capped_per_taxon[RAVEN]) + len(capped_per_taxon[BARE]) == 20
    again, other = (set(drawn(ANIMALS, 40_000, species_cap=20, seed=s).tolist()) for s in (1, 2))
    assert again == set(capped.tolist())
    assert other != again
    assert len(set(drawn(ANIMALS, 5_000, species_cap=300).tolist())) == len(ANIMALS)
    one = drawn(ANIMALS, 20_000, species_cap=1, balance="taxon", temperature=3.0, taxon={"Aves": 2.0})
    assert len(set(one.tolist())) == 4 + 75


def test_any_position_of_cells_at_once():
    stream = TrainStream(groups_of(ANIMALS, MixtureConfig(balance="sqrt", taxon={"Rana*": 5.0}, temperature=2.0)), 7)
    far = 10**13 + np.arange(3_000)
    together = stream.lookup(far)
    np.testing.assert_array_equal(stream.lookup(far[::-11]), together[::-11])
    assert [int(stream.lookup(far[k : k + 1])[0]) for k in (0, 17, 999)] == together[[0, 17, 999]].tolist()
    assert set(stream.lookup(np.arange(20_000)).tolist()) == set(range(len(ANIMALS)))


def test_streams_of_earlier_versions_stay():
    """Positions 0.. of a run that has no taxa in its config: as they were before there were any."""
    stream = TrainStream([Group("a", 0.7, 50, np.arange(50)), Group("b", 0.3, 7, 50 + np.arange(7))], seed=3)
    assert stream.lookup(np.arange(12)).tolist() == [5, 54, 31, 4, 56, 10, 17, 43, 50, 29, 7, 51]
    assert stream.lookup(10**12 + np.arange(4)).tolist() == [11, 23, 50, 7]


def test_unknown_taxa_have_a_close_match():
    for fields, message in (
        ({"taxon": {"aves": 2.0}}, r"data\.mixture\.taxon\.aves: not in the data; did you mean 'Aves'\?"),
        ({"taxon": {"Corvus coraxx": 2.0}}, r"did you mean 'Corvus corax'\?"),
        ({"taxon": {"*": 0.0}}, "every example has factor 0"),
        ({"task": {"nmae": 2.0}}, r"did you mean 'name'\?"),
        (
            {"domain": {"bio": 1.0, "speech": 1.0}, "taxon": {"seven": 0.0}, "task": {"caption": 0.0}},
            "all have factor 0",
        ),
    ):
        with pytest.raises(UserError, match=message):
            drawn(ANIMALS, 1, **fields)
    nothing = Listed(("s", "d", "t", "", 3))
    for fields in ({"balance": "taxon"}, {"species_cap": 3}, {"taxon": {"*": 2.0}}):
        with pytest.raises(UserError, match="no example has a taxon or a label"):
            drawn(nothing, 1, **fields)
    for fields in ({"temperature": 0.0}, {"temperature": float("nan")}, {"balance": "cube"}, {"species_cap": -1}):
        with pytest.raises(UserError, match=rf"data\.mixture\.{next(iter(fields))}="):
            MixtureConfig(**fields)
