"""The records of a table of text: cells apart by a delimiter, quoted cells with delimiters and line breaks in them."""

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence

LINES = 256
"""Lines that a quoted cell may have."""
LONGEST = 1 << 24
"""Characters of a cell; Python's own limit is less than some lists of annotations have."""
Record = tuple[int, list[str] | None]
"""Number of its first line, and its cells; None for a line with a quote that is never closed."""


def records(text: Iterable[str], mark: str) -> Iterator[Record]:
    """The records that are not empty, in order; cells have no quotes or blanks around them.

    Args:
      text: lines with their ends.
      mark: what is between cells.
    """
    csv.field_size_limit(LONGEST)
    divided = _tabbed if mark == "\t" else _quoted
    stream, waiting = (line.replace("\0", "") for line in text), []
    number = width = 0
    while (line := waiting.pop(0) if waiting else next(stream, None)) is not None:
        number += 1
        first, cells = number, divided(line, mark, width)
        if cells is None:  # a quoted cell that goes on
            waiting += itertools.islice(stream, max(0, LINES - len(waiting)))
            cells, count = _continued(line, waiting, mark, width)
            del waiting[:count]
            number += count
        width = width or len(cells or ())
        if cells is None or any(cell.strip() for cell in cells):
            yield first, cells and [unquoted(cell.strip()) if cell else cell for cell in cells]


def _continued(line: str, ahead: Sequence[str], mark: str, width: int) -> tuple[list[str] | None, int]:
    """The cells of a line together with those behind it, and how many of these belong to it."""
    whole = line
    for count, more in enumerate(ahead, 1):
        whole += more
        if '"' in more:
            cells = _tabbed(whole, mark, width) if mark == "\t" else _strict(whole, mark)
            if cells is not None and (not width or len(cells) <= width):
                return cells, count
    return (line.rstrip("\r\n").split("\t"), 0) if mark == "\t" else (None, 0)


def _quoted(line: str, mark: str, width: int) -> list[str] | None:
    """The cells of a line, None if a quote is open at its end."""
    if '"' not in line:
        return line.rstrip("\r\n").split(mark)
    cells = _strict(line, mark)
    if cells is None and not _opens(line, mark):  # quotes as people write them
        return next(csv.reader([line.rstrip("\r\n")], delimiter=mark, skipinitialspace=True), [])
    return cells


def _strict(text: str, mark: str) -> list[str] | None:
    """The cells of text whose quotes all have their end, None of other text."""
    try:
        return next(csv.reader([text], delimiter=mark, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return None


def _opens(text: str, mark: str) -> bool:
    """Whether the last quote that begins a cell has no end in this text."""
    return _strict(f'{text}"{mark}', mark) is not None


def _tabbed(line: str, mark: str, width: int) -> list[str] | None:
    """The cells of a line of a table with tabs, None if a quoted one may go on behind it.

    Such tables are written without quotes (Raven, Darwin Core): a quote there is an inch, or a song. Excel quotes cells
    that hold a quote, a tab or a line break, and doubles the quotes in them.
    """
    cells = line.rstrip("\r\n").split("\t")
    if width and len(cells) > width:
        joined: list[str] = []
        for cell in cells:
            if joined and _is_open(joined[-1]):
                joined[-1] += f"\t{cell}"
            else:
                joined.append(cell)
        cells = joined if len(joined) == width else cells
    return None if _is_open(cells[-1]) and len(cells) <= width else cells


def _is_open(cell: str) -> bool:
    return cell.startswith('"') and cell.count('"') % 2 == 1


def unquoted(cell: str) -> str:
    """`"Robin, ""song"" A"` -> `Robin, "song" A`; quotes that are not doubled are part of the text."""
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in (inner := cell[1:-1]).replace('""', ""):
        return inner.replace('""', '"').strip()
    return cell
