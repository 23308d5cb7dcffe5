"""Rows that reading annotations leaves out, and notices for the user."""

import dataclasses
import logging

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Reject:
    """A row of annotations without a usable example."""

    name: str
    """The recording, or the part of it; the table if the row does not say."""
    where: str
    """file:line"""
    reason: str


@dataclasses.dataclass(frozen=True)
class Notice:
    """A sentence about a whole file or corpus, such as the assumed format or what was not used."""

    text: str


@dataclasses.dataclass(frozen=True)
class ReadAs:
    """The format as which annotations were read, and what of a folder was not used."""

    text: str


class Report:
    """Rejects and notices in the order of their first report. Annotations are read several times; each counts once."""

    def __init__(self):
        self._rejects: dict[Reject, None] = {}
        self._notices: dict[str, None] = {}
        self.read_as = ""
        """Text of the last `ReadAs`."""

    @property
    def rejects(self) -> tuple[Reject, ...]:
        """All rejects."""
        return tuple(self._rejects)

    @property
    def notices(self) -> tuple[str, ...]:
        """Texts of all notices."""
        return tuple(self._notices)

    def add(self, item: Reject | Notice | ReadAs) -> None:
        """Adds an item; a new notice is also logged as a warning."""
        if isinstance(item, ReadAs):
            self.read_as = item.text
        elif isinstance(item, Reject):
            self._rejects.setdefault(item)
        elif item.text not in self._notices:
            self._notices[item.text] = None
            log.warning("%s", item.text)
