"""The first stage of `nlm prepare`: which examples are taken, and which recordings they need."""

import array
import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import NoReturn

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, whole
from nlm_jax.prepare.options import Options
from nlm_jax.prepare.readers import registry
from nlm_jax.prepare.tasks import with_tasks


@dataclasses.dataclass(frozen=True)
class Survey:
    """Recordings in the order of their first example; some 300 bytes each."""

    paths: dict[str, int]
    splits: array.array
    """Per recording the number of the set of splits in whose examples it is."""
    sets: list[frozenset[str]]
    examples: int


@with_tasks.asked
def selected(options: Options, tell: Callable[[Example, str, str], None] | None = None) -> Iterator[Example]:
    """Examples without those that training must not hear; `tell(example, why, name)` hears of each.

    Behind each come the instructions about it that the options ask for: what training must not hear is in none of them.
    `why` is "family", "genus", "species", "common name" (of a held-out taxon), "id" or "file name" (of a benchmark).
    """
    taxa, against = options.taxa, options.against
    for example in options.examples():
        if options.training(example.split):
            found = taxa.reason(example) if taxa else None
            leak = against.named(example) if against and not found else None
            if found or leak:
                if tell:
                    tell(example, *(found or leak))
                if found or options.leakage == "drop":
                    continue
        yield example


def candidates(options: Options) -> dict[str, int]:
    """The recordings, numbered, that examples need or may need once the held-out part is drawn.

    Raises:
      UserError: as `survey`.
    """
    if not options.hold_out:
        return survey(options).paths
    options.division.of({example.split for example in options.read()})
    paths: dict[str, int] = {}
    count = 0
    for count, example in enumerate(options.examples(), start=1):  # noqa: B007
        for path in example.paths:
            paths.setdefault(path, len(paths))
    if not count:
        _refuse(options)
    return paths


def divide(options: Options, paths: Collection[str], rejected: Collection[str]) -> None:
    """Draws the held-out part among examples whose clips can be used.

    Args:
      options: of the run.
      paths: of all clips.
      rejected: of those that cannot be used.
    """
    usable = {whole(path) for path in paths if path not in rejected}
    lost = {(reject.name, reject.where) for reject in options.report.rejects}

    def can_be_used(example: Example) -> bool:
        if example.paths and (example.paths[0], example.where) in lost:
            return False
        return all(whole(path) in usable and path not in rejected for path in example.paths)

    options.division.draw(filter(can_be_used, options.read()))


def survey(options: Options, paths: dict[str, int] | None = None) -> Survey:
    """The recordings that the examples need, numbered on behind `paths`.

    Raises:
      UserError: there are no examples, or none is left.
    """
    paths = dict(paths or {})
    splits, sets, codes = array.array("H", bytes(2 * len(paths))), [frozenset()], {}
    count, dropped = 0, []

    def tell(example: Example, why: str, name: str) -> None:
        if not dropped:
            dropped.append(f"{example.where}: {why} {name}")

    for count, example in enumerate(selected(options, tell), start=1):  # noqa: B007
        for path in example.paths:
            number = paths.setdefault(path, len(paths))
            if number == len(splits):
                splits.append(0)
            key = (splits[number], example.split)
            if key not in codes:
                grown = sets[key[0]] | {example.split}
                if grown not in sets:
                    sets.append(grown)
                codes[key] = sets.index(grown)
            splits[number] = codes[key]
    if not count and dropped:
        raise UserError(f"{options.annotations}: every example is of a held-out taxon or a benchmark ({dropped[0]})")
    if not count:
        _refuse(options)
    return Survey(paths, splits, sets, count)


def _refuse(options: Options) -> NoReturn:
    if options.report.rejects:
        raise UserError(f"{options.annotations}: {registry.unusable(options.report.rejects)}")
    of = f" of split {options.split!r}" if options.split else ""
    raise UserError(f"{options.annotations}: holds no examples{of}; check the file and --split")
