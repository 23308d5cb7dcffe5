"""From a free-text response to one label of a vocabulary, by BEANS-Next's rules. Source: see beans_next.py."""

import functools
import re

from rapidfuzz.distance import Levenshtein

Vocabulary = tuple[str, ...]
WHOLE_WORD_LENGTH = 2
"""Labels up to this length count as contained only as a whole word (of letters, digits, underscores)."""
PHRASE_BONUS = 0.25
"""Added to the share of a label's words that occur, if they occur as a phrase."""

NUMBER = r"\d+(?:\.\d+)?"
TIMESTAMP = re.compile(rf"^\s*#?\s*{NUMBER}\s*s?\s*-\s*{NUMBER}\s*s?\s*#?\s*:\s*", re.IGNORECASE | re.MULTILINE)
"""The time range before an event, as "#0.0s - 5.0s#: "."""
AMOUNT = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
RANGE = re.compile(r"(\d{3,6})\s*-\s*(\d{3,6})\s*hz\b", re.IGNORECASE)
FREQUENCY_LABEL = re.compile(r"\s*(\d+)\s*hz\s*", re.IGNORECASE)

OPENING, CLOSING = r"[*_`(\[]*", r"[*_`)\]]*"
NOUNS = "option|choice|description"
LETTERS = [
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        # "the final answer is B", "I choose (B)"
        rf"\b(?:final\s+answer|answer|correct\s+(?:{NOUNS})|selected\s+option|i\s+choose|i\s+pick)"
        rf"\s*(?:is|:|-)?\s*(?:option\s*)?{OPENING}([a-z])\b",
        # "the best match is B"
        rf"\b(?:correct|best)\s+(?:match|{NOUNS})\s*(?:is|:|-)\s*{OPENING}([a-z])\b",
        # a letter that ends a line
        rf"(?:^|\b){OPENING}([a-z])\b{CLOSING}\s*$",
        # "option B"
        rf"\b(?:{NOUNS})\s*([a-z])\b",
    )
] + [re.compile(r"(?<![0-9A-Za-z_])([A-Z])(?![0-9A-Za-z_])")]
"""Patterns of a chosen letter, the most reliable first; the last match in the response counts."""
WRAPPED = re.compile(r"^[\s*_`(\[{<]+|[\s*_`)\]}>.!?:;,'\"]+$")


def contains(text: str, label: str) -> bool:
    """Whether a text contains a label, both in lower case."""
    if len(label) > WHOLE_WORD_LENGTH:
        return label in text
    return re.search(rf"(?<![0-9a-z_]){re.escape(label)}(?![0-9a-z_])", text) is not None


def by_lower_case(labels: Vocabulary) -> dict[str, str]:
    """Label in lower case -> the first label that is spelled so."""
    lower: dict[str, str] = {}
    for label in labels:
        lower.setdefault(label.lower(), label)
    return lower


@functools.lru_cache(maxsize=1 << 16)
def extract_label(response: str, labels: Vocabulary) -> str:
    """The label equal to the response, else the longest it contains, else the nearest: all in lower case."""
    text, lower = response.lower().strip(), by_lower_case(labels)
    if text in lower:
        return lower[text]
    longest_first = sorted(lower, key=len, reverse=True)
    contained = next((name for name in longest_first if contains(text, name)), None)
    nearest = min(lower, key=lambda name: (Levenshtein.distance(text, name), name))
    return lower[nearest if contained is None else contained]


@functools.lru_cache(maxsize=1 << 16)
def extract_multi_word(response: str, labels: Vocabulary) -> str:
    """The label whose words all occur in the response, as a phrase if possible, then the one with most words.

    Without one as `extract_label`.
    """
    text = re.sub(r"[*_`]", " ", TIMESTAMP.sub("", response)).lower()
    text = " ".join(re.sub(r"[^a-z0-9\s\-.]", " ", text).split())
    tokens, best, label = set(text.split()), (0.0, 0), response
    for name in labels:
        words = name.lower().split()
        share = sum(word in tokens for word in words) / len(words)
        grade = share + (PHRASE_BONUS if " ".join(words) in text else 0.0), len(words)
        if grade > best:
            best, label = grade, name
    return extract_label(label if best[0] >= 1.0 else response.strip(), labels)


@functools.lru_cache(maxsize=1 << 16)
def extract_letter(response: str, labels: Vocabulary) -> str:
    """The letter that the response chooses, which may follow an enumeration of all. Without one as `extract_label`."""
    lower = by_lower_case(labels)
    bare = WRAPPED.sub("", response.strip()).lower()
    if len(bare) == 1 and bare.isalpha() and bare in lower:
        return lower[bare]
    for pattern in LETTERS:
        letters = [letter.lower() for letter in pattern.findall(response)]
        if letter := next((letter for letter in reversed(letters) if letter in lower), None):
            return lower[letter]
    return extract_label(response, labels)


@functools.lru_cache(maxsize=1 << 16)
def extract_frequency(response: str, labels: Vocabulary) -> str:
    """The label ("4010 Hz") nearest to the last number of the response; without one as `extract_label`.

    Quirk: of a range the middle counts, and a range with both ends from 1000 to 50000 is read as tenths of hertz.
    """
    frequencies = sorted(
        ((float(m[1]), label.strip()) for label in labels if (m := FREQUENCY_LABEL.fullmatch(label))),
        key=lambda pair: pair[0],
    )
    ends, numbers = RANGE.search(response), AMOUNT.findall(response)
    if not frequencies or not (ends or numbers):
        return extract_label(response, labels)
    if ends:
        low, high = float(ends[1]), float(ends[2])
        value = (low + high) / 2.0 * (0.1 if min(low, high) >= 1000 and max(low, high) <= 50000 else 1.0)
    else:
        value = float(numbers[-1].replace(",", ""))
    return min(frequencies, key=lambda pair: abs(value - pair[0]))[1]
