"""A task: an entry of a template file, and the strict parsing of it (docs/tasks.md explains the fields)."""

import dataclasses
import difflib
import functools
import string
from collections.abc import Mapping
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.data.text import PLACEHOLDER
from nlm_jax.prepare.tasks import fields
from nlm_jax.prepare.tasks.negatives import KINDS

NEGATIVES = ("mixed", "random", "hard", "easy")
CONTEXT = ("time", "place", "notes")
COMPARISONS = ("few-shot", "few-shot-detection", "same", "odd-one-out", "contains", "most", "order", "match")
BUILT_PLACEHOLDERS = {
    "options": "the candidates in random order, separated by commas (entries with `options`)",
    "asked": "the one candidate asked about (entries with `ask`)",
    "context": "time, place and notes, each of them randomly dropped (entries with `context`)",
    "answer": "what is right for `options`, `ask` or `clips` (in `answer` only)",
    "clips": "the lettered recordings, A first (entries with `clips`)",
    "examples": "the labelled recordings (entries with `clips`, kinds few-shot and few-shot-detection)",
    "query": "the recording that is asked about (entries with `clips`, if there is one)",
    "target": "the label looked for (entries with `clips`, kind contains)",
    "direction": "from lowest to highest or from highest to lowest (entries with `clips`, kind order)",
}
"""Placeholders with values built for one question, in addition to the fields of the recording."""


@dataclasses.dataclass(frozen=True)
class CandidateList:
    """`options` of an entry: a list of candidates to choose from."""

    of: str
    """Field whose values are the candidates."""
    negatives: str = "mixed"
    """How wrong candidates are chosen: one of `NEGATIVES`."""
    most: int = 35
    """Wrong candidates at most; their number is uniform from 1 on."""
    absent: float = 0.0
    """Share of the prompts without the right candidates, with the answer "None". Above 0, "None" is always listed."""


@dataclasses.dataclass(frozen=True)
class YesNoQuestion:
    """`ask` of an entry: one candidate, right in half of the prompts, with the answer Yes or No."""

    of: str
    """Field whose value is the candidate."""
    negatives: str = "mixed"
    """How wrong candidates are chosen: one of `NEGATIVES`."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """`clips` of an entry: several recordings in one prompt."""

    kind: str
    """One of `COMPARISONS`."""
    of: tuple[str, ...]
    """Fields that may be the label; one of those that the recording has is chosen at random."""
    count: tuple[int, int] = (2, 4)
    """Fewest and most clips to choose from; for few-shot kinds fewest and most labels."""
    shots: tuple[int, int] = (1, 2)
    """Fewest and most examples of each label, for few-shot kinds."""


@dataclasses.dataclass(frozen=True)
class Task:
    """An entry of a template file; texts may contain placeholders in braces."""

    name: str
    about: str
    """A sentence for people."""
    answer: tuple[str, ...]
    """Answers, of which one whose placeholders are all known is used."""
    train: tuple[str, ...]
    """Phrasings of the question for training."""
    test: tuple[str, ...]
    """Phrasings for evaluation."""
    needs: tuple[str, ...] = ()
    """Fields that the texts use."""
    options: CandidateList | None = None
    ask: YesNoQuestion | None = None
    context: tuple[str, ...] = ()
    """Parts of the placeholder `context`, of `CONTEXT`."""
    clips: Comparison | None = None
    where: str = dataclasses.field(default="", compare=False)
    """File and entry, for messages."""

    def facts(self) -> tuple[str, ...]:
        """Fields that a recording must have: `needs`, and those whose values are candidates."""
        of = [part.of for part in (self.options, self.ask) if part]
        return tuple(dict.fromkeys((*self.needs, *of)))


def parse(name: str, values: Any, where: str) -> Task:
    """The task of an entry.

    Args:
      name: of the task.
      values: the entry, as YAML has it.
      where: file and entry, for messages.

    Raises:
      UserError: a field or placeholder is unknown, missing or invalid.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: must hold fields such as answer, train and test")
    accepted = [field.name for field in dataclasses.fields(Task) if field.name not in ("name", "where")]
    for key in values:
        if key not in accepted:
            raise UserError(f"{where}: unknown field {key!r}; there are {', '.join(accepted)}")
    answer = values.get("answer")
    parsed = {
        "name": name,
        "where": where,
        "about": _text(values, "about", where),
        "needs": _texts(values, "needs", where, empty=True),
        "answer": _texts({"answer": [answer] if isinstance(answer, str) else answer}, "answer", where),
        "train": _texts(values, "train", where),
        "test": _texts(values, "test", where),
        "context": _texts(values, "context", where, empty=True),
    }
    for key, kind in (("options", CandidateList), ("ask", YesNoQuestion), ("clips", Comparison)):
        if values.get(key) is not None:
            parsed[key] = _part(kind, values[key], f"{where}: {key}")
    task = Task(**parsed)
    _check(task)
    return task


def _text(values: Mapping[str, Any], key: str, where: str) -> str:
    text = values.get(key, "")
    if not isinstance(text, str):
        raise UserError(f"{where}: {key} must be text, is {text!r}; put quotes around it")
    return " ".join(text.split())


def _texts(values: Mapping[str, Any], key: str, where: str, empty: bool = False) -> tuple[str, ...]:
    texts = values.get(key)
    if texts is None and empty:
        return ()
    if not isinstance(texts, list) or not (texts or empty):
        raise UserError(f"{where}: {key} must be a list of texts, {'is missing' if texts is None else f'is {texts!r}'}")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{where}: {key} holds {text!r}, which is not text; put quotes around it")
    stripped = [text.strip() for text in texts]
    for text in stripped:
        if [comparable(other) for other in stripped].count(comparable(text)) > 1:
            raise UserError(f"{where}: {key} holds {text!r} twice; keep one of them")
    return tuple(stripped)


def comparable(text: str) -> str:
    """A phrasing as it is compared: without capitals and repeated blanks."""
    return " ".join(text.split()).casefold()


def _part(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise UserError(f"{where} must hold fields such as of")
    parsed: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name in values:
            parsed[field.name] = _value(field, values[field.name], where)
        elif field.default is dataclasses.MISSING:
            raise UserError(f"{where}: {field.name} is missing")
    for key in values:
        if key not in [field.name for field in dataclasses.fields(kind)]:
            raise UserError(f"{where}: unknown field {key!r}")
    return kind(**parsed)


def _value(field: dataclasses.Field, value: Any, where: str) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool)
    if field.name in ("count", "shots"):
        pair = [value, value] if number else value
        whole = isinstance(pair, list) and len(pair) == 2 and all(type(v) is int for v in pair)
        if not whole or not 1 <= pair[0] <= pair[1]:
            raise UserError(f"{where}: {field.name} must be [fewest, most], is {value!r}")
        return tuple(pair)
    if field.name == "most" and (not number or value < 1):
        raise UserError(f"{where}: most must be a whole number from 1 on, is {value!r}")
    if field.name == "absent" and (
        isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1
    ):
        raise UserError(f"{where}: absent must lie between 0 and 1, is {value!r}")
    if field.name == "negatives" and value not in NEGATIVES:
        raise UserError(f"{where}: negatives must be one of {', '.join(NEGATIVES)}, is {value!r}")
    if field.name == "kind" and value not in COMPARISONS:
        raise UserError(f"{where}: kind must be one of {', '.join(COMPARISONS)}, is {value!r}")
    if field.name == "of":
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(n, str) and n in fields.NAMES for n in names):
            raise UserError(
                f"{where}: of must be a field that recordings have, is {value!r}; nlm data tasks lists them"
            )
        return tuple(names) if field.type == tuple[str, ...] else names[0]
    return value


def _check(task: Task) -> None:
    """Raises UserError for a name that does not exist, a placeholder without a value, or one that is not used."""
    if sum(map(bool, (task.options, task.ask, task.clips))) > 1:
        raise UserError(f"{task.where}: holds more than one of options, ask and clips")
    _check_names(task)
    for side in ("train", "test"):
        for text in getattr(task, side):
            _check_phrasing(task, text, f"{task.where}: {side}")
    has_answer = bool(task.options or task.ask or task.clips)
    for text in task.answer:
        for name in placeholders(text, f"{task.where}: answer"):
            if name not in fields.NAMES and not (name == "answer" and has_answer):
                raise UserError(f"{task.where}: answer: {{{name}}}: {_advice(name)}")


def _check_names(task: Task) -> None:
    for name in task.needs:
        if name not in fields.NAMES:
            raise UserError(f"{task.where}: needs {name!r}, which is not a field of a recording; {_all_fields()}")
    for name in task.context:
        if name not in CONTEXT:
            raise UserError(f"{task.where}: context holds {name!r}; it may hold {', '.join(CONTEXT)}")
    for part in (task.options, task.ask):
        if part and part.of not in KINDS and part.negatives in ("hard", "easy"):
            raise UserError(f"{task.where}: {part.negatives} negatives of {part.of} do not exist; write random")


def _check_phrasing(task: Task, text: str, where: str) -> None:
    used = placeholders(text, where)
    available, required = _built_placeholders(task)
    for name in used:
        if name not in task.needs and name not in available:
            raise UserError(f"{where}: {{{name}}} in {text!r}: {_advice(name)}")
    if missing := sorted(required - set(used)):
        raise UserError(f"{where}: {text!r} lacks {{{missing[0]}}}")
    if PLACEHOLDER in text:
        raise UserError(f"{where}: {text!r} holds {PLACEHOLDER}, which is put there by itself")


def _built_placeholders(task: Task) -> tuple[set[str], set[str]]:
    """The built placeholders that a phrasing of a task may use, and those that it must use."""
    required = {"context"} if task.context else set()
    if task.options:
        required |= {"options"}
    if task.ask:
        required |= {"asked"}
    if not task.clips:
        return required, required
    kind = task.clips.kind
    if kind.startswith("few-shot"):
        required |= {"examples", "query"}
        return required | {"options"}, required
    extra = {"match": {"query"}, "contains": {"target"}, "order": {"direction"}}.get(kind, set())
    required |= {"clips"} | extra
    return required, required


@functools.cache
def placeholders(text: str, where: str) -> tuple[str, ...]:
    """The names in braces in a text, in their order.

    Raises:
      UserError: braces that do not pair up, or hold more than a name.
    """
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UserError(f"{where}: {text!r}: {error}; write {{{{ and }}}} for braces that are text") from error
    for _, name, form, conversion in parts:
        if name is not None and (form or conversion or not name.replace("_", "").isalnum()):
            raise UserError(f"{where}: {text!r}: a placeholder is a name in braces, as {{options}}")
    return tuple(name for _, name, _, _ in parts if name is not None)


def _advice(name: str) -> str:
    if name in fields.NAMES:
        return f"list {name} under needs, so that the question is only asked if it is known"
    if name in BUILT_PLACEHOLDERS:
        return f"is {BUILT_PLACEHOLDERS[name]}"
    close = difflib.get_close_matches(name, [*fields.NAMES, *BUILT_PLACEHOLDERS], n=1)
    return "unknown placeholder" + (f"; did you mean {{{close[0]}}}?" if close else f"; {_all_fields()}")


def _all_fields() -> str:
    return f"there are {', '.join(sorted(fields.NAMES))}"
