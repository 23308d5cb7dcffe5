"""What templates can say of one recording: its facts put in order, and what follows from them."""

import re
import unicodedata
from collections.abc import Mapping

from nlm_jax.data.schema import FACTS

TAXONOMY = ("phylum", "class", "order", "family", "genus")
DERIVED = {
    "species": "the common name, or the scientific one where there is no common name",
    "taxonomic_name": "phylum, class, order, family and scientific name; only where all are known",
    "a_common_name": "the common name with its article",
    "a_scientific_name": "the same for the scientific name",
    "only_common_name": "the common name, where no other species is heard",
    "only_scientific_name": "the same for the scientific name",
    "all_common_names": "common names of all species heard, where there are several and all are known to the corpus",
    "all_scientific_names": "the same for scientific names",
    "group": "bird, mammal, amphibian, insect, ... from the class",
    "call_or_song": "call or song, where the call type leaves no doubt",
    "one_or_more": "One or More, from the number of individuals",
    "caption_common": "the caption with the common name, where it names the animal",
    "caption_scientific": "the caption with the scientific name, where it names the animal",
    "rich_caption": "the caption, where it has more than 8 words",
    "rich_caption_common": "caption_common of more than 8 words",
    "rich_caption_scientific": "caption_scientific of more than 8 words",
    "qualities": "a sentence about the quality of a note",
    "instruments": "the number of instruments",
}
"""Fields beside those of `schema.FACTS`. `fields` changes some of these too: `species` is what a sentence says."""
NAMES = frozenset((*FACTS, *DERIVED))
UNKNOWN = frozenset(("", "unknown", "nan", "none", "null", "n/a", "na", "?", "-", "unidentified", "uncertain"))
GROUPS = {
    "aves": "bird",
    "mammalia": "mammal",
    "amphibia": "amphibian",
    "insecta": "insect",
    "reptilia": "reptile",
    "actinopterygii": "fish",
}
RICH = 8
"""A caption with more words than this is a rich one (the paper's limit)."""
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
MARKS = re.compile(r"</?Audio>|<AudioHere>|<\|[^|>]*\|>")
_LOWER = ("call_type", "life_stage", "sex", "gender", "quality", "word")


def clean(value: object) -> str:
    """Text in one line and composed characters, "" where it says that nothing is known.

    Placeholders of clips and the chat template's tokens go: a field note must not add a clip or end a turn.
    """
    text = str(value)
    text = text if text.isascii() else unicodedata.normalize("NFC", text)
    text = " ".join((MARKS.sub(" ", text) if "<" in text else text).split())
    return "" if text.casefold() in UNKNOWN else text


def binomial(name: str, genus: str = "") -> str:
    """`Genus epithet` of a scientific name in any case, with or without subspecies and author; "" of anything else."""
    words = re.sub(r"\(.*?\)", " ", name.replace("_", " ")).split()
    if len(words) == 1 and genus and words[0].casefold() != genus.casefold():
        words = [genus, *words]
    if len(words) < 2 or not words[0].isalpha() or not re.fullmatch(r"[^\W\d_]+(-[^\W\d_]+)*", words[1]):
        return ""
    if words[1].casefold() in ("x", "sp", "spp", "cf", "aff", "indet"):
        return ""
    return f"{words[0].capitalize()} {words[1].lower()}"


def ranks(facts: Mapping[str, str]) -> dict[str, str]:
    """The known ones of phylum ... genus, capitalised; the genus also from the scientific name."""
    out = {rank: clean(facts.get(rank, "")).capitalize() for rank in TAXONOMY}
    scientific = scientific_name(facts)
    if scientific:
        out["genus"] = scientific.split()[0]
    return {rank: name for rank, name in out.items() if name}


def scientific_name(facts: Mapping[str, str]) -> str:
    """The binomial that `scientific_name`, `species` or `subspecies` gives; "" without one."""
    genus = clean(facts.get("genus", ""))
    for key in ("scientific_name", "species", "subspecies"):
        if found := binomial(clean(facts.get(key, "")), genus):
            return found
    return ""


def several(text: str) -> list[str]:
    """What a comma-separated fact lists, without repeats."""
    found: dict[str, str] = {}
    for part in filter(None, map(clean, text.split(","))):
        found.setdefault(part.casefold(), part)
    return list(found.values())


def whole(text: str) -> int | None:
    """A number of things: digits or a word up to ten; None otherwise."""
    text = clean(text).casefold()
    if text in NUMBERS:
        return NUMBERS.index(text)
    return int(float(text)) if re.fullmatch(r"\d{1,6}(\.0+)?", text) else None


def hertz(text: str) -> float | None:
    """A pitch in Hz: `440`, `440 Hz`, `0.44 kHz`, `MIDI 69`, or a note such as `A4`; None where it is none.

    A whole number up to 127 without a unit is a MIDI number, as NSynth has them: write `110 Hz` for 110 Hz.
    """
    text = clean(text)
    if re.fullmatch(r"\d{1,3}", text) and int(text) <= 127:
        text = f"MIDI {text}"
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(k?hz)?", text, re.IGNORECASE):
        value = float(match[1]) * (1000.0 if (match[2] or "").lower() == "khz" else 1.0)
        return value if 0 < value < 100_000 else None
    if match := re.fullmatch(r"midi\s*(\d{1,3})|(\d{1,3})\s*midi", text, re.IGNORECASE):
        return 440.0 * 2 ** ((int(match[1] or match[2]) - 69) / 12)
    if match := re.fullmatch(r"([A-Ga-g])([#♯b♭]?)(-?\d)", text):
        step = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[match[1].upper()]
        step += (match[2] in ("#", "♯") and bool(match[2])) - (match[2] in ("b", "♭") and bool(match[2]))
        return 440.0 * 2 ** ((12 * (int(match[3]) + 1) + step - 69) / 12)
    return None


def article(name: str) -> str:
    """A name behind its article: `an Alpine Swift`, `a Eurasian Wren`, `a Unicolored Jay`."""
    vowel = name[0].casefold() in "aeio" or (name[0].casefold() == "u" and not name.casefold().startswith(("un", "us")))
    return f"{'an' if vowel and not name.casefold().startswith('eu') else 'a'} {name}"


def fields(facts: Mapping[str, str]) -> dict[str, str]:
    """Everything that templates may say of a recording with `facts`; what is not known is not in it."""
    known = {key: text for key in FACTS if (text := clean(facts.get(key, "")))}
    for key in _LOWER:
        if key in known:
            known[key] = ", ".join(several(known[key].lower()))
    _names(known, facts)
    _counts(known)
    _music(known)
    if "caption" in known:
        _captions(known)
    kinds = {_voice(kind) for kind in several(known.get("call_type", ""))}
    if len(kinds) == 1 and (kind := kinds.pop()):
        known["call_or_song"] = kind
    return {key: text for key, text in known.items() if text}


def _names(known: dict[str, str], facts: Mapping[str, str]) -> None:
    above, scientific = ranks(facts), scientific_name(facts)
    known |= above
    known["scientific_name"] = scientific
    common = known.get("common_name", "")
    if scientific and scientific.casefold() == common.casefold():
        common = known["common_name"] = ""  # the source had no common name and repeated the other
    known["species"] = common or scientific
    known["a_common_name"] = article(common) if common else ""
    known["a_scientific_name"] = f"a {scientific}" if scientific else ""
    if scientific and len(above) == len(TAXONOMY):
        known["taxonomic_name"] = " ".join([*(above[rank] for rank in TAXONOMY[:-1]), scientific])
    if not known.get("others"):
        known["only_common_name"], known["only_scientific_name"] = common, scientific
    known["group"] = GROUPS.get(above.get("class", "").casefold(), "")


def _counts(known: dict[str, str]) -> None:
    text = known.pop("individuals", "") or known.get("count", "")
    number = whole(text)
    if number is None:
        known["one_or_more"] = {"one": "One", "more": "More"}.get(text.casefold(), "")
    elif number:
        known["individuals"] = str(number)
        known["one_or_more"] = "One" if number == 1 else "More"
    for key in ("speakers", "count"):
        if key in known:
            number = whole(known[key])
            known[key] = "" if number is None else str(number)


def _music(known: dict[str, str]) -> None:
    if "pitch" in known:
        pitch = hertz(known["pitch"])
        known["pitch"] = f"{round(pitch, 1):g} Hz" if pitch else ""
    if "velocity" in known:
        try:
            velocity = float(known["velocity"])
        except ValueError:
            velocity = -1.0
        velocity = velocity / 127 if velocity > 1 else velocity  # MIDI counts to 127
        known["velocity"] = f"{velocity:.2f}" if 0 <= velocity <= 1 else ""
    if "quality" in known:
        listed = [name.replace("_", " ") for name in several(known["quality"])]
        known["quality"] = ", ".join(listed)
        words = " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
        known["qualities"] = f"The sound is {words}."
    if "instrument" in known:
        listed = several(known["instrument"].replace("_", " "))
        known["instrument"], known["instruments"] = ", ".join(listed), str(len(listed))


def _captions(known: dict[str, str]) -> None:
    caption = known["caption"]
    common, scientific = known.get("common_name", ""), known.get("scientific_name", "")
    for style, name, other in (("common", common, scientific), ("scientific", scientific, common)):
        if not name:
            continue
        if _named(name).search(caption):
            known[f"caption_{style}"] = caption
        elif other and _named(other).search(caption):
            known[f"caption_{style}"] = _named(other).sub(lambda _, name=name: name, caption)
    for key in ("caption", "caption_common", "caption_scientific"):
        if len(known.get(key, "").split()) > RICH:
            known[f"rich_{key}"] = known[key]


def _named(name: str) -> re.Pattern:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def _voice(kind: str) -> str:
    words = re.findall(r"[^\W\d_]+", kind)
    found = {"song" if word.endswith("song") else "call" for word in words if word.endswith(("song", "call", "calls"))}
    return found.pop() if len(found) == 1 else ""
