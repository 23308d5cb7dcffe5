"""Tables of text as people save them: commas, semicolons or tabs, with or without a byte-order mark; or JSON rows."""

import csv
import functools
import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.schema import Row, read_rows

JSON = (".json", ".jsonl", ".ndjson")


def rows(file: pathlib.Path) -> Iterator[Row]:
    """The rows of a table with a header line, or of JSON; names of columns lose outer blanks and capitals.

    Raises:
      UserError: no header, not text, or a row with more cells than the header.
    """
    if file.suffix.lower() in JSON:
        for row in read_rows(file):
            yield Row({str(k).strip().lower(): v for k, v in row.values.items()}, row.where)
        return
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            mark = delimiter(opened.readline())
            opened.seek(0)
            # Tables with tabs are written without quotes (Darwin Core, Raven): a quote there is an inch, or a song.
            quoting = csv.QUOTE_NONE if mark == "\t" else csv.QUOTE_MINIMAL
            found = csv.DictReader(opened, delimiter=mark, quoting=quoting)
            if not found.fieldnames:
                raise UserError(f"{file}: has no header line")
            for values in found:
                where = f"{file}:{found.line_num}"
                if None in values:
                    raise UserError(f"{where}: more cells than the header has columns; quote values that hold a comma")
                yield Row({_bare(k).lower(): _bare(v) for k, v in values.items() if v is not None}, where)
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not a text file in UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{file}: not a readable table ({error})") from error


def delimiter(header: str) -> str:
    """What separates the columns of a header line."""
    return max(",;\t", key=header.count)


def columns(file: pathlib.Path) -> frozenset[str]:
    """Names of the columns of a table, or of the first JSON row; none where the file is neither."""
    if file.suffix.lower() not in shards.TABLES or not file.is_file():
        return frozenset()
    return _columns(file, file.stat().st_mtime_ns, file.stat().st_size)


@functools.lru_cache(256)  # every reader asks
def _columns(file: pathlib.Path, changed: int, size: int) -> frozenset[str]:
    try:
        if file.suffix.lower() in JSON:
            return frozenset(next(rows(file)).values)
        with file.open(encoding="utf-8-sig") as opened:
            header = opened.readline().strip("\r\n")
        return frozenset(_bare(name).lower() for name in next(csv.reader([header], delimiter=delimiter(header)), ()))
    except (UserError, StopIteration, UnicodeDecodeError, csv.Error):
        return frozenset()


def _bare(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell
