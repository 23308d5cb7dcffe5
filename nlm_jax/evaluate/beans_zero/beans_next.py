"""BEANS-Next's scorer: how it maps responses to labels, and its figures under its own names.

It has a fixed vocabulary. Single labels: the label equal to the response, ignoring case; else the longest label that
the response contains; else the nearest in lower case. Detections: the same for each item, but an item more than two
edits from every label is dropped, and "None" is a label like any other. Yes/no, single letters, frequencies, and label
sets in which every label has two words or more have rules of their own. Source: earthspecies/beans-next at 9bf525b,
`runner._postprocess_steps_for_examples`, `post_process/cleaners.py`, `metrics/`; quirks are preserved and marked.
"""

import functools
import re
from collections.abc import Callable, Sequence

from rapidfuzz.distance import Levenshtein

from nlm_jax.evaluate.beans_zero import metrics
from nlm_jax.evaluate.beans_zero.cider import cider_d
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, CLASSIFICATION, DETECTION, UNSEEN, Kind, label_sets
from nlm_jax.evaluate.beans_zero.single import (
    Vocabulary,
    by_lower_case,
    contains,
    extract_frequency,
    extract_label,
    extract_letter,
    extract_multi_word,
)
from nlm_jax.evaluate.nearest_label import END, split_items

Extractor = Callable[[str, Vocabulary], str]
"""(response without outer blanks, vocabulary) -> label."""
FEW_SHOT = ("gibbon-fewshot-detection-balanced", "dcase-fewshot-detection-balanced")
"""Tasks with several clips that are scored as single labels; "None" is one of them."""
MAX_ITEM_DISTANCE = 2
"""Largest edit distance at which a detected item still counts as a label."""
FILLERS = re.compile(r"(?:a|an|the|definitely|probably|likely|maybe|it|is|sounds?|like|detect|detected|i|hear|hearing)")
"""Words that are removed from the beginning of a detected item."""


def figures(
    part: str, kind: Kind, responses: Sequence[str], labels: Sequence[str], vocabulary: Sequence[str] = ()
) -> dict[str, float]:
    """BEANS-Next's figures of one part: means over the samples, and the one figure of the whole set.

    Args:
      part: of the benchmark, or a task of BEANS-Next.
      kind: of question; BEANS-Next's own tasks have their own.
      responses: of the model.
      labels: the correct ones, in the order of `responses`.
      vocabulary: the labels of the part; for the default see `vocabulary_of`.
    """
    kind = CLASSIFICATION if part in FEW_SHOT else kind
    if kind == CAPTIONING:
        texts = [clean(response) for response in responses]
        return {"cider": sum(cider_d(texts, labels)) / len(texts) / 10.0 if len(texts) > 1 else 0.0}
    texts = to_labels(responses, kind, vocabulary_of(part, labels, vocabulary))
    # Quirk: if nothing is left of a response, the response itself is compared.
    pairs = [
        (collapse_blanks(text or response), collapse_blanks(label))
        for text, response, label in zip(texts, responses, labels, strict=True)
    ]
    share = sum(a == b != "" for a, b in pairs) / len(pairs)
    means = dict.fromkeys(("accuracy", "top1_accuracy", "precision", "recall", "f1"), share)
    if kind == DETECTION:
        sets = [[nonempty_items(text) for text in group] for group in (texts, labels)]
        return means | {"dataset_map": metrics.stable_map(*sets)}
    return means | {"macro_f1": metrics.classification(texts, labels, average="macro")["F1 Score"]}


def vocabulary_of(part: str, labels: Sequence[str], replacement: Sequence[str] = ()) -> Vocabulary:
    """The vocabulary of a part, in BEANS-Next's order, which decides between equally long labels.

    Args:
      part: of the benchmark; the vocabulary of an unknown one is the items of `labels`.
      labels: of the data.
      replacement: if not empty, this is the vocabulary.
    """
    fixed = tuple(replacement) or label_sets().get(part, ())
    if not fixed:
        return tuple(dict.fromkeys(item for label in labels for item in nonempty_items(label)))
    is_sorted = not replacement and part.startswith(tuple(f"unseen-{name}-" for name in UNSEEN))
    return tuple(sorted(fixed)) if is_sorted else fixed


def to_labels(responses: Sequence[str], kind: Kind, labels: Vocabulary) -> list[str]:
    """The label that each response counts as; for a detection labels joined by ", "."""
    if not labels:
        return [
            ", ".join(clean(item) for item in split_response(response)) if kind == DETECTION else clean(response)
            for response in responses
        ]
    extract = extractor_of(kind, labels)
    if extract is None:
        return [", ".join(detected_labels(response, labels)) for response in responses]
    return [extract(clean(response), labels) for response in responses]


def extractor_of(kind: Kind, labels: Vocabulary) -> Extractor | None:
    """The rule for responses with one of `labels`; None for a detection."""
    lower = {label.lower() for label in labels}
    stripped = {label.strip().lower() for label in labels}
    if lower == {"yes", "no"}:
        return extract_label
    if 2 <= len(stripped) <= 10 and all(len(label) == 1 and label.isalpha() for label in stripped):
        return extract_letter
    if all(label.strip().lower().endswith("hz") and label.split()[0].isdigit() for label in labels):
        return extract_frequency
    if kind == DETECTION:
        return None
    return extract_multi_word if all(" " in label.strip() for label in labels) else extract_label


def detected_labels(response: str, labels: Vocabulary) -> list[str]:
    """The labels of the items of the response to a detection; repeated ones are kept."""
    matches = (match_item(clean(item), labels) for item in split_response(response))
    return [label for label in matches if label is not None]


@functools.lru_cache(maxsize=1 << 16)
def match_item(item: str, labels: Vocabulary) -> str | None:
    """The label equal to an item, else the longest in it, else the nearest up to `MAX_ITEM_DISTANCE`, else None."""
    lower = by_lower_case(tuple(label.strip() for label in labels))
    if not item.strip():
        return None
    words = re.sub(r"[^0-9a-z_\s\-]", " ", item.lower()).split()
    while len(words) > 1 and FILLERS.fullmatch(words[0]):
        words.pop(0)
    text = " ".join(words)
    if text in lower:
        return lower[text]
    if contained := next((name for name in sorted(lower, key=len, reverse=True) if contains(text, name)), None):
        return lower[contained]
    distance, name = min((Levenshtein.distance(text, name), name) for name in lower)
    return lower[name] if distance <= MAX_ITEM_DISTANCE else None


def split_response(response: str) -> list[str]:
    """The items of a response; a comma between two digits belongs to a number."""
    parts = re.split(r"(?<!\d),|,(?!\d)", response)
    return [part.strip() for part in parts if part.strip()]


def nonempty_items(text: str) -> list[str]:
    """The comma-separated items of a text, without empty ones."""
    return [item for item in split_items(text) if item]


def collapse_blanks(text: str) -> str:
    """The text with single blanks, none at the ends."""
    return " ".join(text.split())


def clean(text: str) -> str:
    """The text before the end token, with single blanks. Quirk: a blank before the token is kept."""
    return collapse_blanks(text).split(END)[0]
