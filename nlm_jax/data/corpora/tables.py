"""Tables of text as people save them: columns apart by commas, semicolons, tabs or bars, in any usual encoding, with
numbers in the style of any country; or JSON rows."""

import csv
import functools
import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import Literal

from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.corpora import columns as meaning
from nlm_jax.data.corpora import textfile
from nlm_jax.data.corpora.records import Record, records
from nlm_jax.data.report import Notice, Reject
from nlm_jax.data.schema import Row, read_rows

JSON = (".json", ".jsonl", ".ndjson")
DELIMITERS = ",;\t|"
SEPARATOR = re.compile(r"\"?sep=(.)\"?", re.IGNORECASE)
"""A first line of Excel's that names the delimiter."""
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
    header, mark = _header(file)
    if not any(header):
        raise UserError(f"{file}: has no header line")
    timed = {n for n, name in enumerate(header) if meaning.is_time(name)}
    comma = _comma(file, timed, mark) if timed else "decimal"
    for number, cells in _body(file):
        if cells is None:
            yield Reject("", f"{file}:{number}", 'opens a quote (") that nothing closes; remove it, or close it')
        elif any(cells[len(header) :]):
            of = {",": "a comma", ";": "a semicolon", "|": "a bar"}.get(mark, "a tab")
            yield Reject("", f"{file}:{number}", f"more cells than the header has columns; quote values that hold {of}")
        elif any(cells):
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


def _header(file: pathlib.Path) -> tuple[tuple[str, ...], str]:
    """The names of the columns, "" for one without, and the delimiter."""
    with textfile.open_text(file) as opened:
        first = _skip(opened)
        mark = delimiter(first)
        _, cells = next(records(itertools.chain([first], opened), mark), (0, []))
    names: list[str] = []
    for cell in cells or ():
        name = cell.lower()
        names.append("" if name in names else name)
    return tuple(names), mark


def _skip(opened: Iterator[str]) -> str:
    """The first line that is neither empty nor names the delimiter (it then begins with what `delimiter` finds)."""
    for line in opened:
        if line.strip(" \r\n\t;,|\x1a") and not SEPARATOR.fullmatch(line.strip()):
            return line
    return ""


def delimiter(line: str) -> str:
    """What separates the columns of a header line; quoted names may hold any."""
    return max(DELIMITERS, key=re.sub(r'"[^"]*"', "", line).count)


def _body(file: pathlib.Path) -> Iterator[Record]:
    """Number of the line and cells of every record behind the header."""
    with textfile.open_text(file) as opened:
        before = 0

        def counted() -> Iterator[str]:
            nonlocal before
            for before, line in enumerate(opened):  # noqa: B007
                yield line

        first = _skip(counted())
        skipped = before
        found = records(itertools.chain([first], opened), delimiter(first))
        next(found, None)
        for number, cells in found:
            yield number + skipped, cells


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
