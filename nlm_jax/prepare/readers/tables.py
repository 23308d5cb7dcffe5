"""Tables of text as people save them: separated by commas, semicolons, tabs or bars, in any common encoding, with
numbers in the style of any country; or JSON rows.

    sep=;                       names the delimiter (Excel)
    Results of May 2024         a title
    Datei;Beginn;Ende;Art       the header: datei, beginn, ende, art
    a.wav;1.234,5;1.236,0;Owl   1234.5, 1236.0
"""

import csv
import functools
import itertools
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.schema import Row, read_rows
from nlm_jax.prepare.readers import columns, textfile, time_columns
from nlm_jax.prepare.readers.records import Record, records
from nlm_jax.prepare.rejects import Notice, Reject

JSON = (".json", ".jsonl", ".ndjson")
DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
SEPARATOR_LINE = re.compile(r"\"?sep=(.)\"?", re.IGNORECASE)
"""A first line of Excel's that names the delimiter."""
LOOKAHEAD = 20
"""Lines below a title that may be the header."""
Comma = Literal["decimal", "thousands"]
"""Meaning of a comma in a number."""
GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
DECIMAL = re.compile(r"[-+]?(\d+,(\d{1,2}|\d{4,})|0,\d+)")
GROUPED_BY_POINTS = re.compile(r"[-+]?\d{1,3}(\.\d{3})+,\d+")


# --- What a table consists of ---


def is_table(file: pathlib.Path) -> bool:
    """Whether a file has the suffix of a table of text other than JSON."""
    return file.suffix.lower() in shards.TABLES and file.suffix.lower() not in JSON and file.is_file()


def header(file: pathlib.Path) -> tuple[str, ...]:
    """The names of the columns of a table, or of the first JSON row, in lower case; none for any other file."""
    if file.suffix.lower() not in shards.TABLES or not file.is_file():
        return ()
    return _names(file, file.stat().st_mtime_ns, file.stat().st_size)


def column_names(file: pathlib.Path) -> frozenset[str]:
    """`header` as a set."""
    return frozenset(header(file))


@functools.lru_cache(1024)  # every reader looks at the columns
def _names(file: pathlib.Path, modified: int, size: int) -> tuple[str, ...]:
    try:
        if file.suffix.lower() in JSON:
            return tuple(next(row.values for row in rows(file) if isinstance(row, Row)))
        return tuple(filter(None, _header(file).names))
    except (UserError, StopIteration, OSError, csv.Error):
        return ()


def rows(file: pathlib.Path) -> Iterator[Row | Reject | Notice]:
    """The rows of a table with a header line, or of JSON.

    Names of columns are in lower case and without outer blanks; columns without a name are left out. Rows without any
    value are skipped. Numbers in columns of times have a decimal point and no thousands separators.

    Yields:
      Rows; a reject for each that cannot be read; notices about the file.

    Raises:
      UserError: no header, not text, or invalid JSON.
    """
    if file.suffix.lower() in JSON:
        for row in read_rows(file):
            yield Row({str(k).strip().lower(): v for k, v in row.values.items()}, row.where)
        return
    try:
        yield from _rows_of_text(file)
    except csv.Error as error:
        raise UserError(f"{file}: not a readable table ({error})") from error


def _rows_of_text(file: pathlib.Path) -> Iterator[Row | Reject | Notice]:
    yield from textfile.notices(file)
    head = _header(file)
    if not any(head.names):
        raise UserError(f"{file}: has no header line")
    if head.line > 1:
        yield Notice(f"{file}: the header is line {head.line}; what is before it was not read")
    timed = {n for n, name in enumerate(head.names) if time_columns.is_time(name)}
    comma = _meaning_of_comma(file, timed, head.delimiter) if timed else "decimal"
    for number, cells in _body(file):
        where = f"{file}:{number}"
        if cells is None:
            yield Reject("", where, 'opens a quote (") that nothing closes; remove it, or close it')
        elif any(cells[len(head.names) :]):
            sign = DELIMITERS[head.delimiter]
            yield Reject("", where, f"more cells than the header has columns; quote values that hold {sign}")
        elif any(cells) and not _repeats(head.names, cells):
            numbered = enumerate(zip(head.names, cells, strict=False))
            yield Row(
                {name: _number(cell, comma) if n in timed else cell for n, (name, cell) in numbered if name}, where
            )


def _repeats(names: tuple[str, ...], cells: list[str]) -> bool:
    """Whether a row is the header again, as in tables that were put together."""
    return all(cell.lower() == name for name, cell in zip(names, cells, strict=False) if name)


# --- The header, which titles and comments may come before ---


class _Header(NamedTuple):
    names: tuple[str, ...]
    """The columns in lower case; "" for one without a name, or with the name of another."""
    delimiter: str
    line: int
    """Its number if text comes before it; else 0."""


class _Before(NamedTuple):
    """The lines before the header of a table."""

    lines: int
    has_text: bool
    """Whether these are more than blank lines and one that names the delimiter."""


def _header(file: pathlib.Path) -> _Header:
    with textfile.open_text(file) as opened:
        before, lines = _skip_to_header(opened)
        first = next(lines, "")
        mark = delimiter(first)
        _, cells = next(records(itertools.chain([first], lines), mark), (0, []))
    names: list[str] = []
    for cell in cells or ():
        name = cell.lower()
        names.append("" if name in names else name)
    return _Header(tuple(names), mark, (before.lines + 1) * before.has_text)


def _body(file: pathlib.Path) -> Iterator[Record]:
    """The records after the header, with their line numbers in the file."""
    with textfile.open_text(file) as opened:
        before, lines = _skip_to_header(opened)
        first = next(lines, "")
        every = records(itertools.chain([first], lines), delimiter(first))
        next(every, None)
        for number, cells in every:
            yield number + before.lines, cells


def _skip_to_header(opened: Iterable[str]) -> tuple[_Before, Iterator[str]]:
    """The lines before the header of a table, and those from the header on.

    The header is the first line that is neither empty nor names the delimiter; if it has at most two cells (a title, a
    comment), the first line below it that has more, and names recordings or times, and labels.
    """
    lines, skipped, ahead = iter(opened), 0, []
    for line in lines:
        if _has_text(line):
            ahead = [line, *itertools.islice(lines, LOOKAHEAD)]
            break
        skipped += 1
    is_title = bool(ahead) and len(_cells(ahead[0])) <= 2
    titles = next((n for n, line in enumerate(ahead) if n and _is_header(line)), 0) if is_title else 0
    return _Before(skipped + titles, titles > 0), itertools.chain(ahead[titles:], lines)


def _has_text(line: str) -> bool:
    return bool(line.strip(" \r\n\t;,|\x1a\0")) and not SEPARATOR_LINE.fullmatch(line.strip(" \r\n"))


def _cells(line: str) -> list[str]:
    _, cells = next(records([line], delimiter(line)), (0, None))
    return [cell.lower() for cell in cells or () if cell]


def _is_header(line: str) -> bool:
    layout = columns.layout(names := _cells(line))
    return len(names) > 2 and bool(layout.label and (layout.file or layout.timed))


def delimiter(line: str) -> str:
    """The separator of the columns of a header line; quoted names may contain any character."""
    return max(DELIMITERS, key=re.sub(r'"[^"]*"', "", line).count)


# --- Numbers ---


def _meaning_of_comma(file: pathlib.Path, timed: set[int], mark: str) -> Comma:
    """The meaning of commas in the times of a table, by all of its cells: `1,234` alone could be either.

    Args:
      file: the table.
      timed: the columns of times.
      mark: its delimiter.
    """
    grouped = point = whole = False
    for _, cells in _body(file):
        for cell in [cells[n] for n in timed if n < len(cells)] if cells else ():
            if "," in cell:
                if GROUPED_BY_POINTS.fullmatch(cell) or DECIMAL.fullmatch(cell):
                    return "decimal"
                grouped |= bool(GROUPED.fullmatch(cell))
            point |= "." in cell
            whole |= cell.isdigit()
    if grouped and (point or mark in ",|" or (mark == "\t" and whole)):
        return "thousands"
    return "decimal"


def _number(cell: str, comma: Comma) -> str:
    """A number with a decimal point and no thousands separators; other text unchanged."""
    if "," not in cell:
        return cell
    if GROUPED_BY_POINTS.fullmatch(cell):
        return cell.replace(".", "").replace(",", ".")
    if GROUPED.fullmatch(cell) and (comma == "thousands" or "." in cell or cell.count(",") > 1):
        return cell.replace(",", "")
    return cell.replace(",", ".") if re.fullmatch(r"[-+]?\d*,\d+", cell) else cell
