"""Surveys of the annotations: which recordings the examples need, before any of them is converted."""

import array
import dataclasses
from collections.abc import Collection
from typing import NoReturn

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, whole
from nlm_jax.prepare.annotations import Annotations, Exclusion
from nlm_jax.prepare.readers import registry


@dataclasses.dataclass(frozen=True)
class Survey:
    """Recordings in the order of their first example; about 300 bytes each."""

    paths: dict[str, int]
    """Recording -> its number."""
    splits: array.array
    """Per recording the index in `split_sets` of the splits whose examples need it."""
    split_sets: list[frozenset[str]]
    examples: int
    """Number of examples."""


def survey(annotations: Annotations, paths: Collection[str] = ()) -> Survey:
    """Surveys the examples of the prepared corpus.

    Args:
      annotations: of the run, whose held-out part is drawn.
      paths: recordings that come first, as they are in shards already.

    Raises:
      UserError: there are no examples, or all are excluded.
    """
    numbers = {path: number for number, path in enumerate(paths)}
    splits, split_sets = array.array("H", bytes(2 * len(numbers))), [frozenset()]
    codes: dict[tuple[int, str], int] = {}
    count = 0
    excluded: list[Exclusion] = []

    def keep_first(exclusion: Exclusion) -> None:
        if not excluded:
            excluded.append(exclusion)

    for count, example in enumerate(annotations.examples(keep_first), start=1):  # noqa: B007
        for path in example.paths:
            number = numbers.setdefault(path, len(numbers))
            if number == len(splits):
                splits.append(0)
            key = (splits[number], example.split)
            if key not in codes:
                union = split_sets[key[0]] | {example.split}
                if union not in split_sets:
                    split_sets.append(union)
                codes[key] = split_sets.index(union)
            splits[number] = codes[key]
    if not count and excluded:
        first = f"{excluded[0].example.where}: {excluded[0].reason} {excluded[0].name}"
        raise UserError(
            f"{annotations.options.annotations}: every example is of a held-out taxon or a benchmark ({first})"
        )
    if not count:
        _raise_no_examples(annotations)
    return Survey(numbers, splits, split_sets, count)


def candidate_recordings(annotations: Annotations) -> list[str]:
    """The recordings that examples may need once the held-out part is drawn, in the order of their first example.

    Raises:
      UserError: there are no examples.
    """
    if annotations.options.split is not None:  # which examples may move to it depends on the splits of all of them
        for _ in annotations.division.assign(annotations.read()):
            pass
    paths: dict[str, None] = {}
    count = 0
    for count, example in enumerate(annotations.candidates(), start=1):  # noqa: B007
        paths.update(dict.fromkeys(example.paths))
    if not count:
        _raise_no_examples(annotations)
    return list(paths)


def draw_held_out(annotations: Annotations, paths: Collection[str], rejected: Collection[str]) -> None:
    """Draws the held-out part among the examples whose recordings can be used.

    Args:
      annotations: of the run; `candidate_recordings` has read them.
      paths: all recordings.
      rejected: those that cannot be used.
    """
    usable = {whole(path) for path in paths if path not in rejected}
    rejected_rows = {(reject.name, reject.where) for reject in annotations.report.rejects}

    def is_usable(example: Example) -> bool:
        if example.paths and (example.paths[0], example.where) in rejected_rows:
            return False
        return all(whole(path) in usable and path not in rejected for path in example.paths)

    annotations.division.draw(filter(is_usable, annotations.read()))


def _raise_no_examples(annotations: Annotations) -> NoReturn:
    options, rejects = annotations.options, annotations.report.rejects
    if rejects:
        raise UserError(f"{options.annotations}: {registry.all_rejected(rejects)}")
    of = f" of split {options.split!r}" if options.split else ""
    raise UserError(f"{options.annotations}: holds no examples{of}; check the file and --split")
