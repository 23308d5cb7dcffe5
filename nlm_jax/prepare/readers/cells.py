"""What the label cell of a row says: a label, several, that nothing was heard, or nothing."""

import re
import unicodedata
from collections.abc import Collection

from nlm_jax.prepare.readers import recording_facts

SILENT = {
    *("nocall", "no call", "no calls", "no species", "no bird", "no birds", "no animal", "no animals", "no detection"),
    *("no detections", "nothing heard"),
}
"""Labels that say that somebody listened and nothing was heard; BirdNET and BirdCLEF write `nocall`."""
LIST = re.compile(r"\[.*\]|\{[^:]*\}|\((['\"]).*\1,?\)", re.DOTALL)
"""A list, set or tuple as Python or a database prints it."""
OBJECT = re.compile(r"\[?\s*\{.*:.*\}\s*\]?", re.DOTALL)
BETWEEN = (",", "/", "+", "&")
"""What may be between labels, but also in one."""


def bare(cell: object) -> str:
    """A cell as text: NFC, blanks collapsed, without quotes around it; "" for words for nothing, such as NA or nan."""
    text = " ".join(unicodedata.normalize("NFC", recording_facts.text(cell)).split())
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return recording_facts.text(text)


def is_silent(label: str) -> bool:
    """Whether a label says that nothing was heard."""
    return re.sub(r"[\s_-]+", " ", label.lower()).strip(" ()[]") in SILENT


def labels(cell: object, single: Collection[str] = ()) -> list[str]:
    """The labels of a cell, each once: apart by `;` or `|`, or a list as Python prints it.

    Commas and the like, and line breaks, divide only what is known to be labels, for there are names with commas
    ("Owl, Barn").

    Args:
      cell: what the table has there.
      single: labels that stand alone in other cells of the table.
    """
    lines = [bare(line) for line in recording_facts.text(cell).splitlines()]
    if len(lines) > 1 and all(line in single for line in lines):
        return list(dict.fromkeys(lines))
    text = bare(cell)
    pieces = text[1:-1].split(",") if LIST.fullmatch(text) else re.split(r"[;|]", text)
    entries: list[str] = []
    for piece in map(bare, pieces):
        divided = ([bare(part) for part in piece.split(mark)] for mark in BETWEEN if mark in piece)
        entries += next((parts for parts in divided if all(part in single for part in parts)), [piece])
    distinct = [label for label in dict.fromkeys(entries) if label]
    return [label for label in distinct if not is_silent(label)] or distinct[:1]


def is_object(cell: object) -> bool:
    """Whether a cell holds JSON objects, as tools of annotation export them, and no labels."""
    return bool(OBJECT.fullmatch(bare(cell)))


def alone(cell: object) -> list[str]:
    """The labels of a cell that commas do not divide: what `labels` may take for `single`."""
    return [label for label in labels(cell) if "," not in label]
