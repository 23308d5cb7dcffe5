"""From a free answer to one label of a vocabulary, by BEANS-Next's rules. Source: see beans_next.py."""

import functools
import re

from rapidfuzz.distance import Levenshtein

Labels = tuple[str, ...]
SHORT = 2
"""Labels up to this length count as contained only if no letter, digit or underscore touches them."""
WHOLE_PHRASE = 0.25
"""What a label gains whose words stand together, on top of the share of its words that occur."""

NUMBER = r"\d+(?:\.\d+)?"
TIMES = re.compile(rf"^\s*#?\s*{NUMBER}\s*s?\s*-\s*{NUMBER}\s*s?\s*#?\s*:\s*", re.IGNORECASE | re.MULTILINE)
"""The times before an event, as "#0.0s - 5.0s#: "."""
AMOUNT = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
RANGE = re.compile(r"(\d{3,6})\s*-\s*(\d{3,6})\s*hz\b", re.IGNORECASE)
BUCKET = re.compile(r"\s*(\d+)\s*hz\s*", re.IGNORECASE)

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
"""Where the letter of a choice stands, the surest first; the last such place in the answer counts."""
WRAPPED = re.compile(r"^[\s*_`(\[{<]+|[\s*_`)\]}>.!?:;,'\"]+$")


def contains(text: str, label: str) -> bool:
    """Whether a label is contained in a text, both in lower case."""
    if len(label) > SHORT:
        return label in text
    return re.search(rf"(?<![0-9a-z_]){re.escape(label)}(?![0-9a-z_])", text) is not None


def in_lower_case(labels: Labels) -> dict[str, str]:
    """Label in lower case -> the first label that is so."""
    by_lower_case: dict[str, str] = {}
    for label in labels:
        by_lower_case.setdefault(label.lower(), label)
    return by_lower_case


@functools.lru_cache(maxsize=1 << 16)
def extract(answer: str, labels: Labels) -> str:
    """The label that an answer is, else the longest it contains, else the nearest: all in lower case."""
    text, by_lower_case = answer.lower().strip(), in_lower_case(labels)
    if text in by_lower_case:
        return by_lower_case[text]
    longest_first = sorted(by_lower_case, key=len, reverse=True)
    inside = next((name for name in longest_first if contains(text, name)), None)
    nearest = min(by_lower_case, key=lambda name: (Levenshtein.distance(text, name), name))
    return by_lower_case[nearest if inside is None else inside]


@functools.lru_cache(maxsize=1 << 16)
def named_in_full(answer: str, labels: Labels) -> str:
    """The label whose every word occurs in an answer, best as a phrase, then with most words; else as `extract`."""
    text = re.sub(r"[*_`]", " ", TIMES.sub("", answer)).lower()
    text = " ".join(re.sub(r"[^a-z0-9\s\-.]", " ", text).split())
    tokens, best, label = set(text.split()), (0.0, 0), answer
    for name in labels:
        words = name.lower().split()
        share = sum(word in tokens for word in words) / len(words)
        grade = share + (WHOLE_PHRASE if " ".join(words) in text else 0.0), len(words)
        if grade > best:
            best, label = grade, name
    return extract(label if best[0] >= 1.0 else answer.strip(), labels)


@functools.lru_cache(maxsize=1 << 16)
def choice(answer: str, labels: Labels) -> str:
    """The letter that an answer chooses; an enumeration of all comes before it. Without one as `extract`."""
    by_lower_case = in_lower_case(labels)
    bare = WRAPPED.sub("", answer.strip()).lower()
    if len(bare) == 1 and bare.isalpha() and bare in by_lower_case:
        return by_lower_case[bare]
    for pattern in LETTERS:
        letters = [letter.lower() for letter in pattern.findall(answer)]
        if letter := next((letter for letter in reversed(letters) if letter in by_lower_case), None):
            return by_lower_case[letter]
    return extract(answer, labels)


@functools.lru_cache(maxsize=1 << 16)
def frequency(answer: str, labels: Labels) -> str:
    """The bucket ("4010 Hz") nearest to the last number of an answer; without one as `extract`.

    Quirk: of a range the middle counts, and a range with both ends from 1000 to 50000 is taken for tenths of hertz.
    """
    buckets = sorted(
        ((float(m[1]), label.strip()) for label in labels if (m := BUCKET.fullmatch(label))), key=lambda b: b[0]
    )
    ends, numbers = RANGE.search(answer), AMOUNT.findall(answer)
    if not buckets or not (ends or numbers):
        return extract(answer, labels)
    if ends:
        low, high = float(ends[1]), float(ends[2])
        value = (low + high) / 2.0 * (0.1 if min(low, high) >= 1000 and max(low, high) <= 50000 else 1.0)
    else:
        value = float(numbers[-1].replace(",", ""))
    return min(buckets, key=lambda bucket: abs(value - bucket[0]))[1]
