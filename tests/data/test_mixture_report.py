"""Effective epochs before training are what the stream then does."""

import json

import numpy as np
import pytest

from nlm_jax.data import mixture_report, pipeline
from nlm_jax.data.config import DataConfig, MixtureConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.mixture import groups_of
from nlm_jax.data.train_stream import PERIOD, TrainStream

MIXTURES = {
    "plain": MixtureConfig(),
    "shares": MixtureConfig(domain={"animal": 3.0, "speech": 1.0, "music": 0.0}, task={"same": 2.0}),
    "taxa": MixtureConfig(taxon={"frog": 3.0, "cat": 0.0}, balance="sqrt", temperature=2.0, species_cap=30),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_epochs_are_what_the_stream_draws(prepared, name):
    corpus = Corpus([prepared])
    stream = TrainStream(groups_of(corpus, MIXTURES[name], 4), 4)
    draws = 3 * PERIOD
    drawn = np.bincount(stream.lookup(np.arange(draws)), minlength=len(corpus))
    rows = {(r["of"], r["name"]): r for r in mixture_report.rows(corpus, stream, draws)}
    assert rows["all", "everything"]["draws"] == pytest.approx(draws, rel=1e-4)
    for of, names, codes in (
        ("source", corpus.sources, corpus.part_of),
        ("domain", corpus.domains, corpus.domain),
        ("task", corpus.tasks, corpus.task),
        ("species", corpus.taxa, corpus.taxon),
    ):
        for k, one in enumerate(names):
            group = drawn[codes == k]
            row = rows.get((of, one))
            if row is None:  # species that are never drawn have no epochs to be extreme in
                assert of == "species"
                assert not group.any()
                continue
            assert row["examples"] == len(group)
            assert row["drawable"] == (group > 0).sum()
            assert row["draws"] == pytest.approx(group.sum(), rel=0.01, abs=3)
            assert row["share"] == pytest.approx(group.sum() / draws, abs=2e-3)
            if row["drawable"]:
                assert row["epochs"] == pytest.approx(group.sum() / (group > 0).sum(), rel=0.01)


def test_before_training(prepared, tokenizer, fmt):
    config = DataConfig(train=(str(prepared),), seconds=1.0, rows=4, row_tokens=256, row_clips=6, row_answers=96)
    data = pipeline.train_set(config, tokenizer, fmt)
    rows = data.exposure(1000)
    assert rows[0]["epochs"] == pytest.approx(1000 / data.batches_per_epoch, rel=1e-3)
    text = mixture_report.text(rows).splitlines()
    assert text[0].split() == list(mixture_report.COLUMNS)
    assert len(text) == len(rows) + 1
    assert [json.loads(line)["step"] for line in mixture_report.lines(rows).splitlines()] == [0] * len(rows)
    assert f"epochs of {len(data.corpus)}" in mixture_report.table(rows, "title").caption
