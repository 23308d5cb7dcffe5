"""Taxa excluded from training, so that zero-shot scores are on unseen taxa: the paper's, or a list of one's own.

The paper names families and genera; BEANS-Zero's own labels put four of its unseen-genus species into other genera
(Aratinga nenday, Cacicus latirostris, Cacomantis leucolophus, Stizoptera bichenovii), so genus names alone leak them.
`heldout_taxa.json` therefore has the genera of the families, the species of the benchmark, and their other names.
"""

import dataclasses
import functools
import json
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example

PAPER = pathlib.Path(__file__).with_name("heldout_taxa.json")
NAMES = ("common_name", "scientific_name", "family", "genus", "species", "subspecies", "others")
"""Facts that name an animal."""
WORDS = frozenset({"sus", "vini", "castor", "paa", "lesbia", "latonia", "enodes", "tylas"})
"""Genera that are words or names elsewhere: alone they count as a genus only if a taxon is named."""


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """Names to look for, by their first word: the other words, the reason to give, and the name as it is written."""

    phrases: dict[str, list[tuple[tuple[str, ...], str, str]]]
    count: int

    def reason(self, example: Example) -> tuple[str, str] | None:
        """("family" | "genus" | "species" | "common name", the name found), None for an example that may stay.

        Looked at are the facts that name animals, the label and the answer, not the question: an animal that is only
        offered as an option is not heard.
        """
        facts = example.facts
        names = [facts.get(name, "") for name in NAMES]
        if facts.get("genus"):  # the species may be the epithet alone
            names.append(f"{facts['genus']} {facts.get('species', '')}")
        return _named(self, (*names, example.label), "" if example.text == example.label else example.text)

    def find(self, text: tuple[str, ...], sure: bool) -> tuple[str, str] | None:
        """The first held-out name in a sequence of words; the longest of those that begin at the same word."""
        place = 0
        while place < len(text):
            step = 1
            for rest, reason, name in self.phrases.get(text[place], ()):
                tail = text[place + 1 : place + 1 + len(rest)]
                if len(tail) == len(rest) and all(_same(a, b, reason) for a, b in zip(tail, rest, strict=True)):
                    if reason == "genus" and not sure and name.lower() in WORDS:
                        continue
                    if reason:
                        return reason, name
                    step = 1 + len(rest)
                    break
            place += step
        return None


@functools.lru_cache(1 << 16)  # species come back many times
def _named(taxa: HeldOut, names: tuple[str, ...], text: str) -> tuple[str, str] | None:
    for name in names:
        if name and (match := taxa.find(words(name), sure=True)):
            return match
    text_words = words(text)
    return taxa.find(text_words, sure=len(text_words) <= 2)


def _same(word: str, expected: str, reason: str) -> bool:
    return word == expected or (reason in ("common name", "") and word in (expected + "s", expected + "es"))


def words(text: str) -> tuple[str, ...]:
    """Words of a name or sentence without accents, capitals and punctuation: `Bourke's Parrot` -> bourkes, parrot."""
    plain = text.replace("'", "").replace("\u2019", "")
    if not plain.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    plain = plain.casefold()
    return tuple(re.findall(r"[^\W_]+", plain))


def load(source: str | pathlib.Path) -> HeldOut | None:
    """The list that `--held-out-taxa` names: `paper`, `none`, or a file.

    A file is JSON as `heldout_taxa.json` (lists in place of its objects will do, and names may begin with `heldout_`),
    or text with a name a line: a family (-idae), a genus (one word), a species (two) or, after `common:`, another name.

    Raises:
      UserError: no such file, or nothing in it that names a taxon.
    """
    if str(source) == "none":
        return None
    path = PAPER if str(source) == "paper" else pathlib.Path(source)
    if not path.is_file():
        raise UserError(f"--held-out-taxa={source}: no such file; give paper, none, or a file with names of taxa")
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if text.lstrip().startswith("{") else {}
    except UnicodeDecodeError:
        raise UserError(f"--held-out-taxa={source}: not a text file in UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(f"--held-out-taxa={source}:{error.lineno}: not valid JSON ({error.msg})") from None
    try:
        entries = [(why, name.strip()) for why, name in (_entries(content) if content else _lines(text))]
    except (TypeError, AttributeError, ValueError):
        raise UserError(f"--held-out-taxa={source}: families, genera and species must be lists of names") from None
    return _compiled(entries, str(source))


def _compiled(entries: list[tuple[str, str]], source: str) -> HeldOut:
    phrases: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
    for reason, name in entries:
        first, *rest = words(name) or ("",)
        if first and (tuple(rest), reason, name) not in phrases.setdefault(first, []):
            phrases[first].append((tuple(rest), reason, name))
    if not any(reason for group in phrases.values() for _, reason, _ in group):
        raise UserError(f"--held-out-taxa={source}: names no family, genus or species")
    for group in phrases.values():
        group.sort(key=lambda entry: -len(entry[0]))  # a species before its genus, a longer name before a shorter
    return HeldOut(phrases, sum(map(len, phrases.values())))


def _entries(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        kind = key.removeprefix("heldout_").removeprefix("held_out_")
        if kind == "families":
            yield from (("family", name) for name in value)
            yield from (("genus", genus) for genus in _behind(value))
        elif kind == "genera":
            yield from (("genus", name) for name in (*value, *_behind(value)))
        elif kind == "genus_synonyms":
            yield from (("genus", name) for name in _behind(value))
        elif kind.endswith("species"):
            yield from _species(value)
        elif kind in ("common_names", "family_names"):
            yield from (("common name", name) for name in (_behind(value) if isinstance(value, dict) else value))
        elif kind == "others":
            yield from (("", name) for name in value)


def _behind(value: Any) -> list[str]:
    """The names that an object lists after its own."""
    if not isinstance(value, dict):
        return []
    return [name for names in value.values() for name in ([names] if isinstance(names, str) else names)]


def _species(value: Any) -> Iterator[tuple[str, str]]:
    """Species of a list, of an object with other names of each species, or of several of them by name."""
    if not isinstance(value, dict):
        yield from (("species", name) for name in value)
        return
    for name, more in value.items():
        if isinstance(more, dict) and not {"common", "also"} & set(more):
            yield from _species(more)
            continue
        yield "species", name
        more = more if isinstance(more, dict) else {"common": [more] if isinstance(more, str) else more or ()}
        yield from (("species", other) for other in more.get("also", ()))
        yield from (("common name", other) for other in more.get("common", ()))


def _lines(text: str) -> Iterable[tuple[str, str]]:
    for line in map(str.strip, text.splitlines()):
        if line.lower().startswith("common:"):
            yield "common name", line[7:]
        elif line and not line.startswith("#"):
            several = len(words(line)) > 1
            yield ("species" if several else "family" if line.lower().endswith("idae") else "genus"), line
