"""The template files: YAML, one entry a task. docs/tasks.md explains their format."""

import dataclasses
import difflib
import fnmatch
import functools
import hashlib
import importlib.resources
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from nlm_jax.core.errors import UserError
from nlm_jax.data.text import CLIP_MARK
from nlm_jax.prepare.tasks import schema
from nlm_jax.prepare.tasks.schema import Task

ALL = "all"


def load(folder: str | pathlib.Path | None = None) -> dict[str, Task]:
    """The tasks of the package and of a folder.

    Args:
      folder: of YAML files, whose tasks replace those of the package with the same names; None for the package alone.

    Returns:
      Name -> task.

    Raises:
      UserError: no such folder or no YAML in it, or a faulty entry, by file and entry.
    """
    tasks = dict(_built_in())
    if folder is not None:
        path = pathlib.Path(folder)
        files = sorted(f for f in path.glob("*") if f.suffix in (".yaml", ".yml") and f.is_file())
        if not files:
            kind = "holds no .yaml file" if path.is_dir() else "no such folder"
            raise UserError(f"--templates {path}: {kind}; give a folder of task files as docs/tasks.md describes them")
        tasks |= _files(files)
    _check_separate(tasks)
    return tasks


@functools.cache
def _built_in() -> dict[str, Task]:
    here = pathlib.Path(str(importlib.resources.files("nlm_jax.prepare.tasks")))
    return _files(sorted(here.glob("*.yaml")))


def select(tasks: Mapping[str, Task], names: str | Sequence[str] = ALL) -> dict[str, Task]:
    """The tasks with some names.

    Args:
      tasks: name -> task.
      names: "all", or names and patterns with *, in a list or separated by commas.

    Raises:
      UserError: a name that no task has, with the closest.
    """
    listed = names.split(",") if isinstance(names, str) else names
    patterns = [name.strip() for name in listed if name.strip()]
    if not patterns:
        raise UserError("no task is named; write all, or names such as common-classification,*-detection-*")
    selected: set[str] = set()
    for name in patterns:
        matching = list(tasks) if name == ALL else fnmatch.filter(tasks, name)
        if not matching:
            close = difflib.get_close_matches(name, tasks, n=1)
            raise UserError(
                f"no task {name!r}; " + (f"did you mean {close[0]!r}?" if close else "nlm data tasks lists them")
            )
        selected |= set(matching)
    return {name: task for name, task in tasks.items() if name in selected}


def digest(tasks: Mapping[str, Task]) -> str:
    """SHA-256 (first 16 hex digits) of the content of the tasks, wherever their files are."""
    content = {name: {**dataclasses.asdict(task), "where": ""} for name, task in tasks.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def official(tasks: Mapping[str, Task], side: str) -> dict[str, list[str]]:
    """The phrasings in the format of the official prompt files.

    Args:
      tasks: name -> task.
      side: "train" or "test".

    Returns:
      Task -> prompts, which begin with the clip's placeholder.
    """
    prompts = {}
    for name, task in tasks.items():
        phrasings = task.test if side == "test" else task.train
        prompts[name] = [p if task.clips else f"{CLIP_MARK} {p}" for p in phrasings]
    return prompts


class _Loader(yaml.SafeLoader):
    """Raises for a repeated key, of which YAML would silently use the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise UserError(f"{self.name}:{key.start_mark.line + 1}: {name!r} is not a name; put quotes around it")
            if name in seen:
                raise UserError(f"{self.name}:{key.start_mark.line + 1}: {name!r} is there twice; keep one of them")
            seen.add(name)
        return super().construct_mapping(node, deep)


def _files(files: Sequence[pathlib.Path]) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for file in files:
        for name, values in _read(file).items():
            task = schema.parse(name, values, f"{file}: {name}")
            if name in tasks:
                raise UserError(f"{task.where}: is already in {tasks[name].where.rpartition(':')[0]}; keep one of them")
            tasks[name] = task
    return tasks


def _read(file: pathlib.Path) -> dict[str, Any]:
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
        loader.name = str(file)
        content = loader.get_single_data()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not a text file in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        raise UserError(
            f"{file}{at}: not valid YAML ({getattr(error, 'problem', None) or 'unreadable'}); "
            "put quotes around texts that hold any of : ? # { ["
        ) from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{file}: must hold entries, each a task's name with its fields below it")
    return content


def _check_separate(tasks: Mapping[str, Task]) -> None:
    """Raises UserError if a test phrasing is also one for training, of any task."""
    training = {schema.comparable(text): task for task in tasks.values() for text in task.train}
    for task in tasks.values():
        for text in task.test:
            if other := training.get(schema.comparable(text)):
                which = "its own train list" if other is task else f"the train list of {other.name} ({other.where})"
                raise UserError(
                    f"{task.where}: the test phrasing {text!r} is also in {which}; a phrasing is for one of the two"
                )
