"""Examples to show, as model input, and an example before and after each augmentation."""

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from nlm_jax.core.chat import DEFAULT_END_SYM, DEFAULT_TEMPLATE
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.data.choices import Chooser
from nlm_jax.data.clips import ClipReader
from nlm_jax.data.config import AugmentConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.shards import CorruptRecord
from nlm_jax.data.shuffle import permute
from nlm_jax.describe.index import effective_number
from nlm_jax.describe.levels import chosen, measure

KINDS = ("noise", "mixup", "none", "time_scale", "time_shift", "band_stop", "reverb", "gain")
CANDIDATES = 40
"""Examples tried until an augmentation applies to one."""
WHY = {
    True: "it is for questions about one recording whose task is among augment.detection",
    False: "all tasks here are among those it leaves alone, or no clip has sound",
}
ANSWERS_READ, ANSWERS_SHOWN = 20_000, 6


@dataclasses.dataclass(frozen=True)
class Shown:
    """An example to show: its entry in describe.json, and its clips."""

    facts: dict[str, Any]
    clips: tuple[np.ndarray, ...]


def order(corpus: Corpus) -> Iterator[int]:
    """Examples in a fixed random order that takes tasks in turn."""
    queues = []
    for task in range(len(corpus.tasks)):
        of = np.flatnonzero(corpus.task == task)
        if of.size:
            queues.append(
                iter(of[permute(np.arange(of.size), of.size, np.full(of.size, task + 1, np.uint64))].tolist())
            )
    while queues:
        for queue in list(queues):
            example = next(queue, None)
            if example is None:
                queues.remove(queue)
            else:
                yield example


def rendered(prompt: str, answer: str) -> str:
    """The text that is tokenized: the template with the question, one <AudioHere> per clip, and the answer."""
    return DEFAULT_TEMPLATE.replace("{}", prompt, 1) + answer + DEFAULT_END_SYM


def examples(corpus: Corpus, count: int, samples: int) -> list[Shown]:
    """`count` examples, tasks in turn, with the first `samples` samples of their clips; damaged ones are skipped."""
    out: list[Shown] = []
    names = {key: corpus.codes(key) for key in ("split", "licence")}
    for e in order(corpus):
        if len(out) >= count:
            break
        try:
            entry, names_of_clips = corpus.entry(e), corpus.clip_names(e)
            clips = tuple(corpus.clip(e, k, 0, samples) for k in range(entry.n_clips))
        except CorruptRecord:
            continue
        facts = {
            "example": corpus.name(e),
            "id": entry.id,
            "task": entry.task,
            "domain": entry.domain,
            **{key: listed[codes[e]] for key, (listed, codes) in names.items()},
            "label": entry.label,
            "taxon": corpus.taxa[corpus.taxon[e]],
            "facts": entry.facts,
            "prompt": rendered(entry.prompt, entry.text),
            "question": entry.prompt,
            "answer": entry.text,
            "clips": [_clip(n, w, s) for n, w, s in zip(names_of_clips, clips, corpus.clip_samples(e), strict=True)],
        }
        out.append(Shown(facts, clips))
    return out


def _clip(name: str, wave: np.ndarray, samples: int) -> dict[str, Any]:
    level = measure(wave)
    return {
        "name": name,
        "seconds": round(samples / SAMPLE_RATE, 3),
        **{k: round(level[k], 2) for k in ("rms", "peak")},
    }


def answers(corpus: Corpus) -> list[dict[str, Any]]:
    """Per task the variety of its answers, from a fixed sample of at most `ANSWERS_READ` examples."""
    answers_of: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for e in chosen(len(corpus), ANSWERS_READ).tolist():
        try:
            entry = corpus.entry(e)
        except CorruptRecord:
            continue
        answers_of[entry.task][entry.text] += 1
    return [
        {
            "task": task,
            "read": counts.total(),
            "answers": len(counts),
            "effective_number": round(effective_number(np.asarray(list(counts.values()))), 2),
            "most_frequent": [
                {"answer": a, "share": round(n / counts.total(), 4)} for a, n in counts.most_common(ANSWERS_SHOWN)
            ],
        }
        for task, counts in sorted(answers_of.items(), key=lambda item: (-item[1].total(), item[0]))
    ]


def augmented(corpus: Corpus, config: AugmentConfig, samples: int, seed: int) -> list[tuple[Shown, Shown | None]]:
    """Per kind of augmentation an example before and after, with the ranges of `config`; None if it applies to none."""
    return [_augmented(corpus, config, kind, samples, seed) for kind in KINDS]


def _augmented(corpus: Corpus, config: AugmentConfig, kind: str, samples: int, seed: int) -> tuple[Shown, Shown | None]:
    off = {field.name: 0.0 for field in dataclasses.fields(config) if field.name.endswith("_prob")}
    alone = dataclasses.replace(config, **{**off, f"{kind}_prob": 1.0})
    chooser = Chooser(corpus, alone, seed)
    reader = ClipReader(corpus, alone, samples, crop=True, seed=seed)
    facts = {"kind": kind, "probability": getattr(config, f"{kind}_prob")}
    for position, example in enumerate(_candidates(corpus, chooser, kind)):
        try:
            entry, choice = corpus.entry(example), chooser.choose(position, example)
            steps = list(reader.steps(choice, position))
        except CorruptRecord:
            continue
        if steps[-1].name == kind and any(clip.any() for clip in steps[0].clips):
            before = {**facts, "example": corpus.name(example), "task": entry.task}
            after = {"parameters": {k: round(float(v), 4) for k, v in steps[-1].parameters.items()}}
            texts = [(entry.prompt, entry.text), choice.texts(entry)]
            levels = [[_clip("", w, w.size) for w in step.clips] for step in (steps[0], steps[-1])]
            first, second = (
                {
                    "question": q,
                    "answer": a,
                    "prompt": rendered(q, a),
                    "levels": [{k: c[k] for k in ("rms", "peak")} for c in measured],
                }
                for (q, a), measured in zip(texts, levels, strict=True)
            )
            return Shown({**before, **first}, steps[0].clips), Shown({**after, **second}, steps[-1].clips)
    return Shown({**facts, "skipped": f"it applies to no example; {WHY[kind in ('mixup', 'none')]}"}, ()), None


def _candidates(corpus: Corpus, chooser: Chooser, kind: str) -> list[int]:
    """Examples that a kind of augmentation may apply to: those whose text it changes, or any with a recording."""
    every = np.arange(len(corpus))
    if kind in ("mixup", "none"):
        return chooser.changed(every, every)[:CANDIDATES].tolist()
    tokens = corpus.column("text_tokens")
    short, out = np.median(tokens), []
    for e in order(corpus):
        if corpus.n_clips[e]:
            out.append(e)
        if len(out) >= CANDIDATES * 5:
            break
    turn = KINDS.index(kind)  # a different example for every kind, short questions first
    return sorted(out[turn:] + out[:turn], key=lambda e: tokens[e] > short)
