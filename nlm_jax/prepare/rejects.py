"""What reading annotations leaves out, and what the person who gave them should know."""

import dataclasses
import logging

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Reject:
    """A row of annotations that no example is made of."""

    name: str
    """The recording, or the part of it; the table if the row does not say."""
    where: str
    """file:line"""
    reason: str


@dataclasses.dataclass(frozen=True)
class Notice:
    """A sentence about a whole file or corpus: which format was taken, what was not used."""

    text: str


@dataclasses.dataclass(frozen=True)
class ReadAs:
    """As which format annotations were read, and what of a folder was not used."""

    text: str


class Report:
    """Rejects and notices in the order of their first report. Annotations are read several times; each counts once."""

    def __init__(self):
        self._rejects: dict[Reject, None] = {}
        self._notices: dict[str, None] = {}
        self.read_as = ""
        """What the last complete reading read."""

    @property
    def rejects(self) -> tuple[Reject, ...]:
        return tuple(self._rejects)

    @property
    def notices(self) -> tuple[str, ...]:
        return tuple(self._notices)

    def add(self, item: Reject | Notice | ReadAs) -> None:
        """Takes note of one; a new notice is logged as a warning."""
        if isinstance(item, ReadAs):
            self.read_as = item.text
        elif isinstance(item, Reject):
            self._rejects.setdefault(item)
        elif item.text not in self._notices:
            self._notices[item.text] = None
            log.warning("%s", item.text)
