"""Starting a prepared directory, or resuming one: only a run with the same options and annotations may write to it."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable, read_json, write_json
from nlm_jax.data import shards
from nlm_jax.data.schema import file_of
from nlm_jax.prepare import notes
from nlm_jax.prepare.annotations import Annotations
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.readers import registry
from nlm_jax.prepare.tasks import templates
from nlm_jax.prepare.tasks.with_tasks import selected_tasks

FORMAT_VERSION = 1
RESULTS = ("rejects.jsonl", "duplicates.jsonl", "leakage.jsonl", "held_out_taxa.jsonl")
"""Lists that a run writes in addition to the shards."""
TASK_OPTIONS = ("instruct", "seed", "tasks_per_recording", "max_clips")
"""Options that matter with `--instruct` only."""
ADDED_OPTIONS = (
    *("hold_out", "taxon", "task", "window", "hop"),
    *("held_out_taxa", "duplicates", "benchmark", "leakage", "training_splits"),
)
"""Options that the first version did not have: in the key only if they differ from their default, so that directories
of earlier versions can be resumed."""
FREE_OPTIONS = ("annotations", "out", "audio_root")
"""Options that may change on resume; the content of the annotations may not."""


def resume_key(options: PrepareOptions, source: pathlib.Path) -> dict[str, Any]:
    """Settings that a resumed run must share with the run that began the directory.

    Args:
      options: of the run.
      source: the annotations, see `Annotations.source`.

    Returns:
      The content of `plan.json`: option -> value, with digests in place of files.

    Raises:
      UserError: files that cannot be read, or a task that does not exist.
    """
    values = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in (*FREE_OPTIONS, *TASK_OPTIONS, "templates"):
            continue
        if field.name not in ADDED_OPTIONS or value not in (field.default, []):
            values[field.name] = value
    if options.held_out_taxa not in ("none", "paper"):
        values["held_out_taxa"] = shards.file_digest(pathlib.Path(options.held_out_taxa))
    if options.benchmark:
        values["benchmark"] = registry.digest(options.benchmark)
    if options.instruct:
        values |= {name: getattr(options, name) for name in TASK_OPTIONS}
        values["templates"] = templates.digest(selected_tasks(options))
    return {"version": FORMAT_VERSION, "annotations_sha256": registry.digest(source), **values}


def open_output(annotations: Annotations, key: dict[str, Any]) -> dict[str, Any] | None:
    """Creates the prepared directory, or opens one that a run with the same key began.

    Args:
      annotations: of the run.
      key: its `resume_key`.

    Returns:
      The manifest if the directory is finished, else None.

    Raises:
      UserError: it holds something else, or a corpus with another key.
    """
    out = annotations.options.out
    plan = out / "plan.json"
    if plan.is_file():
        manifest = _check_key(annotations, key, read_json(plan))
        if manifest is not None:
            write_json(plan, key)
            return manifest
    elif out.exists() and (not out.is_dir() or _has_other_files(out)):
        raise UserError(f"--out={out}: exists and is no prepared corpus; choose a new directory")
    (out / "work").mkdir(parents=True, exist_ok=True)
    (out / "index").mkdir(exist_ok=True)
    write_json(plan, key)
    return None


def _check_key(annotations: Annotations, key: dict[str, Any], before: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest if the directory is finished; raises UserError if it was begun with another key, `before`."""
    out = annotations.options.out
    manifest = read_json(out / "manifest.json") if (out / "manifest.json").is_file() else None
    changed = [name for name in {**before, **key} if key.get(name) != before.get(name)]
    if changed == ["annotations_sha256"]:
        if manifest is None or not _only_rejects_changed(annotations, manifest):
            raise UserError(
                f"--out={out}: holds a corpus made with other annotations: {annotations.options.annotations} was "
                "changed, or files in it; choose another one, or remove it to prepare all again"
            )
    elif changed:
        raise UserError(f"--out={out}: holds a corpus made with other {', '.join(changed)}; choose another one")
    return manifest


def _has_other_files(out: pathlib.Path) -> bool:
    """Whether a directory without plan.json has more than what a run without a usable example leaves there."""
    return any(entry.name not in (*RESULTS, "index") for entry in out.iterdir())


def _only_rejects_changed(annotations: Annotations, manifest: dict[str, Any]) -> bool:
    """Whether a folder of annotations differs only in recordings that were rejected or, if any rows or recordings were
    rejected, in recordings without a clip."""
    before, out = manifest["annotations"], annotations.options.out
    if not annotations.source.is_dir():
        return False
    if before.get("sha256_without_rejects") == digest_without_rejects(annotations, notes.rejects(out)):
        return True
    if not any(manifest["rejected"].values()) or "sha256_of_used" not in before:
        return False
    count = len(list(out.glob("clips-*.arrayrecord")))
    clips = (entry["name"] for number in range(count) for entry in notes.headers(out, number))
    return before["sha256_of_used"] == digest_of_used(annotations, clips)


def digest_of_used(annotations: Annotations, names: Iterable[str]) -> str:
    """Digest of a folder of annotations without the recordings that have no clip.

    Args:
      annotations: their source is a folder.
      names: of all clips.
    """
    folder = _absolute(annotations.source)
    used = {printable(_absolute(annotations.root / file_of(name))) for name in names}
    sounds = (
        file for file in formats.files_below(folder) if formats.is_readable(file) or formats.is_unreadable_sound(file)
    )
    unused = {printable(file.relative_to(folder)) for file in sounds if printable(file) not in used}
    return shards.digest(annotations.source, unused)


def digest_without_rejects(annotations: Annotations, rejected: Iterable[str]) -> str:
    """Digest of a folder of annotations without the files of rejected recordings.

    Args:
      annotations: their source is a folder.
      rejected: names of recordings.
    """
    folder = _absolute(annotations.source)
    files = (_absolute(annotations.root / file_of(name)) for name in rejected)
    names = {printable(file.relative_to(folder)) for file in files if file.is_relative_to(folder)}
    return shards.digest(annotations.source, names)


def _absolute(path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(os.path.abspath(path))  # unlike resolve(), links keep their names
