"""`GenerationOptions`: how an answer is decoded, checked, one set per request."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nlm_jax.core.errors import UserError

MAX_STOP_IDS = 8
"""Token ids besides the tokenizer's end symbols that may end an answer."""

BOUNDS = {
    "max_new_tokens": (1, 131_072, "must be at least 1 and at most 131072, the context of Llama 3.1"),
    "min_length": (0, 131_072, "must be 0 or more and at most 131072"),
    "top_k": (0, 2**31 - 1, "must be 0 (all tokens) or more and below 2 ** 31"),
    "seed": (0, 2**32 - 1, "must be 0 or more and below 2 ** 32"),
    "temperature": (0.0, 1e6, "must be 0 (the most likely token) or more and at most 1e6"),
    "top_p": (5e-324, 1.0, "must be above 0 and at most 1 (all tokens)"),
    "repetition_penalty": (0.01, 100.0, "must be above 0, from 0.01 to 100; 1 changes nothing"),
    "length_penalty": (-5.0, 5.0, "must be between -5 and 5"),
}
"""Option -> its least and its largest value, and how a message says so: what the dtype holds, and what leaves scores
finite in float32."""
MAX_BEAMS = 64

Stop = int | str | Sequence[int | str]
"""Token ids and texts that end an answer: one, or several."""
Ints = int | np.integer | Iterable[int]
"""An integer for all queries, or a list or array with one for each."""
Floats = float | np.number | Iterable[float]
"""A number for all queries, or a list or array with one for each."""


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """How the answer to one request is decoded. The default takes the most likely token each time.

    Example:
      from nlm_jax import GenerationOptions, NatureLM

      options = GenerationOptions(max_new_tokens=40, temperature=0.7, top_p=0.9)
      model = NatureLM.from_pretrained("NatureLM-audio")
      model.generate(["owl.wav", "wren.wav"], ["Which species?"] * 2, options=options, seed=[0, 1])

    Raises:
      UserError: a value of another type or out of its bounds, with the bounds.
    """

    max_new_tokens: int = 300
    """Tokens of the answer at most, the end symbol included."""
    min_length: int = 0
    """Tokens of the answer before an end symbol may come. (In the reference it has no effect.)"""
    temperature: float = 0.0
    """0 takes the most likely token, above 0 one is drawn: the logits are divided by it."""
    top_k: int = 0
    """Draw from this many most likely tokens; 0 = all."""
    top_p: float = 1.0
    """Draw from the fewest tokens that together have this probability; 1 = all."""
    seed: int = 0
    """Seed for sampling, 0 <= seed < 2 ** 32; results do not depend on the other requests."""
    repetition_penalty: float = 1.0
    """Divides positive scores of tokens the answer already holds, and multiplies negative ones."""
    length_penalty: float = 1.0
    """In beam search, the exponent of the length that a score is divided by; above 0 favours long answers."""
    stop: Stop = ()
    """What ends the answer besides the end symbols: token ids, at most 8, or texts. Texts leave it out."""

    def __post_init__(self):
        stop = _stops(self.stop)
        object.__setattr__(self, "stop", stop)
        for name in ("max_new_tokens", "min_length", "top_k", "seed"):
            _integer(name, getattr(self, name))
        for name in ("temperature", "top_p", "repetition_penalty", "length_penalty"):
            _number(name, getattr(self, name))
        for name, (least, most, rule) in BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise UserError(f"{name}={_shown(getattr(self, name))}: {rule}")
        if self.min_length > self.max_new_tokens:
            raise UserError(
                f"min_length={self.min_length}: is above max_new_tokens={self.max_new_tokens}; no answer can be both"
            )
        for one in stop:
            if isinstance(one, bool) or not isinstance(one, int | str) or one == "":
                raise UserError(f"stop={_shown(one)}: give token ids or texts that are not empty")
            if isinstance(one, int) and not 0 <= one < 2**31:
                raise UserError(f"stop={_shown(one)}: a token id is 0 or more, and below the size of the vocabulary")
        if len(self.stop_ids) > MAX_STOP_IDS:
            raise UserError(f"stop: {len(self.stop_ids)} token ids; at most {MAX_STOP_IDS} besides the end symbols")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return tuple(s for s in self.stop if isinstance(s, int))

    @property
    def stop_texts(self) -> tuple[str, ...]:
        return tuple(s for s in self.stop if isinstance(s, str))

    def check(self, num_beams: int) -> "GenerationOptions":
        """Itself. Raises UserError where it asks for what so many beams cannot do."""
        _integer("num_beams", num_beams)
        if num_beams < 1:
            raise UserError(f"num_beams={_shown(num_beams)}: must be at least 1")
        if num_beams > MAX_BEAMS:
            raise UserError(f"num_beams={_shown(num_beams)}: must be at most {MAX_BEAMS}")
        if num_beams > 1 and self.temperature > 0:
            raise UserError(
                f"temperature={self.temperature} with num_beams={num_beams}: beam search draws nothing; "
                "use temperature=0 or num_beams=1"
            )
        return self


FLAGS = {"max_new_tokens": BOUNDS["max_new_tokens"][1], "num_beams": MAX_BEAMS, "batch_size": 4096}
"""Flag of several commands -> its largest value; the least is 1."""


def check_flags(args: Any) -> None:
    """Raises UserError if a command's flag of `FLAGS` is out of its bounds; `args` may have any of them."""
    for name, most in FLAGS.items():
        flag, value = f"--{name.replace('_', '-')}", getattr(args, name, 1)
        if value < 1:
            raise UserError(f"{flag} {_shown(value)}: must be at least 1")
        if value > most:
            raise UserError(f"{flag} {_shown(value)}: must be at most {most}")


def one(base: GenerationOptions | None = None, **values: Any) -> GenerationOptions:
    """The options of one request.

    Args:
      base: options that `values` change; the defaults if None.
      values: fields by name.

    Raises:
      UserError: an unknown name, or a value that means nothing.
    """
    _check_names(values)
    return dataclasses.replace(_checked(base), **values)


def each(count: int, base: GenerationOptions | None = None, **values: Any) -> list[GenerationOptions]:
    """The options of `count` requests.

    Args:
      count: number of requests.
      base: options that `values` change; the defaults if None.
      values: fields by name. All but `stop` may be a list, which then has one entry per request.

    Raises:
      UserError: a list of another length, an unknown name, or a value that means nothing.
    """
    _check_names(values)
    base = _checked(base)
    if "stop" in values:
        base = dataclasses.replace(base, stop=values.pop("stop"))
    columns = []
    for name, value in values.items():
        several = isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1)
        column = list(value) if several else [value] * count
        if len(column) != count:
            raise UserError(f"{name}: {len(column)} values for {count} queries; give one, or one per query")
        columns.append([_plain(v) for v in column])
    rows = [dict(zip(values, (column[i] for column in columns), strict=True)) for i in range(count)]
    return [dataclasses.replace(base, **row) for row in rows]


def _checked(base: Any) -> GenerationOptions:
    if base is not None and not isinstance(base, GenerationOptions):
        raise UserError(f"options={base!r:.80}: give GenerationOptions, or its fields by name")
    return base or GenerationOptions()


def _check_names(values: dict[str, Any]) -> None:
    names = [f.name for f in dataclasses.fields(GenerationOptions)]
    if wrong := next((name for name in values if name not in names), None):
        raise UserError(f"{wrong}: no such option of generation; there are {', '.join(names)}")


def _stops(stop: Any) -> tuple:
    if isinstance(stop, str | int):
        return (stop,)
    if not isinstance(stop, Sequence):
        raise UserError(f"stop={stop!r}: give a token id or a text, or a list of them")
    return tuple(_plain(s) for s in stop)


def _plain(value: Any) -> Any:
    """numpy's scalars as Python's."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _integer(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{name}={_shown(value)}: must be a whole number")


def _number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{name}={_shown(value)}: must be a number")
    if isinstance(value, float) and not math.isfinite(value):  # an int of any size is finite, and has bounds
        raise UserError(f"{name}={value!r}: must be a number")


def _shown(value: Any) -> str:
    """A value for a message: Python writes no whole number of more than some thousand digits."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"<a whole number of {value.bit_length()} bits>"
    return f"{value!r:.80}"
