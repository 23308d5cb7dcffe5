"""The fields of a recording that templates can use: its facts in a normal form, and what is derived from them.

    fact                              field
    scientific_name: turdus merula    scientific_name: Turdus merula, genus: Turdus
    common_name: Alpine Swift         a_common_name: an Alpine Swift
    pitch: A4                         pitch: 440 Hz
    individuals: two                  individuals: 2, one_or_more: More

Fields that are not known are absent.
"""

import re
import unicodedata
from collections.abc import Mapping

from nlm_jax.data.schema import FACTS

TAXONOMY = ("phylum", "class", "order", "family", "genus")
DERIVED = {
    "species": "the common name, or the scientific one if there is no common name",
    "taxonomic_name": "phylum, class, order, family and scientific name; only if all are known",
    "a_common_name": "the common name with its article",
    "a_scientific_name": "the same for the scientific name",
    "only_common_name": "the common name, if no other species is heard",
    "only_scientific_name": "the same for the scientific name",
    "all_common_names": "common names of all species heard, if there are several and all are in the corpus",
    "all_scientific_names": "the same for scientific names",
    "group": "bird, mammal, amphibian, insect, ... from the class",
    "call_or_song": "call or song, if the call type is one of the two",
    "one_or_more": "One or More, from the number of individuals",
    "caption_common": "the caption with the common name, if it names the animal",
    "caption_scientific": "the caption with the scientific name, if it names the animal",
    "rich_caption": "the caption, if it has more than 8 words",
    "rich_caption_common": "caption_common of more than 8 words",
    "rich_caption_scientific": "caption_scientific of more than 8 words",
    "qualities": "a sentence about the quality of a note",
    "instruments": "the number of instruments",
}
"""Fields in addition to `schema.FACTS`, of which `fields` changes some: `species` is a name for sentences."""
NAMES = frozenset((*FACTS, *DERIVED))
EMPTY_WORDS = frozenset(("", "unknown", "nan", "none", "null", "n/a", "na", "?", "-", "unidentified", "uncertain"))
GROUPS = {
    "aves": "bird",
    "mammalia": "mammal",
    "amphibia": "amphibian",
    "insecta": "insect",
    "reptilia": "reptile",
    "actinopterygii": "fish",
}
RICH_WORDS = 8
"""A caption with more words than this is a rich one (the paper's limit)."""
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SPECIAL_TOKENS = re.compile(r"</?Audio>|<AudioHere>|<\|[^|>]*\|>")
LOWER_CASE = ("call_type", "life_stage", "sex", "gender", "quality", "word")


def clean(value: object) -> str:
    """A value as one line of text in composed characters; "" for words such as unknown (`EMPTY_WORDS`).

    Placeholders of clips and the chat template's tokens are removed: a field note must not add a clip or end a turn.
    """
    text = str(value)
    text = text if text.isascii() else unicodedata.normalize("NFC", text)
    text = " ".join((SPECIAL_TOKENS.sub(" ", text) if "<" in text else text).split())
    return "" if text.casefold() in EMPTY_WORDS else text


def binomial(name: str, genus: str = "") -> str:
    """`Genus epithet` of a scientific name in any case, with or without subspecies and author; "" for other text.

    Args:
      name: the scientific name, or an epithet alone.
      genus: put before an epithet alone.
    """
    words = re.sub(r"\(.*?\)", " ", name.replace("_", " ")).split()
    if len(words) == 1 and genus and words[0].casefold() != genus.casefold():
        words = [genus, *words]
    if len(words) < 2 or not words[0].isalpha() or not re.fullmatch(r"[^\W\d_]+(-[^\W\d_]+)*", words[1]):
        return ""
    if words[1].casefold() in ("x", "sp", "spp", "cf", "aff", "indet"):
        return ""
    return f"{words[0].capitalize()} {words[1].lower()}"


def ranks(facts: Mapping[str, str]) -> dict[str, str]:
    """Rank -> name, capitalised, of the known ones of phylum to genus; the genus also from the scientific name."""
    names = {rank: clean(facts.get(rank, "")).capitalize() for rank in TAXONOMY}
    scientific = scientific_name(facts)
    if scientific:
        names["genus"] = scientific.split()[0]
    return {rank: name for rank, name in names.items() if name}


def scientific_name(facts: Mapping[str, str]) -> str:
    """The binomial by `scientific_name`, `species` or `subspecies`; "" if none of them has one."""
    genus = clean(facts.get("genus", ""))
    for key in ("scientific_name", "species", "subspecies"):
        if name := binomial(clean(facts.get(key, "")), genus):
            return name
    return ""


def several(text: str) -> list[str]:
    """The distinct values of a comma-separated fact."""
    values: dict[str, str] = {}
    for part in filter(None, map(clean, text.split(","))):
        values.setdefault(part.casefold(), part)
    return list(values.values())


def whole_number(text: str) -> int | None:
    """The number in digits or a word up to ten; None for other text."""
    text = clean(text).casefold()
    if text in NUMBERS:
        return NUMBERS.index(text)
    return int(float(text)) if re.fullmatch(r"\d{1,6}(\.0+)?", text) else None


def hertz(text: str) -> float | None:
    """A pitch in Hz: `440`, `440 Hz`, `0.44 kHz`, `MIDI 69`, or a note such as `A4`; None for other text.

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
    """A name after its article: `an Alpine Swift`, `a Eurasian Wren`, `a Unicolored Jay`."""
    vowel = name[0].casefold() in "aeio" or (name[0].casefold() == "u" and not name.casefold().startswith(("un", "us")))
    return f"{'an' if vowel and not name.casefold().startswith('eu') else 'a'} {name}"


def fields(facts: Mapping[str, str]) -> dict[str, str]:
    """The fields of a recording.

    Args:
      facts: by the names of `schema.FACTS`.

    Returns:
      Field -> text, of the fields that are known.
    """
    values = {key: text for key in FACTS if (text := clean(facts.get(key, "")))}
    for key in LOWER_CASE:
        if key in values:
            values[key] = ", ".join(several(values[key].lower()))
    _add_names(values, facts)
    _add_counts(values)
    _add_music(values)
    if "caption" in values:
        _add_captions(values)
    kinds = {_call_or_song(call_type) for call_type in several(values.get("call_type", ""))}
    if len(kinds) == 1 and (kind := kinds.pop()):
        values["call_or_song"] = kind
    return {key: text for key, text in values.items() if text}


def _add_names(values: dict[str, str], facts: Mapping[str, str]) -> None:
    above, scientific = ranks(facts), scientific_name(facts)
    values |= above
    values["scientific_name"] = scientific
    common = values.get("common_name", "")
    if scientific and scientific.casefold() == common.casefold():
        common = values["common_name"] = ""  # the source had no common name and repeated the other
    values["species"] = common or scientific
    values["a_common_name"] = article(common) if common else ""
    values["a_scientific_name"] = f"a {scientific}" if scientific else ""
    if scientific and len(above) == len(TAXONOMY):
        values["taxonomic_name"] = " ".join([*(above[rank] for rank in TAXONOMY[:-1]), scientific])
    if not values.get("others"):
        values["only_common_name"], values["only_scientific_name"] = common, scientific
    values["group"] = GROUPS.get(above.get("class", "").casefold(), "")


def _add_counts(values: dict[str, str]) -> None:
    text = values.pop("individuals", "") or values.get("count", "")
    number = whole_number(text)
    if number is None:
        values["one_or_more"] = {"one": "One", "more": "More"}.get(text.casefold(), "")
    elif number:
        values["individuals"] = str(number)
        values["one_or_more"] = "One" if number == 1 else "More"
    for key in ("speakers", "count"):
        if key in values:
            number = whole_number(values[key])
            values[key] = "" if number is None else str(number)


def _add_music(values: dict[str, str]) -> None:
    if "pitch" in values:
        pitch = hertz(values["pitch"])
        values["pitch"] = f"{round(pitch, 1):g} Hz" if pitch else ""
    if "velocity" in values:
        try:
            velocity = float(values["velocity"])
        except ValueError:
            velocity = -1.0
        velocity = velocity / 127 if velocity > 1 else velocity  # MIDI counts to 127
        values["velocity"] = f"{velocity:.2f}" if 0 <= velocity <= 1 else ""
    if "quality" in values:
        listed = [name.replace("_", " ") for name in several(values["quality"])]
        values["quality"] = ", ".join(listed)
        words = " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
        values["qualities"] = f"The sound is {words}."
    if "instrument" in values:
        listed = several(values["instrument"].replace("_", " "))
        values["instrument"], values["instruments"] = ", ".join(listed), str(len(listed))


def _add_captions(values: dict[str, str]) -> None:
    caption = values["caption"]
    common, scientific = values.get("common_name", ""), values.get("scientific_name", "")
    for style, name, other in (("common", common, scientific), ("scientific", scientific, common)):
        if not name:
            continue
        if _name_pattern(name).search(caption):
            values[f"caption_{style}"] = caption
        elif other and _name_pattern(other).search(caption):
            values[f"caption_{style}"] = _name_pattern(other).sub(lambda _, name=name: name, caption)
    for key in ("caption", "caption_common", "caption_scientific"):
        if len(values.get(key, "").split()) > RICH_WORDS:
            values[f"rich_{key}"] = values[key]


def _name_pattern(name: str) -> re.Pattern:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def _call_or_song(call_type: str) -> str:
    """Whether a call type is a `call` or a `song`; "" if it is neither or both."""
    words = re.findall(r"[^\W\d_]+", call_type)
    kinds = {"song" if word.endswith("song") else "call" for word in words if word.endswith(("song", "call", "calls"))}
    return kinds.pop() if len(kinds) == 1 else ""
