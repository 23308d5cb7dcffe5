"""Long recordings as windows: each a part of its recording, with the labels that are heard in it.

Labels of a whole recording hold for each of its windows. Labels with start and end make a detection question of every
window: it is answered with what is heard there, in order of appearance, or with None. A label that lies in no recording
is a reject, and as it was heard somewhere, no window of that recording is answered with None.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import CONTAINED, NONE, Example, file_of, part_name, part_of, past_end_fault
from nlm_jax.prepare.rejects import Notice, Reject, Report

PROMPT, TASK = "What are the common names for the species in the audio, if any?", "common-multiple-detection"
SCIENTIFIC = ("What are the scientific names for the species in the audio, if any?", "sci-multiple-detection")
SHORTEST = 0.01
"""Seconds of a label that must be in a window: less is rounding, unless there is no more of it in any."""
Event = tuple[float, float, Example]
"""A label between two times of its recording."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """How recordings are cut: a window of `seconds` every `hop` seconds."""

    seconds: float
    hop: float
    duration: Callable[[str], float]
    """Seconds of the recording of a name. It may raise UserError: such a recording stays whole, to be named later."""
    report: Report = dataclasses.field(default_factory=Report)
    """Rejects of the annotations; labels that lie in no recording are added."""
    content: Callable[[str], str] = str
    """Key shared by the names of one recording, of which the rows of a dataset have copies; else the name."""

    def of(self, path: str) -> list[tuple[str, float, float]]:
        """(name, start, end) of every window; one that is not longer than a window keeps its name.

        The last window is the first that reaches the end; it is as short as the recording makes it.
        """
        try:
            length = self.duration(path)
        except UserError:
            length = 0.0
        if length <= self.seconds:
            return [(path, 0.0, max(length, self.seconds))]
        out, start, number = [], 0.0, 0
        while not out or out[-1][2] < length - SHORTEST:
            end = min(start + self.seconds, length)
            out.append((part_name(path, start, end), start, end))
            number += 1
            start = number * self.hop
            if start >= length - SHORTEST:
                break
        return out

    def cut(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Examples of whole recordings, once a window, then those made of labels with times, recording by recording.

        Examples of several recordings, or of none, stay as they are. One with a time and a question of its own is
        asked of the windows that it reaches into.
        """
        timed: dict[tuple[str, str], list[Event]] = collections.defaultdict(list)
        first: dict[tuple[str, str], str] = {}
        copies: set[str] = set()
        for example in examples:
            part = part_of(example.paths[0]) if len(example.paths) == 1 else None
            if part is not None:
                name = first.setdefault((self.content(part[0]), example.split), part[0])
                copies.update([part[0]] * (name != part[0]))
                timed[name, example.split].append((part[1], part[2], example))
            elif negative(example) and len(example.paths) == 1:  # unless others are heard there
                timed[example.paths[0], example.split].append((0.0, 0.0, example))
            elif len(example.paths) == 1:
                for name, start, _ in self.of(example.paths[0]):
                    yield _moved(example, name, start) if name != example.paths[0] else example
            else:
                yield example
        if copies:
            count = len({name for name, _ in timed if CONTAINED.search(name)})
            self.report.add(
                Notice(f"rows that are about one recording are put together: {len(copies) + count} to {count}")
            )
        unlabelled: collections.Counter[str] = collections.Counter()
        placed = {key: sorted(self._placed(key[0], events), key=lambda e: e[:2]) for key, events in timed.items()}
        incomplete = {self.content(file_of(reject.name)) for reject in self.report.rejects if reject.name}
        for (path, _), events in placed.items():
            for example in self._with_own_prompt(path, events):
                why = "labels of their recordings were rejected" if self.content(file_of(path)) in incomplete else ""
                if len(events) == 1 and not negative(events[0][2]) and CONTAINED.search(path):
                    why = why or "a row of a dataset has one label of its recording, which may be in other rows as well"
                if why and example.text == NONE and _plain(example):
                    unlabelled[why] += 1
                else:
                    yield example
        for why, count in unlabelled.items():
            self.report.add(Notice(f"windows without a label that are left out, as {why}: {count}"))

    def _placed(self, path: str, events: Iterable[Event]) -> Iterator[Event]:
        """The labels that begin within their recording; the others are rejects. All, if its length is not known."""
        try:
            length = self.duration(path)
        except UserError:
            length = math.inf
        for begin, finish, example in events:
            if fault := past_end_fault(begin, finish, length):
                self.report.add(Reject(example.paths[0], example.where, fault))
            else:
                yield begin, finish, example

    def _with_own_prompt(self, path: str, events: list[Event]) -> Iterator[Example]:
        """The questions about every window of a recording, whose labels are in order."""
        windows = self.of(path)
        inside: list[list[Example]] = [[] for _ in windows]
        for begin, finish, example in events:
            first = max(0, int((begin - self.seconds) // self.hop))
            near = range(first, min(len(windows), int(min(finish, windows[-1][2]) // self.hop) + 2))
            reached = [k for k in near if _reaches(begin, finish, *windows[k][1:])]
            for k in reached or [
                max(near or [len(windows) - 1], key=lambda k: _shared(begin, finish, *windows[k][1:]))
            ]:
                inside[k].append(example)
        plain = [e for _, _, e in events if _plain(e)]
        like = next((e for e in plain if not negative(e)), next(iter(plain), None))
        for (name, start, _), reaching in zip(windows, inside, strict=True):
            yield from (_moved(e, name, start) for e in reaching if not _plain(e))
            if like is not None:
                yield _detection(name, [e for e in reaching if _plain(e) and not negative(e)], like)


def negative(example: Example) -> bool:
    """Whether it says of a recording, or of a part, that nothing was heard there, as an empty selection table does."""
    return example.label == example.text == NONE and example.task in (TASK, SCIENTIFIC[1])


def _plain(example: Example) -> bool:
    """Whether its answer is its label: what a table says was heard, not a question of its own."""
    return bool(example.label) and example.text == example.label


def _reaches(begin: float, finish: float, start: float, end: float) -> bool:
    """Whether a label is in a window; a point is in that which it begins, not in that which it ends."""
    if begin == finish:
        return start <= begin < end
    return _shared(begin, finish, start, end) >= min(SHORTEST, finish - begin)


def _shared(begin: float, finish: float, start: float, end: float) -> float:
    """Seconds of a label that are in a window; how far it is away if that is negative."""
    return min(finish, end) - max(begin, start)


def _moved(example: Example, name: str, start: float) -> Example:
    return dataclasses.replace(example, id=f"{example.id}@{start:g}", paths=(name,))


def _detection(name: str, labelled: list[Example], like: Example) -> Example:
    """The question what is in a window; `like` gives domain, licence and split."""
    first = {text: example for example in reversed(labelled) for text in example.labels or (example.text,)}
    answers = list(dict.fromkeys(text for example in labelled for text in example.labels or (example.text,)))
    prompt, task = SCIENTIFIC if like.task == "scientific-name" else (PROMPT, TASK)
    facts = dict(first[answers[0]].facts) if answers else {}
    if len(answers) > 1:
        facts["others"] = ", ".join(answers[1:])
    return dataclasses.replace(
        like,
        id=name,
        paths=(name,),
        prompt=prompt,
        text=", ".join(answers) or NONE,
        task=task,
        label=", ".join(answers) or NONE,
        labels=tuple(answers) if len(answers) > 1 else (),
        facts=facts,
    )
