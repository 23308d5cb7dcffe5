"""The records of a delimited text file: quoted cells may contain delimiters and line breaks.

Examples:
    line                          cells
    dawn.wav,"Owl, Barn"          dawn.wav | Owl, Barn
    dawn.wav,"two                 dawn.wav | two⏎lines      (with the next line, of which it is a part)
    lines"
    dawn.wav,5" disc              dawn.wav | 5" disc        (a quote inside of a cell is text)
"""

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence

MAX_LINES = 256
"""Lines of a quoted cell at most."""
MAX_CELL = 1 << 24
"""Characters of a cell at most; Python's own limit is less than some lists of annotations have."""
Record = tuple[int, list[str] | None]
"""Number of its first line, and its cells; None for a line with a quote that is never closed."""


def records(lines: Iterable[str], delimiter: str) -> Iterator[Record]:
    """The records that are not empty, in order; cells have no quotes or blanks around them.

    Args:
      lines: with their ends.
      delimiter: the sign between cells.
    """
    csv.field_size_limit(MAX_CELL)
    split = _split_tabs if delimiter == "\t" else _split_quoted
    stream, ahead = (line.replace("\0", "") for line in lines), []
    number = width = 0
    while (line := ahead.pop(0) if ahead else next(stream, None)) is not None:
        number += 1
        first, cells = number, split(line, delimiter, width)
        if cells is None:  # a quoted cell continues on the next line
            ahead += itertools.islice(stream, max(0, MAX_LINES - len(ahead)))
            cells, count = _join_lines(line, ahead, delimiter, width)
            del ahead[:count]
            number += count
        width = width or len(cells or ())
        if cells is None or any(cell.strip() for cell in cells):
            yield first, cells and [unquoted(cell.strip()) if cell else cell for cell in cells]


def _join_lines(line: str, ahead: Sequence[str], delimiter: str, width: int) -> tuple[list[str] | None, int]:
    """The record that begins with a line in which a quote is open.

    Args:
      line: the first line.
      ahead: the lines after it.
      delimiter: the sign between cells.
      width: cells of the header; 0 if this is the header.

    Returns:
      The cells, None if the quote is never closed; and how many lines of `ahead` belong to the record.
    """
    joined = line
    for count, more in enumerate(ahead, 1):
        joined += more
        if '"' in more:
            cells = _split_tabs(joined, delimiter, width) if delimiter == "\t" else _split_strict(joined, delimiter)
            if cells is not None and (not width or len(cells) <= width):
                return cells, count
    return (line.rstrip("\r\n").split("\t"), 0) if delimiter == "\t" else (None, 0)


def _split_quoted(line: str, delimiter: str, width: int) -> list[str] | None:
    """The cells of a line, None if a quote is open at its end."""
    if '"' not in line:
        return line.rstrip("\r\n").split(delimiter)
    cells = _split_strict(line, delimiter)
    if cells is None and not _ends_in_quotes(line, delimiter):  # quotes that are part of the text
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, skipinitialspace=True), [])
    return cells


def _split_strict(text: str, delimiter: str) -> list[str] | None:
    """The cells of text in which every quote is closed; None for other text."""
    try:
        return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return None


def _ends_in_quotes(text: str, delimiter: str) -> bool:
    """Whether the last cell of a text begins with a quote that is not closed."""
    return _split_strict(f'{text}"{delimiter}', delimiter) is not None


def _split_tabs(line: str, delimiter: str, width: int) -> list[str] | None:
    """The cells of a line of a table with tabs, None if a quoted cell may continue on the next line.

    Raven and Darwin Core write such tables without quoting: a quote there is an inch, or a song. Excel quotes cells
    that contain a quote, a tab or a line break, and doubles the quotes in them.
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
    """`Robin, "song" A` of `"Robin, ""song"" A"`; quotes that are not doubled are part of the text."""
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in (inner := cell[1:-1]).replace('""', ""):
        return inner.replace('""', '"').strip()
    return cell
