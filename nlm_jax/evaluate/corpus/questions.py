"""The held-out part of a prepared corpus: a model's answers, scored by task beside two baselines of the same clips."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nlm_jax.audio import mel
from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.shards import CorruptRecord
from nlm_jax.evaluate import baselines
from nlm_jax.evaluate.accuracy import Prediction, Score, score
from nlm_jax.evaluate.nearest_label import Labels, classified

LEARNT = 2000
"""Training questions of a task that the baselines learn from, spread evenly."""


@dataclasses.dataclass(frozen=True)
class Question:
    """A question of a corpus, as `beans_zero.answering` asks it."""

    corpus: Any
    example: int
    samples: int
    """Of a clip of the model that is asked."""

    @functools.cached_property
    def entry(self):
        return self.corpus.entry(self.example)

    @property
    def part(self) -> str:
        return self.entry.task

    @property
    def id(self) -> str:
        return f"{self.entry.source}/{self.entry.id}"

    @property
    def question(self) -> str:
        return self.entry.prompt

    @property
    def label(self) -> str:
        return self.entry.text

    def waveform(self) -> list[np.ndarray]:
        """Its clips f32[T], zero-padded or cut to the first `samples`. Raises UserError where a record is damaged."""
        try:
            return self.corpus.audio(self.example, self.samples)
        except CorruptRecord as error:
            raise UserError(str(error)) from error


def questions(data: Sequence[str], split: str, samples: int, limit: int = 0) -> Iterator[Question]:
    """The questions of one split, at most `limit` (0 = all) of each task, spread evenly, with clips of `samples`.

    Raises:
      UserError: no prepared directory, or no such split in it.
    """
    corpus = Corpus(data, split)
    for e in spread(corpus, limit):
        yield Question(corpus, int(e), samples)


def spread(corpus, most: int) -> np.ndarray:
    """Numbers of at most `most` (0 = all) examples of each task, in their order."""
    if not most:
        return np.arange(len(corpus))
    chosen = []
    for task in range(len(corpus.tasks)):
        mine = np.flatnonzero(corpus.task == task)
        chosen.append(mine[np.linspace(0, len(mine) - 1, min(most, len(mine))).round().astype(int)])
    return np.sort(np.concatenate(chosen))


def predictions(file: pathlib.Path, asked: Sequence[Question]) -> list[Prediction]:
    """The answers of a predictions file as predictions of `asked`, those without an answer left out."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    given = {(row["dataset_name"], row["id"]): row["prediction"] for row in rows}
    return [
        Prediction(q.part, q.label, given[q.part, q.id], str(i), q.question)
        for i, q in enumerate(asked)
        if (q.part, q.id) in given
    ]


def compared(data: Sequence[str], split: str, made: Sequence[Prediction], asked: Sequence[Question]):
    """Baselines for `made`: majority answer and logistic regression, learnt from every other split of the same data.

    Returns:
      name -> predictions; empty where there is nothing to learn from.
    """
    corpus = Corpus(data)
    other = corpus.subset(~np.isin(_splits(corpus), [split]))
    if not len(other) or not asked:
        return {}
    known = [Question(other, int(e), asked[0].samples) for e in spread(other, LEARNT)]
    train = [Prediction(q.part, q.label, "", f"train {i}", q.question) for i, q in enumerate(known)]
    hear = _hearing(known, asked)
    train = [p for p in train if hear(p.path) is not None]
    tasks = {p.task for p in train}
    return baselines.predict(train, [p for p in made if p.task in tasks and hear(p.path) is not None], hear)


def _splits(corpus) -> np.ndarray:
    """The split of every example by name."""
    names = [np.asarray(list(part.manifest["splits"]), object)[part.index["split"]] for part in corpus.parts]
    return np.concatenate([names[k][corpus.local[corpus.part_of == k]] for k in range(len(names))])


def _hearing(known: Sequence[Question], asked: Sequence[Question]) -> Callable[[str], np.ndarray | None]:
    """A reader of clip statistics by name: "train 3" is clip 3 of `known`, "3" of `asked`; None where damaged."""

    @functools.cache
    def hear(name: str) -> np.ndarray | None:
        side, _, number = name.rpartition(" ")
        question = (known if side else asked)[int(number)]
        try:
            clips = question.waveform()
        except UserError:
            return None
        if not clips:
            return np.zeros(4 * mel.BANDS, np.float32)
        return np.mean([baselines.statistics(clip) for clip in clips], axis=0)

    return hear


def figures(made: Sequence[Prediction], base: dict[str, list[Prediction]]) -> dict[str, dict[str, Any]]:
    """Task -> counts, share that is right word for word and by the nearest label, interval, and both baselines."""
    others = {name: score(rows) for name, rows in base.items()}
    out = {}
    for task, s in score(made).items():
        mine = [p for p in made if p.task == task]
        labels = Labels.of(p.expected.strip() for p in mine)
        nearest = sum(classified(p.answer, labels)[0] == p.expected.strip() for p in mine)
        out[task] = {
            "questions": s.count,
            "right": s.hits,
            "accuracy": s.accuracy,
            "interval": [s.low, s.high],
            "accuracy_by_nearest_label": nearest / s.count,
            "macro_recall": _macro(mine),
            "answers_given": s.kinds_answered,
            "most_frequent": [s.most_common, s.most_common_share],
            **{name: scores[task].accuracy for name, scores in others.items() if task in scores},
        }
    return out


def _macro(made: Sequence[Prediction]) -> float:
    """Mean over right answers of the share that was found: rare classes count as much as frequent ones."""
    by_class: dict[str, list[bool]] = {}
    for p in made:
        by_class.setdefault(p.expected.strip(), []).append(p.right)
    return float(np.mean([np.mean(hits) for hits in by_class.values()]))


def bars(made: Sequence[Prediction], base: dict[str, list[Prediction]]) -> list[tuple]:
    """Rows of `page.picture.bars`."""
    others = {"majority answer": "majority", "logistic regression": "logistic"}
    marks: dict[str, dict[str, Score]] = {name: score(base.get(key, ())) for name, key in others.items()}
    return [
        (task, s.accuracy, s.low, s.high, {n: found[task].accuracy for n, found in marks.items() if task in found})
        for task, s in score(made).items()
    ]
