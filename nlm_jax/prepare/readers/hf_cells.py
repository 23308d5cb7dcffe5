"""Cells of Parquet and Arrow files as Python values: class numbers as names, odd cells as None.

Examples:
    feature of the column                      cell            value
    ClassLabel(names=[owl, wren])              1               wren
    Sequence(ClassLabel(names=[owl, wren]))    [0, 1]          [owl, wren]
    decimal128                                 Decimal("1.5")  1.5
"""

import decimal
from collections.abc import Iterator
from typing import Any

from nlm_jax.prepare import audio_column


def rows(batch: Any, features: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a record batch, column -> value.

    Args:
      batch: of pyarrow.
      features: column -> what `datasets` noted of it.

    Yields:
      The values as their features mean them; None for a cell that Python has no value for (a time in nanoseconds, text
      in an unknown encoding).
    """
    for row in _python_rows(batch):
        yield {name: class_names(features.get(name), value) for name, value in row.items()}


def _python_rows(batch: Any) -> Iterator[dict[str, Any]]:
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError, LookupError):
        for number in range(batch.num_rows):
            yield {name: _python_value(batch.column(name)[number]) for name in batch.schema.names}


def _python_value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError, LookupError):
        return None


def class_names(feature: Any, value: Any) -> Any:
    """A value as its feature means it: names for numbers of classes, also in lists and objects of any depth.

    Args:
      feature: what `datasets` noted of the column, or of an element of it.
      value: the cell.

    Returns:
      The value; None for a number without a class.
    """
    if isinstance(feature, list):
        feature = {"_type": "List", "feature": feature[0] if feature else None}
    if isinstance(value, decimal.Decimal):
        return float(value)
    if not isinstance(feature, dict) or value is None:
        return value
    if isinstance(names := feature.get("names"), list):
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
    inner = feature.get("feature") if feature.get("_type") in audio_column.LISTS else None
    if isinstance(value, list):
        return [class_names(inner, element) for element in value]
    if not isinstance(value, dict):
        return value
    if isinstance(inner, dict):  # a sequence of objects is stored as an object of lists
        return {key: class_names([inner.get(key)], element) for key, element in value.items()}
    return {key: class_names(feature.get(key), element) for key, element in value.items()}


def is_heavy(kind: str) -> bool:
    """Whether a column of an Arrow type holds waveforms or bytes, which are not text."""
    return "binary" in kind or "float>" in kind or "double>" in kind or "halffloat" in kind or "item: float" in kind
