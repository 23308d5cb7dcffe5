"""Tables of text as people save them: columns apart by commas, semicolons, tabs or bars, in any usual encoding, with
numbers in the style of any country; or JSON rows."""

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
from nlm_jax.prepare.readers import columns as meaning
from nlm_jax.prepare.readers import textfile
from nlm_jax.prepare.readers.records import Record, records
from nlm_jax.prepare.rejects import Notice, Reject

JSON = (".json", ".jsonl", ".ndjson")
DELIMITERS = ",;\t|"
SEPARATOR = re.compile(r"\"?sep=(.)\"?", re.IGNORECASE)
"""A first line of Excel's that names the delimiter."""
AHEAD = 20
"""Lines below a title in which the header is looked for."""
Comma = Literal["decimal", "thousands"]
GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
DECIMAL = re.compile(r"[-+]?(\d+,(\d{1,2}|\d{4,})|0,\d+)")
GROUPED_BY_POINTS = re.compile(r"[-+]?\d{1,3}(\.\d{3})+,\d+")


def rows(file: pathlib.Path) -> Iterator[Row | Reject | Notice]:
    """The rows of a table with a header line, or of JSON; names of columns lose outer blanks and capitals.

    Rows without any value are passed over; a row that cannot be read is a reject. Numbers in columns of times have a
    decimal point and no thousands separators. Columns without a name are left out.

    Raises:
      UserError: no header, not text, or JSON that is none.
    """
    if file.suffix.lower() in JSON:
        for row in read_rows(file):
            yield Row({str(k).strip().lower(): v for k, v in row.values.items()}, row.where)
        return
    try:
        yield from _lines(file)
    except csv.Error as error:
        raise UserError(f"{file}: not a readable table ({error})") from error


def _lines(file: pathlib.Path) -> Iterator[Row | Reject | Notice]:
    yield from textfile.notices(file)
    header, mark, line = _header(file)
    if not any(header):
        raise UserError(f"{file}: has no header line")
    if line > 1:
        yield Notice(f"{file}: the header is line {line}; what is before it was not read")
    timed = {n for n, name in enumerate(header) if meaning.is_time(name)}
    comma = _comma(file, timed, mark) if timed else "decimal"
    for number, cells in _body(file):
        if cells is None:
            yield Reject("", f"{file}:{number}", 'opens a quote (") that nothing closes; remove it, or close it')
        elif any(cells[len(header) :]):
            of = {",": "a comma", ";": "a semicolon", "|": "a bar"}.get(mark, "a tab")
            yield Reject("", f"{file}:{number}", f"more cells than the header has columns; quote values that hold {of}")
        elif any(cells) and not all(cell.lower() == name for name, cell in zip(header, cells, strict=False) if name):
            values = {
                name: _number(cell, comma) if n in timed else cell
                for n, (name, cell) in enumerate(zip(header, cells, strict=False))
                if name
            }
            yield Row(values, f"{file}:{number}")


def is_table(file: pathlib.Path) -> bool:
    """Whether a file has the suffix of a table of text that is no JSON."""
    return file.suffix.lower() in shards.TABLES and file.suffix.lower() not in JSON and file.is_file()


def columns(file: pathlib.Path) -> frozenset[str]:
    """Names of the columns of a table, or of the first JSON row; none where the file is neither."""
    return frozenset(header(file))


def header(file: pathlib.Path) -> tuple[str, ...]:
    """The same in their order."""
    if file.suffix.lower() not in shards.TABLES or not file.is_file():
        return ()
    return _columns(file, file.stat().st_mtime_ns, file.stat().st_size)


@functools.lru_cache(1024)  # every reader asks
def _columns(file: pathlib.Path, changed: int, size: int) -> tuple[str, ...]:
    try:
        if file.suffix.lower() in JSON:
            return tuple(next(row.values for row in rows(file) if isinstance(row, Row)))
        return tuple(filter(None, _header(file)[0]))
    except (UserError, StopIteration, OSError, csv.Error):
        return ()


def _header(file: pathlib.Path) -> tuple[tuple[str, ...], str, int]:
    """The names of the columns, "" for one without, the delimiter, and the number of the line if others are before it
    (0 for blank ones and one that names the delimiter)."""
    with textfile.open_text(file) as opened:
        before, lines = _begin(opened)
        first = next(lines, "")
        mark = delimiter(first)
        _, cells = next(records(itertools.chain([first], lines), mark), (0, []))
    names: list[str] = []
    for cell in cells or ():
        name = cell.lower()
        names.append("" if name in names else name)
    return tuple(names), mark, (before.number + 1) * before.titles


class _Before(NamedTuple):
    """What is before the header of a table."""

    number: int
    """Lines."""
    titles: bool
    """Whether there is text in them."""


def _begin(opened: Iterable[str]) -> tuple[_Before, Iterator[str]]:
    """What is before the header of a table, and the lines from it on.

    The header is the first line that is neither empty nor names the delimiter; if it has at most two cells (a title, a
    comment), the first line below it that has more, and names recordings or times, and labels.
    """
    lines, number, ahead = iter(opened), 0, []
    for line in lines:
        if _says(line):
            ahead = [line, *itertools.islice(lines, AHEAD)]
            break
        number += 1
    short = ahead and len(_cells(ahead[0])) <= 2
    title = next((k for k, line in enumerate(ahead) if k and short and _is_header(line)), 0)
    return _Before(number + title, title > 0), itertools.chain(ahead[title:], lines)


def _says(line: str) -> bool:
    return bool(line.strip(" \r\n\t;,|\x1a\0")) and not SEPARATOR.fullmatch(line.strip(" \r\n"))


def _cells(line: str) -> list[str]:
    mark = delimiter(line)
    _, cells = next(records([line], mark), (0, None))
    return [cell.lower() for cell in cells or () if cell]


def _is_header(line: str) -> bool:
    found = meaning.layout(names := _cells(line))
    return len(names) > 2 and bool(found.label and (found.file or found.timed))


def delimiter(line: str) -> str:
    """What separates the columns of a header line; quoted names may hold any."""
    return max(DELIMITERS, key=re.sub(r'"[^"]*"', "", line).count)


def _body(file: pathlib.Path) -> Iterator[Record]:
    """Number of the line and cells of every record behind the header."""
    with textfile.open_text(file) as opened:
        before, lines = _begin(opened)
        first = next(lines, "")
        found = records(itertools.chain([first], lines), delimiter(first))
        next(found, None)
        for number, cells in found:
            yield number + before.number, cells


def _comma(file: pathlib.Path, timed: set[int], mark: str) -> Comma:
    """What a comma in the times of a table means, of all its cells: in `1,234` alone it could be either."""
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
    """A number of a table with a point for decimals and nothing else; other text as it is."""
    if "," not in cell:
        return cell
    if GROUPED_BY_POINTS.fullmatch(cell):
        return cell.replace(".", "").replace(",", ".")
    if GROUPED.fullmatch(cell) and (comma == "thousands" or "." in cell or cell.count(",") > 1):
        return cell.replace(",", "")
    return cell.replace(",", ".") if re.fullmatch(r"[-+]?\d*,\d+", cell) else cell
