"""`GenerationOptions`: how the answer to one request is decoded, with checked values."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import numpy as np

from nlm_jax.core.errors import UserError

MAX_STOP_IDS = 8
"""Maximum number of token ids in `stop`, besides the tokenizer's end symbols."""

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
"""Option -> minimum, maximum, and the rule for messages: what its dtype represents and what keeps scores finite in
float32."""
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
    """Maximum length of the answer in tokens, the end symbol included."""
    min_length: int = 0
    """Tokens of the answer before an end symbol may come. (In the reference it has no effect.)"""
    temperature: float = 0.0
    """0 takes the most likely token; above 0, tokens are sampled from logits divided by it."""
    top_k: int = 0
    """Sample from this many most likely tokens; 0 = all."""
    top_p: float = 1.0
    """Sample from the fewest tokens that together have this probability; 1 = all."""
    seed: int = 0
    """Seed for sampling, 0 <= seed < 2 ** 32; results do not depend on the other requests."""
    repetition_penalty: float = 1.0
    """Divides positive scores of tokens that the answer already has, and multiplies negative ones."""
    length_penalty: float = 1.0
    """In beam search, the exponent of the length that a score is divided by; above 0 favours long answers."""
    stop: Stop = ()
    """Stops besides the end symbols: token ids, at most 8, or texts. The text excludes them."""

    def __post_init__(self):
        stop = _stops(self.stop)
        object.__setattr__(self, "stop", stop)
        for name in ("max_new_tokens", "min_length", "top_k", "seed"):
            _check_integer(name, getattr(self, name))
        for name in ("temperature", "top_p", "repetition_penalty", "length_penalty"):
            _check_number(name, getattr(self, name))
        for name, (least, most, rule) in BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise UserError(f"{name}={_short(getattr(self, name))}: {rule}")
        if self.min_length > self.max_new_tokens:
            raise UserError(
                f"min_length={self.min_length}: is above max_new_tokens={self.max_new_tokens}; no answer can be both"
            )
        for entry in stop:
            if isinstance(entry, bool) or not isinstance(entry, int | str) or entry == "":
                raise UserError(f"stop={_short(entry)}: give token ids or texts that are not empty")
            if isinstance(entry, int) and not 0 <= entry < 2**31:
                raise UserError(f"stop={_short(entry)}: a token id is 0 or more, and below the size of the vocabulary")
        if len(self.stop_ids) > MAX_STOP_IDS:
            raise UserError(f"stop: {len(self.stop_ids)} token ids; at most {MAX_STOP_IDS} besides the end symbols")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The token ids in `stop`."""
        return tuple(s for s in self.stop if isinstance(s, int))

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """The texts in `stop`."""
        return tuple(s for s in self.stop if isinstance(s, str))

    def check(self, num_beams: int) -> "GenerationOptions":
        """Returns itself. Raises UserError if `num_beams` is invalid, or incompatible with these options."""
        _check_integer("num_beams", num_beams)
        if num_beams < 1:
            raise UserError(f"num_beams={_short(num_beams)}: must be at least 1")
        if num_beams > MAX_BEAMS:
            raise UserError(f"num_beams={_short(num_beams)}: must be at most {MAX_BEAMS}")
        if num_beams > 1 and self.temperature > 0:
            raise UserError(
                f"temperature={self.temperature} with num_beams={num_beams}: beam search draws nothing; "
                "use temperature=0 or num_beams=1"
            )
        return self


class OptionFields(TypedDict, total=False):
    """Fields of `GenerationOptions` as keywords of `NatureLM.generate`, which has `max_new_tokens` as an argument."""

    min_length: Ints | None
    temperature: Floats | None
    top_k: Ints | None
    top_p: Floats | None
    seed: Ints | None
    repetition_penalty: Floats | None
    length_penalty: Floats | None
    stop: Stop | None


FLAGS = {"max_new_tokens": BOUNDS["max_new_tokens"][1], "num_beams": MAX_BEAMS, "batch_size": 4096}
"""Flag that several commands share -> its maximum; the minimum is 1."""


def check_flags(args: Any) -> None:
    """Raises UserError if a flag in `FLAGS` is out of its bounds; `args` may lack some of them."""
    for name, most in FLAGS.items():
        flag, value = f"--{name.replace('_', '-')}", getattr(args, name, 1)
        if value < 1:
            raise UserError(f"{flag} {_short(value)}: must be at least 1")
        if value > most:
            raise UserError(f"{flag} {_short(value)}: must be at most {most}")


def check_batch_size(batch_size: Any) -> None:
    """Raises UserError unless `batch_size` is an integer of at least 1."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise UserError(f"batch_size={batch_size!r}: must be at least 1")


def one(base: GenerationOptions | None = None, **values: Any) -> GenerationOptions:
    """The options of one request.

    Args:
      base: options to start from; the defaults if None.
      values: fields by name, which replace those of `base`.

    Raises:
      UserError: an unknown name, or an invalid value.
    """
    _check_names(values)
    return dataclasses.replace(_base(base), **values)


def each(count: int, base: GenerationOptions | None = None, **values: Any) -> list[GenerationOptions]:
    """The options of `count` requests.

    Args:
      count: number of requests.
      base: options to start from; the defaults if None.
      values: fields by name, which replace those of `base`. All but `stop` may be a list, with one entry per request.

    Raises:
      UserError: a list of another length, an unknown name, or an invalid value.
    """
    _check_names(values)
    base = _base(base)
    if "stop" in values:
        base = dataclasses.replace(base, stop=values.pop("stop"))
    columns = []
    for name, value in values.items():
        several = isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1)
        column = list(value) if several else [value] * count
        if len(column) != count:
            raise UserError(f"{name}: {len(column)} values for {count} queries; give one, or one per query")
        columns.append([_python_scalar(v) for v in column])
    rows = [dict(zip(values, (column[i] for column in columns), strict=True)) for i in range(count)]
    return [dataclasses.replace(base, **row) for row in rows]


def _base(options: Any) -> GenerationOptions:
    """`options`, or the defaults if None. Raises UserError for any other type."""
    if options is not None and not isinstance(options, GenerationOptions):
        raise UserError(f"options={options!r:.80}: give GenerationOptions, or its fields by name")
    return options or GenerationOptions()


def _check_names(values: dict[str, Any]) -> None:
    names = [f.name for f in dataclasses.fields(GenerationOptions)]
    if unknown := next((name for name in values if name not in names), None):
        raise UserError(f"{unknown}: no such option of generation; there are {', '.join(names)}")


def _stops(stop: Any) -> tuple[Any, ...]:
    """`stop` as a tuple."""
    if isinstance(stop, str | int):
        return (stop,)
    if not isinstance(stop, Sequence):
        raise UserError(f"stop={stop!r}: give a token id or a text, or a list of them")
    return tuple(_python_scalar(s) for s in stop)


def _python_scalar(value: Any) -> Any:
    """A numpy scalar as a Python number; anything else unchanged."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _check_integer(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{name}={_short(value)}: must be a whole number")


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{name}={_short(value)}: must be a number")
    if isinstance(value, float) and not math.isfinite(value):  # any integer is finite
        raise UserError(f"{name}={value!r}: must be a number")


def _short(value: Any) -> str:
    """A value for a message. (Python refuses to format integers of more than some thousand digits.)"""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"<a whole number of {value.bit_length()} bits>"
    return f"{value!r:.80}"
