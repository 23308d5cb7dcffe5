"""What columns of metadata say about a recording, in the words of `schema.FACTS`, and names of licences."""

import functools
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from nlm_jax.data.schema import FACTS, RANKS

COLUMNS = {
    "common_name": "common_name commonname vernacularname english_name english en species_common taxon_common_name",
    "scientific_name": "scientific_name scientificname species_scientific taxon_species_name sci_name binomial",
    **{rank: f"{rank} taxon_{rank}_name" for rank in RANKS[:-1]},
    "genus": "genus gen taxon_genus_name",
    "species": "species",
    "subspecies": "subspecies ssp infraspecificepithet taxon_subspecies_name",
    "others": "others also background_species",
    "call_type": "call_type calltype type vocalization_type sound_type behavior",
    "life_stage": "life_stage lifestage stage field_life_stage",
    "sex": "sex field_sex",
    "individuals": "individuals individualcount",
    "caption": "caption",
    "transcript": "transcript transcription sentence",
    "place": "place loc locality location place_guess verbatimlocality",
    "country": "country cnt place_country_name",
    "time": "time eventtime time_of_day",
    "date": "date eventdate observed_on recorded_on",
    "notes": "notes rmk remarks occurrenceremarks fieldnotes description comments",
    "recordist": "recordist rec recordedby user_name user_login observer",
    "url": "url sound_url references source_url",
    **{name: name for name in ("sound", "instrument", "pitch", "velocity", "quality", "speaker", "speakers", "gender")},
    **{name: name for name in ("count", "word")},
}
"""Fact -> columns that hold it, the first that is filled; columns are compared without capitals and signs."""
APART = ("taxonomy", "specificepithet", "sp")
"""Columns that hold no fact, but parts of some."""
MEANING = {name: (n, fact) for fact, names in COLUMNS.items() for n, name in enumerate(names.split())}
MEANING |= {name: (0, name) for name in APART}
NOTHING = {
    *(
        "",
        "none",
        "nan",
        "null",
        "nil",
        "n/a",
        "n.a.",
        "na",
        "#n/a",
        "#na",
        "<na>",
        "<none>",
        "nat",
        "-",
        "--",
        "—",
        "–",
    ),
    *("unknown", "uncertain", "?", "??", "no score", "not specified", "unlabelled", "unlabeled", "(none)", "."),
    *("unidentified", "undetermined", "indet", "indet.", "unk", "noid", "no id", "missing", "not available", "k.a."),
    "(not answered)",  # a window that the page or nlm infer has no answer for
}
"""What tables have in cells that say nothing."""
EPITHET = re.compile(r"[a-z][\w-]+")
PARTICLES = {"de", "van", "von", "del", "da", "di", "la", "le", "et", "ex", "in", "and", "sensu"}
MARKS = {"subsp.", "ssp.", "var.", "f.", "cf.", "aff."}
DEED = re.compile(r"creativecommons\.org/(?:licenses/([a-z-]+)|publicdomain/(zero|mark))(?:/([0-9.]+))?", re.I)
CODE = re.compile(r"CC[ _-]*(0|(?:BY|NC|ND|SA)(?:[ _-]+(?:NC|ND|SA))*)(?:[ _-]+(\d[._]\d))?(?:[ _-]*INT.*)?", re.I)


def facts(values: Mapping[str, Any], sure: bool = True) -> dict[str, str]:
    """The facts of a row. `sure` = a column `species` is in Latin; other tables may hold any name there."""
    table = {key: said for name, v in values.items() if (key := plain(name)) in MEANING and (said := text(v))}
    found = {}
    for name in sorted(table, key=MEANING.__getitem__, reverse=True):  # the first column of a fact comes last and stays
        found[MEANING[name][1]] = table[name]
    for name in APART:
        found.pop(name, None)
    if not sure and not {"genus", "family"} & set(found):  # `class` may be dog, and `order` anything
        found = {fact: value for fact, value in found.items() if fact not in ("species", "class", "order")}
    lineage = re.split(r"[;\s]+", table["taxonomy"]) if "taxonomy" in table else ()
    if len(lineage) == len(RANKS):  # Chordata Aves Passeriformes Corvidae Corvus corax
        found = {**dict(zip(RANKS, lineage, strict=True)), **found}
    epithet = found.pop("species", "") or table.get("specificepithet", "") or table.get("sp", "")
    if epithet and " " not in epithet and found.get("genus") and epithet not in ("sp.", "sp"):
        epithet = f"{found['genus']} {epithet}"
    full = binomial(found.pop("scientific_name", ""))
    if not full and " " in epithet:
        full = binomial(epithet) or epithet
    if full:
        found["scientific_name"] = full
        found["species"] = " ".join(full.split()[:2])
        found.setdefault("genus", full.split()[0])
    return found


@functools.lru_cache(4096)
def plain(name: str) -> str:
    """The name of a column as it is compared: `begin_time_s` of `Begin Time (s)`, `debut` of `Début`."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", "_", bare.lower()).strip("_")


def given(values: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a row of annotations: of its columns, and of its object `facts`, which has the names of FACTS."""
    own = values.get("facts")
    own = {k: text(v) for k, v in own.items() if k in FACTS and text(v)} if isinstance(own, dict) else {}
    return {**facts(values, sure=False), **own}


def text(value: Any) -> str:
    """A value as text: lists by commas, "" for what says nothing."""
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(text, value)))
    if isinstance(value, bool | dict) or value is None:
        return ""
    bare = str(value).strip()
    return "" if bare.lower() in NOTHING else bare


@functools.lru_cache(1 << 16)
def binomial(name: str) -> str:
    """`Corvus corax Linnaeus, 1758` -> `Corvus corax`; a third epithet stays; "" for a name of one word."""
    first, *rest = [w for w in name.split() if w not in MARKS and not w.startswith("(")] or [""]
    kept = []
    for word in rest[:2]:
        if not EPITHET.fullmatch(word) or word in PARTICLES:
            break
        kept.append(word)
    return " ".join([first, *kept]) if kept else ""


@functools.lru_cache(1 << 12)
def licence(value: str) -> str:
    """`//creativecommons.org/licenses/by-nc-sa/4.0/` and `CC_BY_NC_SA_4_0` -> `CC BY-NC-SA 4.0`; others as they are."""
    if match := DEED.search(value):
        name = f"CC {match[1].upper()}" if match[1] else {"zero": "CC0", "mark": "Public Domain Mark"}[match[2].lower()]
        return f"{name} {match[3]}" if match[3] else name
    if match := CODE.fullmatch(value.strip()):
        terms = re.sub("[ _]", "-", match[1].upper())
        name = "CC0" if terms == "0" else f"CC {terms}"
        return f"{name} {match[2].replace('_', '.')}" if match[2] else name
    return value.strip() or "unknown"
