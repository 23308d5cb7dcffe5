"""Strict configs: a Python file with `get_config()`, command-line overrides, and the frozen dataclasses they fill."""

import ast
import contextlib
import dataclasses
import difflib
import importlib.util
import inspect
import pathlib
import traceback
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections

from nlm_jax.core.errors import UserError
from nlm_jax.core.remote import local_with_folder

FREE_ON_RESUME = {"resume": "free"}
"""Metadata of a field that may change when a run resumes: neither the batches nor what is computed from them depends on
it. Without it, a resumed run must have the value it was started with."""


def build(cls: type, values: Mapping[str, Any] | Any, where: str = "config"):
    """Builds the frozen dataclass `cls` from a mapping (dict or ConfigDict), field by field and nested.

    Args:
      where: path of `values` within the config, the start of every message.

    Raises:
      UserError: an unknown field (with the closest valid one), a missing one, or a value of the wrong type.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping | ml_collections.ConfigDict):
        raise UserError(f"{where}: expected the fields of {cls.__name__}, got {values!r}")
    hints, fields = typing.get_type_hints(cls), {f.name: f for f in dataclasses.fields(cls) if f.init}
    for name in values:
        if name not in fields:
            raise UserError(f"{where}.{name}: {unknown(name, fields)}")
    converted = {name: _convert(hints[name], values[name], f"{where}.{name}") for name in values}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in converted:
            raise UserError(f"{where}.{name}: required and not given")
    return cls(**converted)


def unknown(name: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown field: the closest valid name, or the list of them."""
    close = difflib.get_close_matches(name, list(valid), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"valid names: {', '.join(sorted(set(valid)))}"
    return f"no such field; {hint}"


def _convert(hint, value, where):
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:  # plain dicts all the way down: a ConfigDict is not a Mapping and would replace instead of merge
        return value.to_dict() if isinstance(value, ml_collections.ConfigDict) else value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        failures = []
        for option in (a for a in args if a is not type(None)):
            try:
                return _convert(option, value, where)
            except UserError as error:
                failures.append(error)
        raise failures[0]
    if origin is typing.Literal:
        if value not in args:
            raise UserError(f"{where}: must be one of {', '.join(map(repr, args))}, got {value!r}")
        return value
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise UserError(f"{where}: expected a list, got {value!r}")
        items = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(items) != len(value):
            raise UserError(f"{where}: expected {len(items)} values, got {len(value)}")
        return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(items, value, strict=True)))
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping | ml_collections.ConfigDict):
            raise UserError(f"{where}: expected a mapping, got {value!r}")
        value_type = args[1] if args else Any
        return {k: _convert(value_type, v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UserError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def load(path: str | pathlib.Path, overrides: Sequence[str] = (), cls: type | None = None) -> Any:
    """Runs `get_config()` of the Python file `path` and applies overrides of the form `--config.a.b=value`.

    Args:
      path: file path or URL; a suffix `:argument` is passed to `get_config(argument)`.
      overrides: texts such as `--config.optim.peak_lr=1e-4`. They may set any field of the file.
      cls: the config's dataclass; its fields can then be overridden even if the file does not mention them.

    Returns:
      What `get_config()` returned, with the overrides applied.

    Raises:
      UserError: no such file, no `get_config`, an override of an unknown field or of the wrong type.
    """
    name, _, argument = _split_argument(str(path))
    file = local_with_folder(name)
    if not file.is_file():
        raise UserError(f"--config={name}: no such file; the configs that ship with the project are in configs/")
    spec = importlib.util.spec_from_file_location(f"nlm_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"--config={name}: not a Python file; a config is a .py file that defines get_config()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        line = f"line {error.lineno} is" if error.lineno else "the file is"
        raise UserError(f"--config={name}: {line} not valid Python: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise _raised(name, file, error) from error
    if not callable(getattr(module, "get_config", None)):
        raise UserError(f"--config={name}: the file defines no get_config()")
    if argument and not inspect.signature(module.get_config).parameters:
        raise UserError(f"--config={name}:{argument}: its get_config() takes no argument, but got {argument!r}")
    try:
        config = module.get_config(argument) if argument else module.get_config()
    except (Exception, SystemExit) as error:
        raise _raised(name, file, error) from error
    if not isinstance(config, _MAPPING):
        raise UserError(f"--config={name}: get_config() must return the fields of a config, returned {config!r}")
    override(config, overrides, cls)
    return config


def _split_argument(path: str) -> tuple[str, str, str]:
    """Splits `path:argument` into path, ":" and argument; both may be URLs."""
    head, py, argument = path.partition(".py:")
    if py:
        return f"{head}.py", ":", argument
    protocol, sign, name = path.rpartition("://")
    name, colon, argument = name.partition(":")
    return protocol + sign + name, colon, argument


def _raised(name: str, file: pathlib.Path, error: BaseException) -> UserError:
    """An exception of the config file's own code as a UserError with the line of the file."""
    if isinstance(error, UserError):
        return error
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if pathlib.Path(frame.filename).resolve() == file.resolve()
    ]
    line = f"line {lines[-1]} raises " if lines else ""
    return UserError(f"--config={name}: {line}{type(error).__name__}: {' '.join(str(error).split())}")


def override(
    config: Mapping[str, Any] | ml_collections.ConfigDict, overrides: Sequence[str], cls: type | None = None
) -> None:
    """Sets fields of `config` from texts `--config.a.b=value`; see `load`.

    Raises:
      UserError: an unknown field, or a value of the wrong type.
    """
    for text in overrides:
        _override(config, text, cls)


def _override(config: Mapping[str, Any] | ml_collections.ConfigDict, text: str, cls: type | None) -> None:
    key, equals, value = text.partition("=")
    path = key.removeprefix("--").removeprefix("config.").split(".")
    if not equals:
        raise UserError(f"{text}: an override reads --config.field=value")
    node, hint = config, cls
    for name in path[:-1]:
        node, hint = _child(node, hint, name, key)
    last = path[-1]
    if isinstance(node, list | tuple):
        node[_index(node, last, key)] = _parse(node[_index(node, last, key)], None, value, key)
        return
    value_type = _value_type(hint)
    if not isinstance(node, _MAPPING) or (last not in node and last not in _fields(hint) and value_type is None):
        raise UserError(f"{key}: {unknown(last, [*(node if isinstance(node, _MAPPING) else ()), *_fields(hint)])}")
    old = node.get(last, None)
    target = _fields(hint).get(last, value_type)
    if target is None and isinstance(node, ml_collections.ConfigDict) and last in node:
        target = node.get_type(last)  # a placeholder has a type although its value is None until it is set
    new = _parse(old, target, value, key)
    with node.unlocked() if isinstance(node, ml_collections.ConfigDict) else contextlib.nullcontext():
        node[last] = new


_MAPPING = (Mapping, ml_collections.ConfigDict)
_UNIONS = (typing.Union, types.UnionType)


def _child(node, hint, name, key):
    """Field `name` of a config node and its type; created if only the dataclass declares it."""
    if isinstance(node, list | tuple):
        return node[_index(node, name, key)], hint
    fields = _fields(hint)
    value_type = _value_type(hint)
    if not isinstance(node, _MAPPING) or (name not in node and name not in fields and value_type is None):
        raise UserError(f"{key}: {unknown(name, [*(node if isinstance(node, _MAPPING) else ()), *fields])}")
    if name not in node:
        with node.unlocked() if isinstance(node, ml_collections.ConfigDict) else contextlib.nullcontext():
            node[name] = {}
    return node[name], fields.get(name, value_type)


def _index(node, name, key) -> int:
    if not name.isdigit() or int(name) >= len(node):
        raise UserError(f"{key}: {name!r} is not an index of a list of {len(node)}")
    return int(name)


def _fields(hint) -> dict[str, Any]:
    """Name -> type of the fields of a dataclass, or of the one dataclass inside `A | None`, `tuple[A, ...]`."""
    options = [hint, *typing.get_args(hint)]
    cls = next((option for option in options if dataclasses.is_dataclass(option)), None)
    return typing.get_type_hints(cls) if cls else {}


def _value_type(hint) -> Any:
    """Type of the values of a mapping with arbitrary keys, such as `dict[str, float]`; None for other types."""
    if hint is Any:
        return Any  # below `dict[str, Any]` every name is valid
    return typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None


def _parse(old: Any, declared: Any, text: str, key: str) -> Any:
    """The text of an override as a value of its field, which holds `old` and is declared as `declared`."""
    if isinstance(old, _MAPPING):
        raise UserError(f"{key}: is a group of fields; set one of them: {', '.join(map(str, old))}")
    target_type = _target_type(old, declared)
    try:
        return coerce(text, target_type)
    except TypeError as error:
        like = f" as in {old!r}" if old is not None else ""
        raise UserError(f"{key}: expected {target_type.__name__}{like}, got {text!r}") from error


def _target_type(old: Any, declared: Any) -> type | None:
    """Type of a field: that of its value, else the declared one; None if neither determines a single type."""
    if old is not None:
        return str if isinstance(old, str) else type(old)
    options = typing.get_args(declared) if typing.get_origin(declared) in _UNIONS else (declared,)
    if str in options:
        return str
    return declared if isinstance(declared, type) and declared is not type(None) else None


def coerce(text: str, target_type: type | None) -> Any:
    """The text of an override as a value of a type.

    Example:
      coerce("1e-4", float)  # 0.0001

    Args:
      text: a Python literal, or the text itself if the type is str. `None` gives None for every type.
      target_type: None, `Any` and dataclasses accept every literal, and any other text as a string.

    Returns:
      the value. An integer becomes a float, and a list a tuple or the reverse, if that is the type.

    Raises:
      TypeError: a value of another type.
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    match value:
        case None:
            return None
        case _ if target_type is str:
            return text
        case _ if target_type in (None, Any) or dataclasses.is_dataclass(target_type):
            return value
        case int() if target_type is float and not isinstance(value, bool):
            return float(value)
        case tuple() | list() if target_type in (tuple, list):
            return target_type(value)
        case _ if type(value) is target_type:
            return value
    raise TypeError(f"expected {target_type.__name__}, got {text!r}")
