"""Strict configs: a Python file with `get_config()`, command-line overrides, frozen dataclasses behind them."""

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
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from nlm_jax.core.errors import UserError
from nlm_jax.core.remote import beside


def build(cls: type, values: Mapping[str, Any] | Any, where: str = "config"):
    """Frozen dataclass `cls` from a mapping (dict or ConfigDict), field by field and nested.

    Raises:
      UserError: an unknown field (with the closest known one), a missing one, or a value of the wrong type.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping | ml_collections.ConfigDict):
        raise UserError(f"{where}: expected the fields of {cls.__name__}, got {values!r}")
    hints, fields = typing.get_type_hints(cls), {f.name: f for f in dataclasses.fields(cls) if f.init}
    for name in values:
        if name not in fields:
            raise UserError(f"{where}.{name}: {unknown(name, fields)}")
    given = {name: _convert(hints[name], values[name], f"{where}.{name}") for name in values}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise UserError(f"{where}.{name}: required and not given")
    return cls(**given)


def unknown(name: str, known) -> str:
    """The end of a sentence about an unknown field: the closest known name, or all of them."""
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(set(known)))}"
    return f"no such field; {hint}"


def _convert(hint, value, where):
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:  # plain dicts all the way down: a ConfigDict is no Mapping, and would replace where it should merge
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
        of = args[1] if args else Any
        return {k: _convert(of, v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UserError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def load(path: str | pathlib.Path, overrides: Sequence[str] = (), cls: type | None = None) -> Any:
    """Runs `get_config()` of the Python file `path` and applies overrides of the form `--config.a.b=value`.

    `path` may end in `:argument`, which is handed to `get_config(argument)`. An override may set any field of the file,
    and with `cls` (the dataclass behind the config) any field of that, whether the file mentions it or not.

    Raises:
      UserError: no such file, no `get_config`, an override of an unknown field or of another type.
    """
    name, _, argument = _split_argument(str(path))
    file = beside(name)
    if not file.is_file():
        raise UserError(f"--config={name}: no such file; configs/ holds the ones that ship with the project")
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
        raise UserError(f"--config={name}:{argument}: its get_config() takes no argument, and is handed {argument!r}")
    try:
        config = module.get_config(argument) if argument else module.get_config()
    except (Exception, SystemExit) as error:
        raise _raised(name, file, error) from error
    if not isinstance(config, _MAPPING):
        raise UserError(f"--config={name}: get_config() must return the fields of a config, returned {config!r}")
    override(config, overrides, cls)
    return config


def _split_argument(path: str) -> tuple[str, str, str]:
    """A config's path, ":" and its argument, which may be a URL as may the path."""
    head, py, argument = path.partition(".py:")
    if py:
        return f"{head}.py", ":", argument
    protocol, sign, name = path.rpartition("://")
    name, colon, argument = name.partition(":")
    return protocol + sign + name, colon, argument


def _raised(name: str, file: pathlib.Path, error: BaseException) -> UserError:
    """What a config file's own code ran into, with the line of the file."""
    if isinstance(error, UserError):
        return error
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if pathlib.Path(frame.filename).resolve() == file.resolve()
    ]
    place = f"line {lines[-1]} raises " if lines else ""
    return UserError(f"--config={name}: {place}{type(error).__name__}: {' '.join(str(error).split())}")


def override(
    config: Mapping[str, Any] | ml_collections.ConfigDict, overrides: Sequence[str], cls: type | None = None
) -> None:
    """Sets fields of `config` from texts `--config.a.b=value`; see `load`.

    Raises:
      UserError: an unknown field, or a value of another type.
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
        node[_index(node, last, key)] = _parsed(node[_index(node, last, key)], None, value, key)
        return
    free = _values(hint)
    if not isinstance(node, _MAPPING) or (last not in node and last not in _fields(hint) and free is None):
        raise UserError(f"{key}: {unknown(last, [*(node if isinstance(node, _MAPPING) else ()), *_fields(hint)])}")
    old = node.get(last, None)
    wanted = _fields(hint).get(last, free)
    if wanted is None and isinstance(node, ml_collections.ConfigDict) and last in node:
        wanted = node.get_type(last)  # of a placeholder, which holds None until it is set
    new = _parsed(old, wanted, value, key)
    with node.unlocked() if isinstance(node, ml_collections.ConfigDict) else contextlib.nullcontext():
        node[last] = new


_MAPPING = (Mapping, ml_collections.ConfigDict)
_UNIONS = (typing.Union, types.UnionType)


def _child(node, hint, name, key):
    """The part of a config called `name`, made where only the dataclass knows of it, and the dataclass behind it."""
    if isinstance(node, list | tuple):
        return node[_index(node, name, key)], hint
    fields = _fields(hint)
    free = _values(hint)
    if not isinstance(node, _MAPPING) or (name not in node and name not in fields and free is None):
        raise UserError(f"{key}: {unknown(name, [*(node if isinstance(node, _MAPPING) else ()), *fields])}")
    if name not in node:
        with node.unlocked() if isinstance(node, ml_collections.ConfigDict) else contextlib.nullcontext():
            node[name] = {}
    return node[name], fields.get(name, free)


def _index(node, name, key) -> int:
    if not name.isdigit() or int(name) >= len(node):
        raise UserError(f"{key}: {name!r} is not an index of a list of {len(node)}")
    return int(name)


def _fields(hint) -> dict[str, Any]:
    """Name -> type of the fields of a dataclass, or of the one dataclass inside `A | None`, `tuple[A, ...]`."""
    options = [hint, *typing.get_args(hint)]
    found = next((option for option in options if dataclasses.is_dataclass(option)), None)
    return typing.get_type_hints(found) if found else {}


def _values(hint) -> Any:
    """The type of the values of a mapping whose names are free, such as `dict[str, float]`; None for other types."""
    if hint is Any:
        return Any  # below `dict[str, Any]` everything is free
    return typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None


def _parsed(old, wanted, value: str, key: str):
    """The text of an override as a value of the type of `old`, or of the type `wanted` where there is no old one."""
    if isinstance(old, _MAPPING):
        raise UserError(f"{key}: is a group of fields; set one of them: {', '.join(map(str, old))}")
    try:
        new = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        new = value
    texts = (wanted, *typing.get_args(wanted)) if typing.get_origin(wanted) in (None, *_UNIONS) else ()
    if isinstance(old, str) or (old is None and str in texts):
        return None if new is None else value
    kind = type(old) if old is not None else wanted if isinstance(wanted, type) and wanted is not type(None) else None
    if new is None or kind in (None, Any):
        return new
    if kind is float and isinstance(new, int) and not isinstance(new, bool):
        return float(new)
    if kind in (tuple, list) and isinstance(new, tuple | list):
        return kind(new)
    if type(new) is not kind and not dataclasses.is_dataclass(kind):
        like = f" as in {old!r}" if old is not None else ""
        raise UserError(f"{key}: expected {kind.__name__}{like}, got {value!r}")
    return new
