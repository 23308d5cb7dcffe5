"""One recording, one task: the question and its answer, or nothing where the recording does not know enough."""

import dataclasses
import random
from collections.abc import Mapping

from nlm_jax.data.schema import NONE
from nlm_jax.prepare.tasks import comparisons
from nlm_jax.prepare.tasks.deterministic import digest, generator
from nlm_jax.prepare.tasks.fields import several
from nlm_jax.prepare.tasks.negatives import KINDS
from nlm_jax.prepare.tasks.pools import Pools
from nlm_jax.prepare.tasks.schema import Ask, Options, Task, placeholders

KEPT = 0.5
"""Chance of time, place and notes each to stay in a context."""
LONGEST = 1500
"""Characters of a list of candidates and of field notes (a tenth of it): what leaves a row of 1024 tokens in peace."""


@dataclasses.dataclass(frozen=True)
class Question:
    """A filled template."""

    prompt: str
    text: str
    paths: tuple[str, ...]


def ask(
    task: Task,
    ident: str,
    path: str,
    split: str,
    known: Mapping[str, str],
    pools: Pools,
    seed: int,
    side: str,
    most_clips: int = 8,
) -> Question | None:
    """The question of a task about a recording of which `known` is known (`Pools.described`); None where it lacks some.

    It depends on the seed, the example's id, what is known and the pools; the phrasing on seed and id alone.
    """
    if any(name not in known for name in task.facts()):
        return None
    values: dict[str, str] = dict(known)
    clips: dict[str, tuple[str, ...]] = {}
    if task.options:
        built = candidates(task.options, known, pools, generator(seed, ident, task.name))
    elif task.ask:
        built = asked(task.ask, known, pools, generator(seed, ident, task.name))
    elif task.clips:
        rng = generator(seed, ident, task.name)
        compared = comparisons.build(task.clips, path, split, known, pools, rng, most_clips)
        built, clips = compared or (None, {})
    else:
        built = {}
    if built is None:
        return None
    values |= built
    if task.context:
        context = contexts(task.context, known, generator(seed, ident, task.name, "context"))
        if not context:
            return None
        values["context"] = context
    answers = [answer for answer in task.answer if all(name in values for name in placeholders(answer, ""))]
    if not answers:
        return None
    # Dice of their own: neither the pools nor the number of answers moves the phrasing.
    phrasings = task.test if side == "test" else task.train
    phrasing = phrasings[digest(str(seed), ident, task.name, "phrasing") % len(phrasings)]
    answer = answers[digest(str(seed), ident, task.name, "answer") % len(answers)]
    paths = [p for name in placeholders(phrasing, "") for p in clips.get(name, ())] if task.clips else [path]
    return Question(phrasing.format(**values), answer.format(**values), tuple(paths))


def candidates(spec: Options, known: Mapping[str, str], pools: Pools, rng: random.Random) -> dict[str, str] | None:
    """`options` and `answer`: the right ones among wrong ones, or, in a share of `spec.absent`, left out."""
    if (right := _right(spec.of, known, pools, several_may=spec.absent > 0)) is None:
        return None
    count = rng.randint(1, spec.most)
    wrong = pools.negatives(spec.of, known, [*right, *_heard(known, pools, spec.of)], count, spec.negatives, rng)
    absent = rng.random() < spec.absent
    room = LONGEST - sum(len(name) + 2 for name in right)
    while len(wrong) > 1 and sum(len(name) + 2 for name in wrong) > room:
        wrong.pop()
    if not wrong:
        return None
    listed = wrong if absent else [*right, *wrong]
    rng.shuffle(listed)
    if spec.absent:
        listed.append(NONE)
    return {"options": ", ".join(listed), "answer": NONE if absent else ", ".join(right)}


def asked(spec: Ask, known: Mapping[str, str], pools: Pools, rng: random.Random) -> dict[str, str] | None:
    """`asked` and `answer`: a right candidate and Yes, or a wrong one and No, as often."""
    if (right := _right(spec.of, known, pools, several_may=True)) is None:
        return None
    wrong = pools.negatives(spec.of, known, [*right, *_heard(known, pools, spec.of)], 1, spec.negatives, rng)
    if not wrong:
        return None
    present = rng.random() < 0.5
    return {"asked": rng.choice(right) if present else wrong[0], "answer": "Yes" if present else "No"}


def contexts(parts: tuple[str, ...], known: Mapping[str, str], rng: random.Random) -> str:
    """Time, place and notes, each of them kept or dropped by the dice, but one at least; "" where none is known."""
    made = {
        "time": ", ".join(known[key] for key in ("date", "time") if key in known),
        "place": ", ".join(known[key] for key in ("place", "country") if key in known),
        "notes": _notes(known),
    }
    there = [f"{part}: {made[part]}" for part in parts if made[part]]
    if not there:
        return ""
    kept = [part for part in there if rng.random() < KEPT] or [rng.choice(there)]
    return "; ".join(kept)


def _right(of: str, known: Mapping[str, str], pools: Pools, several_may: bool) -> list[str] | None:
    """The right candidates; None where they cannot stand in a list, or there is more than one and only one may."""
    if of not in KINDS:
        right = several(known[of])
        return right if right and (len(right) == 1 or several_may) else None
    right = [known[of]]
    if several_may:
        right += pools.names(known.get("others", ""), of)
    return None if any("," in name for name in right) else several(",".join(right))


def _heard(known: Mapping[str, str], pools: Pools, of: str) -> list[str]:
    """Names that are no wrong answers, whichever way they are spelt."""
    if of not in KINDS:
        return []
    names = [known.get("scientific_name", "") or known.get("common_name", ""), *several(known.get("others", ""))]
    return [taxon.name(of) for taxon in map(pools.taxa.find, names) if taxon] + several(known.get("others", ""))


def _notes(known: Mapping[str, str]) -> str:
    """Field notes, shortened; none where they name the animal, which would be the answer."""
    notes = known.get("notes", "")
    told = [known.get(key, "").casefold() for key in ("common_name", "scientific_name", "genus", "family")]
    if any(name and name in notes.casefold() for name in told):
        return ""
    return notes if len(notes) <= LONGEST // 10 else notes[: LONGEST // 10].rsplit(" ", 1)[0] + " ..."
