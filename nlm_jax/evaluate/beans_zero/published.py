"""Published scores on BEANS-Zero, each with the table it is taken from.

Source: arXiv 2411.07186 (version 2). Accuracy of a classification, macro F1 of a detection, SPIDEr of captioning.
"""

import dataclasses

PAPER = "arXiv 2411.07186"
MODEL = "NatureLM-audio"
SYSTEMS = (MODEL, "SALMONN", "Qwen2-audio", "BioLingual", "BirdNET", "Perch")


@dataclasses.dataclass(frozen=True)
class Published:
    """One figure of one system."""

    value: float
    source: str


def _row(table: int, parts: str, values: str, note: str = "") -> dict[str, Published]:
    """Part -> figure of one system, from a row of a table of the paper."""
    source = f"table {table}" + (f", {note}" if note else "")
    return {part: Published(float(value), source) for part, value in zip(parts.split(), values.split(), strict=True)}


_TABLE_3 = "esc50 watkins cbi humbugdb dcase enabirds hiceas rfcx gibbons"
_TABLE_5 = "unseen-species-{0} unseen-genus-{0} unseen-family-{0}"

FIGURES: dict[str, dict[str, Published]] = {
    MODEL: _row(3, _TABLE_3, ".820 .788 .778 .114 .058 .314 .336 .025 .005")
    | _row(5, _TABLE_5.format("cmn"), ".181 .116 .035")
    | _row(5, _TABLE_5.format("sci"), ".238 .041 .035")
    | _row(5, _TABLE_5.format("tax"), ".343 .148 .308")
    | _row(6, "lifestage call-type captioning zf-indiv", ".794 .871 .532 .655"),
    "SALMONN": _row(3, _TABLE_3, ".320 .041 .004 .090 .005 .004 .097 .002 .005"),
    "Qwen2-audio": _row(3, _TABLE_3, ".307 .041 .004 .070 .005 .004 .097 .002 .005"),
    "BioLingual": _row(3, _TABLE_3, ".600 .257 .705 .085 .036 .109 .429 .004 .018")
    | _row(8, "call-type", ".658", "call or song"),
    "BirdNET": _row(4, "cbi enabirds", ".609 .490") | _row(4, "dcase", ".035", "its birds only"),
    "Perch": _row(4, "cbi enabirds", ".744 .164") | _row(4, "dcase", ".035", "its birds only"),
}
"""System -> part -> figure."""


def of_part(part: str) -> dict[str, Published]:
    """System -> its figure for a part, in the order of `SYSTEMS`, if it has one."""
    return {system: FIGURES[system][part] for system in SYSTEMS if part in FIGURES[system]}
