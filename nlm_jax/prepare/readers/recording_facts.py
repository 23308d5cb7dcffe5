"""Facts about a recording from columns of metadata, by the names of `schema.FACTS`, and the names of licences."""

import functools
import re
from collections.abc import Mapping
from typing import Any

from nlm_jax.data.schema import FACTS, RANKS
from nlm_jax.prepare.readers import cells

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
"""Fact -> columns with it, by priority; the first that is filled counts. Compared by `cells.column_key`."""
PARTS_OF_NAMES = ("taxonomy", "specificepithet", "sp")
"""Columns that are part of facts, not facts: a lineage, and the second word of a species."""
MEANING = {name: (n, fact) for fact, names in COLUMNS.items() for n, name in enumerate(names.split())}
MEANING |= {name: (0, name) for name in PARTS_OF_NAMES}
"""Column -> (priority, fact)."""
EPITHET = re.compile(r"[a-z][\w-]+")
PARTICLES = {"de", "van", "von", "del", "da", "di", "la", "le", "et", "ex", "in", "and", "sensu"}
"""Words in lower case of an author's name."""
QUALIFIERS = {"subsp.", "ssp.", "var.", "f.", "cf.", "aff."}
DEED = re.compile(r"creativecommons\.org/(?:licenses/([a-z-]+)|publicdomain/(zero|mark))(?:/([0-9.]+))?", re.I)
CODE = re.compile(r"CC[ _-]*(0|(?:BY|NC|ND|SA)(?:[ _-]+(?:NC|ND|SA))*)(?:[ _-]+(\d[._]\d))?(?:[ _-]*INT.*)?", re.I)


def of_columns(values: Mapping[str, Any], taxonomic: bool = True) -> dict[str, str]:
    """The facts of a row of metadata.

    Args:
      values: column -> cell.
      taxonomic: whether `species`, `class` and `order` are taxa, as in xeno-canto and Darwin Core. In other tables
        `species` may be any name, `class` a dog and `order` a number: they count only next to a genus or a family.

    Returns:
      Fact -> text, without facts that are not known.
    """
    table: dict[str, str] = {}
    for name, value in values.items():
        if (key := cells.column_key(name)) in MEANING and (text := cells.text(value)):
            table[key] = text
    facts: dict[str, str] = {}
    for key in sorted(table, key=MEANING.__getitem__, reverse=True):  # the column of the first priority is set last
        facts[MEANING[key][1]] = table[key]
    for key in PARTS_OF_NAMES:
        facts.pop(key, None)
    if not taxonomic and not {"genus", "family"} & set(facts):
        facts = {fact: value for fact, value in facts.items() if fact not in ("species", "class", "order")}
    lineage = re.split(r"[;\s]+", table["taxonomy"]) if "taxonomy" in table else ()
    if len(lineage) == len(RANKS):  # Chordata Aves Passeriformes Corvidae Corvus corax
        facts = {**dict(zip(RANKS, lineage, strict=True)), **facts}
    return _with_species(facts, table.get("specificepithet", "") or table.get("sp", ""))


def _with_species(facts: dict[str, str], epithet: str) -> dict[str, str]:
    """The facts with `scientific_name`, `species` and `genus` in agreement.

    Args:
      facts: with the columns `species` and `scientific_name` as the table has them.
      epithet: the second word of the species, if it has a column of its own.
    """
    species = facts.pop("species", "") or epithet
    if species and " " not in species and facts.get("genus") and species not in ("sp.", "sp"):
        species = f"{facts['genus']} {species}"
    full = without_author(facts.pop("scientific_name", ""))
    if not full and " " in species:
        full = without_author(species) or species
    if full:
        facts["scientific_name"] = full
        facts["species"] = " ".join(full.split()[:2])
        facts.setdefault("genus", full.split()[0])
    return facts


def of_annotation(values: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a row of annotations: of its columns, and of its object `facts`, whose keys are names of FACTS."""
    own = values.get("facts")
    own = {k: cells.text(v) for k, v in own.items() if k in FACTS and cells.text(v)} if isinstance(own, dict) else {}
    return {**of_columns(values, taxonomic=False), **own}


@functools.lru_cache(1 << 16)
def without_author(name: str) -> str:
    """`Corvus corax` of `Corvus corax Linnaeus, 1758`; a third epithet stays; "" for a name of one word."""
    first, *rest = [w for w in name.split() if w not in QUALIFIERS and not w.startswith("(")] or [""]
    epithets = []
    for word in rest[:2]:
        if not EPITHET.fullmatch(word) or word in PARTICLES:
            break
        epithets.append(word)
    return " ".join([first, *epithets]) if epithets else ""


@functools.lru_cache(1 << 12)
def licence(value: str) -> str:
    """The name of a licence.

    Args:
      value: a Creative Commons address or code: `//creativecommons.org/licenses/by-nc-sa/4.0/`, `CC_BY_NC_SA_4_0`.

    Returns:
      Such as `CC BY-NC-SA 4.0`; other names unchanged; "unknown" for "".
    """
    if match := DEED.search(value):
        name = f"CC {match[1].upper()}" if match[1] else {"zero": "CC0", "mark": "Public Domain Mark"}[match[2].lower()]
        return f"{name} {match[3]}" if match[3] else name
    if match := CODE.fullmatch(value.strip()):
        terms = re.sub("[ _]", "-", match[1].upper())
        name = "CC0" if terms == "0" else f"CC {terms}"
        return f"{name} {match[2].replace('_', '.')}" if match[2] else name
    return value.strip() or "unknown"
