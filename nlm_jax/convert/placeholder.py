"""Placeholder for an object that a foreign checkpoint names and that is not rebuilt."""

from typing import Any


class Placeholder(dict):
    """An object of a class that is not looked up. It compares by identity, so that it may be a key."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"

    def append(self, _value: Any) -> None:
        """Items of a list subclass are not read."""

    def extend(self, _values: Any) -> None:
        """As `append`."""

    def add(self, _value: Any) -> None:
        """As `append`, for a set subclass."""
