"""BEANS-Next's scorer: how it reads an answer, and its figures under its own names.

A fixed vocabulary and rules in place of the nearest label. Single labels: the label that the answer is, in any case;
else the longest label it contains; else the nearest one in lower case. Detections: the same per item, but an item more
than two edits from every label is dropped, and "None" is a label like any other. Yes/no, single letters, frequencies,
and label sets whose every label has two words or more have rules of their own. Source: earthspecies/beans-next at
9bf525b, `runner._postprocess_steps_for_examples`, `post_process/cleaners.py`, `metrics/`; quirks are kept and marked.
"""

import functools
import re
from collections.abc import Callable, Sequence

from rapidfuzz.distance import Levenshtein

from nlm_jax.evaluate.beans_zero import metrics
from nlm_jax.evaluate.beans_zero.cider import cider_d
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, CLASSIFICATION, DETECTION, UNSEEN, Kind, label_sets
from nlm_jax.evaluate.beans_zero.single import choice, contains, extract, frequency, named_in_full
from nlm_jax.evaluate.nearest_label import END

Labels = tuple[str, ...]
Reader = Callable[[str, Labels], str]
"""(one text without outer blanks, vocabulary) -> label."""
FEW_SHOT = ("gibbon-fewshot-detection-balanced", "dcase-fewshot-detection-balanced")
"""Tasks of several clips that are scored as single labels, "None" among them."""
NEAR = 2
"""Largest distance at which a detected item still counts as a label."""
FILLERS = re.compile(r"(?:a|an|the|definitely|probably|likely|maybe|it|is|sounds?|like|detect|detected|i|hear|hearing)")
"""Words that are skipped at the beginning of a detected item."""


def figures(part: str, kind: Kind, answers: Sequence[str], labels: Sequence[str], given: Sequence[str] = ()) -> dict:
    """BEANS-Next's figures of one part: means of what each sample scores, and the one figure of the whole set.

    Args:
      kind: of the part; that of BEANS-Next's own tasks goes before it.
      answers: as the model gave them.
      labels: what is right, in the order of `answers`.
      given: the vocabulary; by default the benchmark's, and of parts it does not know the items of `labels`.
    """
    kind = CLASSIFICATION if part in FEW_SHOT else kind
    if kind == CAPTIONING:
        texts = [shortened(answer) for answer in answers]
        return {"cider": sum(cider_d(texts, labels)) / len(texts) / 10.0 if len(texts) > 1 else 0.0}
    texts = read(answers, kind, vocabulary(part, labels, given))
    # Quirk: an answer of which nothing is left is compared as it came.
    pairs = [
        (collapsed(text or answer), collapsed(label))
        for text, answer, label in zip(texts, answers, labels, strict=True)
    ]
    right = sum(a == b != "" for a, b in pairs) / len(pairs)
    scores = dict.fromkeys(("accuracy", "top1_accuracy", "precision", "recall", "f1"), right)
    if kind == DETECTION:
        return scores | {"dataset_map": metrics.stable_map([items(t) for t in texts], [items(t) for t in labels])}
    return scores | {"macro_f1": metrics.classification(texts, labels, average="macro")["F1 Score"]}


def vocabulary(part: str, labels: Sequence[str], given: Sequence[str] = ()) -> Labels:
    """The labels of a part, in BEANS-Next's order, which decides between equally long ones."""
    fixed = tuple(given) or label_sets().get(part, ())
    if not fixed:
        return tuple(dict.fromkeys(item for label in labels for item in items(label)))
    return tuple(sorted(fixed)) if not given and part.startswith(tuple(f"unseen-{name}-" for name in UNSEEN)) else fixed


def read(answers: Sequence[str], kind: Kind, labels: Labels) -> list[str]:
    """What each answer counts as: a label, or of a detection labels with ", " between them."""
    if not labels:
        return [
            ", ".join(shortened(item) for item in parted(a)) if kind == DETECTION else shortened(a) for a in answers
        ]
    reader = reader_of(kind, labels)
    if reader is None:
        return [", ".join(detected(answer, labels)) for answer in answers]
    return [reader(shortened(answer), labels) for answer in answers]


def reader_of(kind: Kind, labels: Labels) -> Reader | None:
    """How answers with one label of `labels` are read; None for a detection."""
    lower = {label.lower() for label in labels}
    letters = {label.strip().lower() for label in labels}
    if lower == {"yes", "no"}:
        return extract
    if 2 <= len(letters) <= 10 and all(len(letter) == 1 and letter.isalpha() for letter in letters):
        return choice
    if all(label.strip().lower().endswith("hz") and label.split()[0].isdigit() for label in labels):
        return frequency
    if kind == DETECTION:
        return None
    return named_in_full if all(" " in label.strip() for label in labels) else extract


def detected(answer: str, labels: Labels) -> list[str]:
    """The labels of the items of an answer to a detection; repeated ones stay."""
    nearest = (nearby(shortened(item), labels) for item in parted(answer))
    return [label for label in nearest if label is not None]


@functools.lru_cache(maxsize=1 << 16)
def nearby(item: str, labels: Labels) -> str | None:
    """The label that an item is, contains, or is at most `NEAR` edits from."""
    by_lower_case: dict[str, str] = {}
    for label in labels:
        by_lower_case.setdefault(label.strip().lower(), label.strip())
    if not item.strip():
        return None
    words = re.sub(r"[^0-9a-z_\s\-]", " ", item.lower()).split()
    while len(words) > 1 and FILLERS.fullmatch(words[0]):
        words.pop(0)
    text = " ".join(words)
    if text in by_lower_case:
        return by_lower_case[text]
    if inside := next((name for name in sorted(by_lower_case, key=len, reverse=True) if contains(text, name)), None):
        return by_lower_case[inside]
    distance, name = min((Levenshtein.distance(text, name), name) for name in by_lower_case)
    return by_lower_case[name] if distance <= NEAR else None


def parted(answer: str) -> list[str]:
    """The items of an answer; a comma between two digits belongs to a number."""
    parts = re.split(r"(?<!\d),|,(?!\d)", answer)
    return [part.strip() for part in parts if part.strip()]


def items(text: str) -> list[str]:
    """The items of a label or of what was read, without empty ones."""
    return [item.strip() for item in text.split(",") if item.strip()]


def collapsed(text: str) -> str:
    """Single blanks, none at the ends."""
    return " ".join(text.split())


def shortened(text: str) -> str:
    """What stands before the end token, with single blanks. Quirk: one before the token stays."""
    return collapsed(text).split(END)[0]
