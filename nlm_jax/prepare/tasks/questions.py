"""One recording, one task: the question and its answer, if the recording has the facts that the task needs."""

import dataclasses
import random
from collections.abc import Mapping

from nlm_jax.data.schema import NONE
from nlm_jax.prepare.tasks import comparisons
from nlm_jax.prepare.tasks.deterministic import digest, generator
from nlm_jax.prepare.tasks.fields import several
from nlm_jax.prepare.tasks.negatives import KINDS
from nlm_jax.prepare.tasks.pools import Pools
from nlm_jax.prepare.tasks.schema import CandidateList, Task, YesNoQuestion, placeholders

KEEP_PROBABILITY = 0.5
"""Probability that each of time, place and notes is in a context."""
MAX_LIST = 1500
"""Characters of a list of candidates, which fits into a row of 1024 tokens."""
MAX_NOTES = 150
"""Characters of field notes."""


@dataclasses.dataclass(frozen=True)
class TaskQuestion:
    """A template with all placeholders replaced, and its answer."""

    prompt: str
    text: str
    paths: tuple[str, ...]


def ask(
    task: Task,
    ident: str,
    path: str,
    split: str,
    values: Mapping[str, str],
    pools: Pools,
    seed: int,
    side: str,
    max_clips: int = 8,
) -> TaskQuestion | None:
    """The question of a task about a recording.

    Args:
      task: the task.
      ident: id of the example.
      path: its recording.
      split: its split, of which other clips are taken.
      values: the fields of the recording (`Pools.fields_of`).
      pools: what is taken from other examples.
      seed: with the id and the task it decides all that is random; the phrasing depends on nothing else.
      side: "train" or "test" phrasings.
      max_clips: clips in one prompt.

    Returns:
      The question; None if a field or other clips are missing.
    """
    if any(name not in values for name in task.facts()):
        return None
    rng = generator(seed, ident, task.name)
    built: dict[str, str] | None = {}
    clips: dict[str, tuple[str, ...]] = {}
    if task.options:
        built = candidate_list(task.options, values, pools, rng)
    elif task.ask:
        built = yes_no(task.ask, values, pools, rng)
    elif task.clips:
        built, clips = comparisons.build(task.clips, path, split, values, pools, rng, max_clips) or (None, {})
    if built is None:
        return None
    filled = {**values, **built}
    if task.context:
        filled["context"] = context(task.context, values, generator(seed, ident, task.name, "context"))
        if not filled["context"]:
            return None
    answers = [answer for answer in task.answer if all(name in filled for name in placeholders(answer, ""))]
    if not answers:
        return None
    # Digests instead of `rng`: neither the pools nor the number of answers changes the phrasing.
    phrasings = task.test if side == "test" else task.train
    phrasing = phrasings[digest(str(seed), ident, task.name, "phrasing") % len(phrasings)]
    answer = answers[digest(str(seed), ident, task.name, "answer") % len(answers)]
    paths = [p for name in placeholders(phrasing, "") for p in clips.get(name, ())] if task.clips else [path]
    return TaskQuestion(phrasing.format(**filled), answer.format(**filled), tuple(paths))


def candidate_list(
    spec: CandidateList, values: Mapping[str, str], pools: Pools, rng: random.Random
) -> dict[str, str] | None:
    """The placeholders `options` and `answer`: right candidates among wrong ones, or without them (`spec.absent`).

    Args:
      spec: the list.
      values: the fields of the recording.
      pools: the wrong candidates.
      rng: source of randomness.

    Returns:
      The placeholders; None if there are no wrong candidates, or the right ones do not fit into a list.
    """
    if (right := _right(spec.of, values, pools, allow_several=spec.absent > 0)) is None:
        return None
    count = rng.randint(1, spec.most)
    wrong = pools.negatives(spec.of, values, [*right, *_not_wrong(values, pools, spec.of)], count, spec.negatives, rng)
    absent = rng.random() < spec.absent
    limit = MAX_LIST - sum(len(name) + 2 for name in right)
    while len(wrong) > 1 and sum(len(name) + 2 for name in wrong) > limit:
        wrong.pop()
    if not wrong:
        return None
    listed = wrong if absent else [*right, *wrong]
    rng.shuffle(listed)
    if spec.absent:
        listed.append(NONE)
    return {"options": ", ".join(listed), "answer": NONE if absent else ", ".join(right)}


def yes_no(spec: YesNoQuestion, values: Mapping[str, str], pools: Pools, rng: random.Random) -> dict[str, str] | None:
    """The placeholders `asked` and `answer`: a right candidate and Yes, or equally often a wrong one and No.

    Args:
      spec: the question.
      values: the fields of the recording.
      pools: the wrong candidates.
      rng: source of randomness.

    Returns:
      The placeholders; None if there is no wrong candidate.
    """
    if (right := _right(spec.of, values, pools, allow_several=True)) is None:
        return None
    wrong = pools.negatives(spec.of, values, [*right, *_not_wrong(values, pools, spec.of)], 1, spec.negatives, rng)
    if not wrong:
        return None
    present = rng.random() < 0.5
    return {"asked": rng.choice(right) if present else wrong[0], "answer": "Yes" if present else "No"}


def context(parts: tuple[str, ...], values: Mapping[str, str], rng: random.Random) -> str:
    """The placeholder `context`: time, place and notes, each dropped at random, but at least one; "" without any.

    Args:
      parts: which of `schema.CONTEXT` may be in it.
      values: the fields of the recording.
      rng: source of randomness.
    """
    texts = {
        "time": ", ".join(values[key] for key in ("date", "time") if key in values),
        "place": ", ".join(values[key] for key in ("place", "country") if key in values),
        "notes": _notes(values),
    }
    available = [f"{part}: {texts[part]}" for part in parts if texts[part]]
    if not available:
        return ""
    chosen = [text for text in available if rng.random() < KEEP_PROBABILITY] or [rng.choice(available)]
    return "; ".join(chosen)


def _right(of: str, values: Mapping[str, str], pools: Pools, allow_several: bool) -> list[str] | None:
    """The right candidates; None if one contains a comma, or there are several and one is allowed."""
    if of not in KINDS:
        right = several(values[of])
        return right if right and (len(right) == 1 or allow_several) else None
    right = [values[of]]
    if allow_several:
        right += pools.names(values.get("others", ""), of)
    return None if any("," in name for name in right) else several(",".join(right))


def _not_wrong(values: Mapping[str, str], pools: Pools, of: str) -> list[str]:
    """Names of all species heard, in each spelling: they must not be among the wrong candidates."""
    if of not in KINDS:
        return []
    names = [values.get("scientific_name", "") or values.get("common_name", ""), *several(values.get("others", ""))]
    return [taxon.name(of) for taxon in map(pools.taxa.find, names) if taxon] + several(values.get("others", ""))


def _notes(values: Mapping[str, str]) -> str:
    """Field notes, shortened; "" if they name the animal, which would give away the answer."""
    notes = values.get("notes", "")
    names = [values.get(key, "").casefold() for key in ("common_name", "scientific_name", "genus", "family")]
    if any(name and name in notes.casefold() for name in names):
        return ""
    return notes if len(notes) <= MAX_NOTES else notes[:MAX_NOTES].rsplit(" ", 1)[0] + " ..."
