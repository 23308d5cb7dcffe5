"""An entry of a template file: what it may hold, and the strict reading of it."""

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
BUILT = {
    "options": "the candidates in random order, separated by commas (entries with `options`)",
    "asked": "the one candidate asked about (entries with `ask`)",
    "context": "time, place and notes, each of them randomly dropped (entries with `context`)",
    "answer": "what is right for `options`, `ask` or `clips` (in `answer` only)",
    "clips": "the lettered recordings, A first (entries with `clips`)",
    "examples": "the labelled recordings (entries with `clips`, kinds few-shot and few-shot-detection)",
    "query": "the recording that is asked about (entries with `clips`, where there is one)",
    "target": "the label looked for (entries with `clips`, kind contains)",
    "direction": "from lowest to highest or from highest to lowest (entries with `clips`, kind order)",
}
"""Placeholders that are made for the question, beside the fields of the recording."""


@dataclasses.dataclass(frozen=True)
class Options:
    """A list of candidates."""

    of: str
    """Field that the candidates are values of."""
    negatives: str = "mixed"
    most: int = 35
    """Negatives in a list, at most; how many is drawn evenly from 1 on."""
    absent: float = 0.0
    """Share of the prompts without the right candidates, whose answer is "None". Above 0, "None" is always listed."""


@dataclasses.dataclass(frozen=True)
class Ask:
    """One candidate, right in half of the prompts, asked about with Yes or No."""

    of: str
    negatives: str = "mixed"


@dataclasses.dataclass(frozen=True)
class Clips:
    """Several recordings in one prompt."""

    kind: str
    of: tuple[str, ...]
    """Fields that may be the label; one of those that the recording has is drawn."""
    count: tuple[int, int] = (2, 4)
    """Clips to choose from; for few-shot kinds the labels. Fewest and most."""
    shots: tuple[int, int] = (1, 2)
    """Examples of each label, for few-shot kinds."""


@dataclasses.dataclass(frozen=True)
class Task:
    """An entry of a template file."""

    name: str
    about: str
    answer: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    needs: tuple[str, ...] = ()
    options: Options | None = None
    ask: Ask | None = None
    context: tuple[str, ...] = ()
    clips: Clips | None = None
    where: str = dataclasses.field(default="", compare=False)
    """File and entry, for messages."""

    def facts(self) -> tuple[str, ...]:
        """Fields a recording must have: those named under `needs`, and what candidates or clips are about."""
        of = [part.of for part in (self.options, self.ask) if part]
        return tuple(dict.fromkeys((*self.needs, *of)))


def read(name: str, values: Any, where: str) -> Task:
    """The task that an entry describes.

    Raises:
      UserError: a field or placeholder that does not exist or is missing, by `where`.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: must hold fields such as answer, train and test")
    known = [field.name for field in dataclasses.fields(Task) if field.name not in ("name", "where")]
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown field {key!r}; there are {', '.join(known)}")
    answer = values.get("answer")
    made = {
        "name": name,
        "where": where,
        "about": _text(values, "about", where),
        "needs": _texts(values, "needs", where, empty=True),
        "answer": _texts({"answer": [answer] if isinstance(answer, str) else answer}, "answer", where),
        "train": _texts(values, "train", where),
        "test": _texts(values, "test", where),
        "context": _texts(values, "context", where, empty=True),
    }
    for key, kind in (("options", Options), ("ask", Ask), ("clips", Clips)):
        if values.get(key) is not None:
            made[key] = _part(kind, values[key], f"{where}: {key}")
    task = Task(**made)
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
            raise UserError(f"{where}: {key} holds {text!r}, which is no text; put quotes around it")
    shown = [text.strip() for text in texts]
    for text in shown:
        if [same(other) for other in shown].count(same(text)) > 1:
            raise UserError(f"{where}: {key} holds {text!r} twice; keep one of them")
    return tuple(shown)


def same(text: str) -> str:
    """A phrasing without what makes no difference: capitals and blanks."""
    return " ".join(text.split()).casefold()


def _part(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise UserError(f"{where} must hold fields such as of")
    given: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name in values:
            given[field.name] = _value(field, values[field.name], where)
        elif field.default is dataclasses.MISSING:
            raise UserError(f"{where}: {field.name} is missing")
    for key in values:
        if key not in [field.name for field in dataclasses.fields(kind)]:
            raise UserError(f"{where}: unknown field {key!r}")
    return kind(**given)


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
    """Every placeholder has something to fill it."""
    if sum(map(bool, (task.options, task.ask, task.clips))) > 1:
        raise UserError(f"{task.where}: holds more than one of options, ask and clips")
    for name in task.needs:
        if name not in fields.NAMES:
            raise UserError(f"{task.where}: needs {name!r}, which is no field of a recording; {_fields_are()}")
    for name in task.context:
        if name not in CONTEXT:
            raise UserError(f"{task.where}: context holds {name!r}; it may hold {', '.join(CONTEXT)}")
    for part in (task.options, task.ask):
        if part and part.of not in KINDS and part.negatives in ("hard", "easy"):
            raise UserError(f"{task.where}: {part.negatives} negatives of {part.of} do not exist; write random")
    built = {
        "options": bool(task.options), "asked": bool(task.ask), "context": bool(task.context),
        "answer": False, "clips": False, "examples": False, "query": False, "target": False, "direction": False,
    }  # fmt: skip
    if task.clips:
        few = task.clips.kind.startswith("few-shot")
        built |= {"examples": few, "query": few or task.clips.kind == "match", "clips": not few}
        built |= {"target": task.clips.kind == "contains", "direction": task.clips.kind == "order"}
        built["options"] = few
    for side in ("train", "test"):
        for text in getattr(task, side):
            used = placeholders(text, f"{task.where}: {side}")
            for name in used:
                if name not in task.needs and not built.get(name, False):
                    raise UserError(f"{task.where}: {side}: {{{name}}} in {text!r}: {_wrong(name)}")
            required = {name for name in ("asked", "clips", "examples", "query", "target", "direction") if built[name]}
            required |= {"context"} if task.context else set()
            required |= {"options"} if task.options else set()
            if missing := sorted(required - set(used)):
                raise UserError(f"{task.where}: {side}: {text!r} lacks {{{missing[0]}}}")
            if PLACEHOLDER in text:
                raise UserError(f"{task.where}: {side}: {text!r} holds {PLACEHOLDER}, which is put there by itself")
    judged = bool(task.options or task.ask or task.clips)
    for text in task.answer:
        for name in placeholders(text, f"{task.where}: answer"):
            if name not in fields.NAMES and not (name == "answer" and judged):
                raise UserError(f"{task.where}: answer: {{{name}}}: {_wrong(name)}")


@functools.cache
def placeholders(text: str, where: str) -> tuple[str, ...]:
    """Names in braces, in their order.

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


def _wrong(name: str) -> str:
    if name in fields.NAMES:
        return f"list {name} under needs, so that the question is only asked where it is known"
    if name in BUILT:
        return f"is {BUILT[name]}"
    close = difflib.get_close_matches(name, [*fields.NAMES, *BUILT], n=1)
    return "unknown placeholder" + (f"; did you mean {{{close[0]}}}?" if close else f"; {_fields_are()}")


def _fields_are() -> str:
    return f"there are {', '.join(sorted(fields.NAMES))}"
