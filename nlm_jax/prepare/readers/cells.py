"""Cells of tables as text: words for "not known", names of columns in the form they are compared in, and label cells.

Examples:
    cell                 labels(cell, vocabulary={"Robin", "Wren"})
    Robin; Wren          Robin, Wren
    Robin, Wren          Robin, Wren        (both are labels elsewhere in the table)
    Owl, Barn            "Owl, Barn"        (neither is: the comma belongs to the name)
    ['Robin', 'Wren']    Robin, Wren
    NA                   none
"""

import functools
import re
import unicodedata
from collections.abc import Collection
from typing import Any

EMPTY_WORDS = {
    *("", "none", "nan", "null", "nil", "n/a", "n.a.", "na", "#n/a", "#na", "<na>", "<none>", "nat"),
    *("-", "--", "—", "–", "?", "??", ".", "(none)"),
    *("unknown", "uncertain", "no score", "not specified", "unlabelled", "unlabeled"),
    *("unidentified", "undetermined", "indet", "indet.", "unk", "noid", "no id", "missing", "not available", "k.a."),
    "(not answered)",  # a window without an answer of the page or of nlm infer
}
"""Cells that mean no value, in lower case."""
SILENT = {
    *("nocall", "no call", "no calls", "no species", "no bird", "no birds", "no animal", "no animals", "no detection"),
    *("no detections", "nothing heard"),
}
"""Labels for a recording in which a listener heard nothing; BirdNET and BirdCLEF write `nocall`."""
LIST = re.compile(r"\[.*\]|\{[^:]*\}|\((['\"]).*\1,?\)", re.DOTALL)
"""A list, set or tuple as Python or a database prints it."""
OBJECT = re.compile(r"\[?\s*\{.*:.*\}\s*\]?", re.DOTALL)
DELIMITERS = (",", "/", "+", "&")
"""Signs between labels that names of species contain as well."""


def text(value: Any) -> str:
    """A value as text.

    Args:
      value: a string or number; a list or tuple of them.

    Returns:
      The text; elements of a list joined by commas; "" for words such as NA (`EMPTY_WORDS`), truth values, objects and
      None.
    """
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(text, value)))
    if isinstance(value, bool | dict) or value is None:
        return ""
    stripped = str(value).strip()
    return "" if stripped.lower() in EMPTY_WORDS else stripped


@functools.lru_cache(4096)
def column_key(name: str) -> str:
    """The name of a column as it is compared: `begin_time_s` of `Begin Time (s)`, `debut` of `Début`."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", "_", letters.lower()).strip("_")


def label_text(cell: object) -> str:
    """The text of a label cell: NFC, blanks collapsed, without quotes around it; "" for words such as NA."""
    label = " ".join(unicodedata.normalize("NFC", text(cell)).split())
    while len(label) > 1 and label[0] == label[-1] and label[0] in "\"'" and label[0] not in label[1:-1]:
        label = label[1:-1].strip()
    return text(label)


def is_silent(label: str) -> bool:
    """Whether a label means that no animal is heard."""
    return re.sub(r"[\s_-]+", " ", label.lower()).strip(" ()[]") in SILENT


def labels(cell: object, vocabulary: Collection[str] = ()) -> list[str]:
    """The distinct labels of a cell, separated by `;` or `|`, or printed as a list.

    Commas and other `DELIMITERS`, and line breaks, separate labels only if every piece is in the vocabulary, since
    names contain them too ("Owl, Barn").

    Args:
      cell: the value in the table.
      vocabulary: labels that other cells of the table consist of, see `single_labels`.

    Returns:
      The labels in their order. Labels such as `nocall` are left out if there are others.
    """
    lines = [label_text(line) for line in text(cell).splitlines()]
    if len(lines) > 1 and all(line in vocabulary for line in lines):
        return list(dict.fromkeys(lines))
    content = label_text(cell)
    pieces = content[1:-1].split(",") if LIST.fullmatch(content) else re.split(r"[;|]", content)
    every = [label for piece in pieces for label in _split(label_text(piece), vocabulary)]
    distinct = [label for label in dict.fromkeys(every) if label]
    return [label for label in distinct if not is_silent(label)] or distinct[:1]


def _split(piece: str, vocabulary: Collection[str]) -> list[str]:
    """The parts of a piece at the first delimiter all of whose parts are in the vocabulary; else the piece itself."""
    for delimiter in DELIMITERS:
        if delimiter in piece:
            parts = [label_text(part) for part in piece.split(delimiter)]
            if all(part in vocabulary for part in parts):
                return parts
    return [piece]


def is_object(cell: object) -> bool:
    """Whether a cell holds JSON objects, as annotation tools export them, instead of labels."""
    return bool(OBJECT.fullmatch(label_text(cell)))


def single_labels(cell: object) -> list[str]:
    """The labels of a cell without commas: the vocabulary that `labels` takes."""
    return [label for label in labels(cell) if "," not in label]
