"""The first stage of `nlm prepare`: which recordings there are, and their samples in shards with a note each."""

import concurrent.futures
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.core.files import read_json
from nlm_jax.data import recordings, shards
from nlm_jax.data.preparation.options import Options


def survey(options: Options) -> tuple[list[str], int]:
    seen: dict[str, None] = {}
    count = 0
    for count, example in enumerate(options.examples(), start=1):  # noqa: B007
        seen.update(dict.fromkeys(example.paths))
    if not count:
        of = f" of split {options.split!r}" if options.split else ""
        raise UserError(f"{options.annotations}: holds no examples{of}; check the file and --split")
    return list(seen), count


def begin(options: Options) -> dict[str, Any] | None:
    """Starts or continues `out`; the manifest when it is finished already."""
    plan, file = options.plan(), options.out / "plan.json"
    if file.is_file():
        before = read_json(file)
        changed = [key for key in plan if plan[key] != before.get(key)]
        if changed:
            raise UserError(
                f"--out={options.out}: holds a corpus made with other {', '.join(changed)}; choose another one"
            )
        if (options.out / "manifest.json").is_file():
            return read_json(options.out / "manifest.json")
    elif options.out.exists() and (not options.out.is_dir() or _foreign(options.out)):
        raise UserError(f"--out={options.out}: exists and is no prepared corpus; choose a new directory")
    (options.out / "work").mkdir(parents=True, exist_ok=True)
    (options.out / "index").mkdir(exist_ok=True)
    write_json(file, plan)
    return None


def _foreign(out: pathlib.Path) -> bool:
    """Whether a directory without plan holds more than what a run that could use nothing left behind."""
    return any(entry.name not in ("rejects.jsonl", "index") for entry in out.iterdir())


def write_clips(options, paths, workers, progress) -> list[dict[str, Any]]:
    """Per shard its note: file digest and, per clip in order, name, samples and sha256, or why it is left out."""
    task = progress.add_task("clips", total=len(paths))
    notes = []
    pool = concurrent.futures.ThreadPoolExecutor(workers)  # decoding and resampling release the interpreter lock
    try:
        for number, first in enumerate(range(0, len(paths), options.shard_size)):
            part = paths[first : first + options.shard_size]
            file, note_file = (
                shards.shard_path(options.out, "clips", number),
                options.out / "work" / f"{number:05d}.json",
            )
            if not (note_file.is_file() and file.is_file()):
                clips: list[dict[str, Any]] = []
                done = pool.map(lambda path: convert(options, path), part)
                shards.write_records(file, _accepted(done, clips, lambda: progress.advance(task)), shards.CLIP_OPTIONS)
                note = {"file": file.name, "sha256": shards.file_digest(file), "bytes": file.stat().st_size}
                write_json(note_file, {**note, "clips": clips})
            else:
                progress.advance(task, len(part))
            notes.append(read_json(note_file))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted run stops at once
    return notes


def _accepted(done, clips: list[dict[str, Any]], advance) -> Iterator[bytes]:
    for record, entry in done:
        clips.append(entry)
        advance()
        if record is not None:
            yield record


def convert(options: Options, path: str) -> tuple[bytes | None, dict[str, Any]]:
    seconds = options.max_seconds or None
    try:
        audio, cut = recordings.load(options.root, path, seconds, options.quality)
    except UserError as error:
        return None, {"name": path, "reason": str(error)}
    record, header = shards.encode_clip(audio, path, options.encoding)
    return record, {"name": path, "samples": header["samples"], "sha256": header["sha256"], "cut": cut}


def write_json(path: pathlib.Path, content: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
