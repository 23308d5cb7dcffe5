"""The part of a recording that a row is about: its times in seconds, from cells such as 90, 1.5 s or 0:01:30."""

import math
import re
from typing import Any, NamedTuple

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Row
from nlm_jax.prepare.readers import columns, time_columns

NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")
WITH_UNIT = re.compile(r"([-+]?[\d.,]+)\s*(s|secs?|seconds?|ms|msec|milliseconds|mins?|minutes)")
CLOCK = re.compile(r"(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)")
DAY = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4}|\d{8}_\d{6}")


class Span(NamedTuple):
    """Seconds within a recording; None for a row about all of it."""

    start: float | None
    end: float | None


def span(row: Row) -> Span:
    """The part of its recording that a row is about.

    Raises:
      UserError: one time without the other, a cell that is not a time, or time columns that are not understood.
    """
    layout = columns.layout(row.values)
    if not layout.timed:
        _check_untimed(row, layout)
        return Span(None, None)
    start, end, duration = (seconds(row, name) if name else None for name in layout.times)
    if start is not None and end is None and duration is not None:
        end = start + duration
    if (start is None) != (end is None):
        missing = layout.start if start is None else layout.end or layout.duration
        raise UserError(f"{row.where}: start and end belong together; {missing} is empty")
    if start is None:
        others = [name for name in row.values if name not in layout.times and time_columns.looks_like_time(name)]
        if other := next((name for name in others if _is_number(row.values[name])), ""):
            raise UserError(f"{row.where}: {layout.start} is empty, and {other!r} is not used; write seconds")
    return Span(start, end)


def _check_untimed(row: Row, layout: columns.Layout) -> None:
    """Raises UserError if a column of a table without start and end looks like a time, and has a value in this row."""
    candidates = (layout.start, layout.end, *layout.unused)
    filled = next((name for name in candidates if name and _is_number(row.values.get(name))), "")
    if filled:
        counts = time_columns.counts_units(filled)
        why = "but counts no seconds" if counts else "but there is no start with an end or a duration"
        raise UserError(f"{row.where}: {filled!r} looks like a time, {why}; name columns in seconds start and end")


def _is_number(value: Any) -> bool:
    text = str(value).strip()
    return bool(NUMBER.fullmatch(text) or CLOCK.fullmatch(text))


def seconds(row: Row, name: str) -> float | None:
    """The time in a column, in seconds; None if the cell is empty.

    Raises:
      UserError: neither a number nor a clock time, such as 90, 1.5 or 0:01:30.
    """
    value = row.values.get(name)
    if isinstance(value, float) and math.isnan(value):  # what pandas stores for a missing number
        return None
    text = row.text(name, default="").strip()
    if not text:
        return None
    if match := WITH_UNIT.fullmatch(text.lower()):
        return float(match[1].replace(",", ".")) * time_columns.UNITS[match[2]]
    if match := CLOCK.fullmatch(text):
        hours, minutes, rest = match.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))
    try:
        number = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        is_date = DAY.search(text)
        hint = ", which does not say how far into the recording it is" if is_date else "; write 90.5 or 0:01:30.5"
        raise UserError(f"{row.where}: {name} must be seconds, is {text!r}{hint}") from None
    return number * time_columns.unit(name)
