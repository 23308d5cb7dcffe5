"""Examples to look at: what the model is given for each, and what every augmentation makes of one."""

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
TRIED = 40
"""Examples tried until one takes an augmentation."""
WHY = {
    True: "it is for questions about one recording whose task is among augment.detection",
    False: "all tasks here are among those it leaves alone, or nothing is heard",
}
ANSWERS_READ, ANSWERS_SHOWN = 20_000, 6


@dataclasses.dataclass(frozen=True)
class Shown:
    """Facts about something shown, as they go into describe.json, and its clips."""

    facts: dict[str, Any]
    clips: tuple[np.ndarray, ...]


def order(corpus: Corpus) -> Iterator[int]:
    """Examples in an order that takes tasks in turn, the same every time."""
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
    """What stands before the tokenizer: the template around the question, one <AudioHere> a clip, and the answer."""
    return DEFAULT_TEMPLATE.replace("{}", prompt, 1) + answer + DEFAULT_END_SYM


def examples(corpus: Corpus, count: int, samples: int) -> list[Shown]:
    """`count` examples, tasks in turn, with their first `samples` samples of audio; damaged ones are passed over."""
    out: list[Shown] = []
    names = {key: corpus.codes(key) for key in ("split", "licence")}
    for e in order(corpus):
        if len(out) >= count:
            break
        try:
            entry, heard = corpus.entry(e), corpus.clip_names(e)
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
            "clips": [_clip(n, w, s) for n, w, s in zip(heard, clips, corpus.clip_samples(e), strict=True)],
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
    """Per task how varied its answers are, from `ANSWERS_READ` examples at most, the same every time."""
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for e in chosen(len(corpus), ANSWERS_READ).tolist():
        try:
            entry = corpus.entry(e)
        except CorruptRecord:
            continue
        found[entry.task][entry.text] += 1
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
        for task, counts in sorted(found.items(), key=lambda item: (-item[1].total(), item[0]))
    ]


def augmented(corpus: Corpus, config: AugmentConfig, samples: int, seed: int) -> list[tuple[Shown, Shown | None]]:
    """Per kind of augmentation an example before and after it, by the ranges of `config`; None where none takes it."""
    return [_augmented(corpus, config, kind, samples, seed) for kind in KINDS]


def _augmented(corpus: Corpus, config: AugmentConfig, kind: str, samples: int, seed: int) -> tuple[Shown, Shown | None]:
    off = {field.name: 0.0 for field in dataclasses.fields(config) if field.name.endswith("_prob")}
    alone = dataclasses.replace(config, **{**off, f"{kind}_prob": 1.0})
    chooser = Chooser(corpus, alone, seed)
    reader = ClipReader(corpus, alone, samples, crop=True, seed=seed)
    said = {"kind": kind, "probability": getattr(config, f"{kind}_prob")}
    for position, example in enumerate(_candidates(corpus, chooser, kind)):
        try:
            entry, choice = corpus.entry(example), chooser.choose(position, example)
            steps = list(reader.steps(choice, position))
        except CorruptRecord:
            continue
        if steps[-1].name == kind and any(clip.any() for clip in steps[0].clips):
            before = {**said, "example": corpus.name(example), "task": entry.task}
            after = {"parameters": {k: round(float(v), 4) for k, v in steps[-1].parameters.items()}}
            texts = [(entry.prompt, entry.text), choice.texts(entry)]
            levels = [[_clip("", w, w.size) for w in step.clips] for step in (steps[0], steps[-1])]
            first, second = (
                {
                    "question": q,
                    "answer": a,
                    "prompt": rendered(q, a),
                    "levels": [{k: c[k] for k in ("rms", "peak")} for c in heard],
                }
                for (q, a), heard in zip(texts, levels, strict=True)
            )
            return Shown({**before, **first}, steps[0].clips), Shown({**after, **second}, steps[-1].clips)
    return Shown({**said, "skipped": f"no example takes it; {WHY[kind in ('mixup', 'none')]}"}, ()), None


def _candidates(corpus: Corpus, chooser: Chooser, kind: str) -> list[int]:
    """Examples that may take a kind of augmentation: those it changes text of, or any with a recording."""
    every = np.arange(len(corpus))
    if kind in ("mixup", "none"):
        return chooser.changed(every, every)[:TRIED].tolist()
    tokens = corpus.column("text_tokens")
    short, out = np.median(tokens), []
    for e in order(corpus):
        if corpus.n_clips[e]:
            out.append(e)
        if len(out) >= TRIED * 5:
            break
    turn = KINDS.index(kind)  # not the same example for every kind, and none with a long list in its question
    return sorted(out[turn:] + out[:turn], key=lambda e: tokens[e] > short)
