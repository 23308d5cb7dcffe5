"""`nlm prepare`: recordings and annotations to ArrayRecord shards with an index and a manifest.

Pass 1 collects the clips, shard by shard they are decoded, resampled and written (a finished shard has a note in
`work/`, so that a killed run continues after it). Pass 2 writes the examples whose clips are all there, and their
token lengths. The result depends only on the annotations and the options, not on workers or interruptions.
"""

import argparse
import array
import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import rich.console
import rich.progress

from nlm_jax.audio import wave
from nlm_jax.core import remote
from nlm_jax.core.chat import DEFAULT_END_SYM, DEFAULT_TEMPLATE
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data import corpora, holdout, recordings, shards
from nlm_jax.data.schema import Example, lineage
from nlm_jax.data.text import Tokenizer, build_sequence, normalize_query

SUMMARY = "recordings + annotations -> ArrayRecord shards + manifest"
EXAMPLES_PER_SHARD = 65_536
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Options:
    """Everything the result depends on."""

    annotations: pathlib.Path
    out: pathlib.Path
    split: str | None = None
    audio_root: pathlib.Path | None = None
    """Folder of relative audio paths; default: the annotation file's own."""
    tokenizer: str = "embedded"
    shard_size: int = 512
    """Clips in one shard file."""
    max_seconds: float = 30.0
    """Longer recordings keep their first `max_seconds`; training then crops at random inside. 0 = keep everything."""
    encoding: shards.Encoding = "flac"
    quality: wave.Quality = "HQ"
    format: str = "auto"
    hold_out: float = 0.0
    """Share of the recordings without a split that become split "valid"; the others become "train"."""

    @property
    def root(self) -> pathlib.Path:
        return self.audio_root or (self.annotations if self.annotations.is_dir() else self.annotations.parent)

    def examples(self) -> Iterator[Example]:
        if not self.hold_out:
            return corpora.read(self.annotations, self.format, self.split)
        every = holdout.divided(corpora.read(self.annotations, self.format), self.held_out[0])
        return (e for e in every if self.split in (None, e.split))

    @functools.cached_property
    def held_out(self) -> tuple[frozenset[str], list[str]]:
        """Recordings to hold out, and labels too rare for that."""
        return holdout.draw(corpora.read(self.annotations, self.format), self.hold_out)

    def plan(self) -> dict[str, Any]:
        """What a continued run must have in common with the one before it."""
        same = dataclasses.asdict(self)
        del same["out"], same["audio_root"], same["annotations"]
        if not self.hold_out:
            del same["hold_out"]
        return {"version": FORMAT_VERSION, "annotations_sha256": shards.digest(self.annotations), **same}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm prepare`."""
    parser.add_argument(
        "annotations",
        type=remote.reads_beside,
        metavar="ANNOTATIONS",
        help="JSON lines, a Raven table, Audacity labels, or a folder",
    )
    parser.add_argument(
        "--out", type=remote.writes, required=True, help="directory to write; a killed run continues in it"
    )
    parser.add_argument("--split", help="keep only examples of this split")
    parser.add_argument(
        "--hold-out", type=float, default=0.0, metavar="SHARE", help="of recordings that become split valid, as in 0.2"
    )
    parser.add_argument(
        "--audio-root", type=remote.reads, help="folder of relative audio paths (default: annotations' own)"
    )
    parser.add_argument(
        "--tokenizer", default="embedded", help="directory, hub id or 'embedded', for the token lengths"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="threads that decode (default: all cores)"
    )
    parser.add_argument("--shard-size", type=int, default=512, help="clips in one shard (default 512)")
    parser.add_argument(
        "--max-seconds", type=float, default=30.0, help="cut recordings there; 0 keeps all (default 30)"
    )
    parser.add_argument("--encoding", choices=get_args(shards.Encoding), default="flac", help="flac is half the size")
    parser.add_argument("--quality", choices=get_args(wave.Quality), default="HQ", help="of the soxr resampler")
    parser.add_argument("--format", default="auto", help=f"of the annotations: {', '.join(corpora.KINDS)}")


def run(args: argparse.Namespace) -> int:
    """Runs the command; its exit status."""
    fields = {field.name for field in dataclasses.fields(Options)}
    options = Options(**{name: value for name, value in vars(args).items() if name in fields})
    manifest = prepare(options, workers=args.workers, console=rich.console.Console(stderr=True))
    print(f"{args.out}: {manifest['examples']} examples, {manifest['clips']} clips, {manifest['hours']:.2f} h")
    if manifest["rejected"]["clips"] or manifest["rejected"]["examples"]:
        print(f"left out: {manifest['rejected']}; the reasons are in {args.out / 'rejects.jsonl'}")
    if options.hold_out and (rare := options.held_out[1]):
        print(f"in training only, for there is one recording of each: {', '.join(rare)}")
    return 0


def prepare(options: Options, workers: int = 1, console: rich.console.Console | None = None) -> dict[str, Any]:
    """Writes the corpus and returns its manifest; a finished directory is left as it is.

    Raises:
      UserError: unreadable annotations, no examples, nothing usable, or a directory that holds something else.
    """
    if options.shard_size < 1 or workers < 1 or not 0 <= options.max_seconds < math.inf:
        raise UserError("--shard-size and --workers must be at least 1, --max-seconds at least 0")
    holdout.check(options.hold_out)
    paths, n_examples = _clips(options)
    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    finished = _begin(options)
    if finished is not None:
        return finished
    console = console or rich.console.Console(quiet=True)
    columns = (*rich.progress.Progress.get_default_columns(), rich.progress.MofNCompleteColumn())
    with rich.progress.Progress(*columns, console=console) as progress:
        notes = _write_clips(options, paths, workers, progress)
        table = _write_examples(options, notes, tokenizer, progress, n_examples)
    manifest = _manifest(options, notes, table, tokenizer)
    _write_json(options.out / "manifest.json", manifest)  # last: a directory without it is not finished
    shutil.rmtree(options.out / "work")
    return manifest


def _clips(options: Options) -> tuple[list[str], int]:
    seen: dict[str, None] = {}
    count = 0
    for count, example in enumerate(options.examples(), start=1):  # noqa: B007
        seen.update(dict.fromkeys(example.paths))
    if not count:
        of = f" of split {options.split!r}" if options.split else ""
        raise UserError(f"{options.annotations}: holds no examples{of}; check the file and --split")
    return list(seen), count


def _begin(options: Options) -> dict[str, Any] | None:
    """Starts or continues `out`; the manifest when it is finished already."""
    plan, file = options.plan(), options.out / "plan.json"
    if file.is_file():
        before = json.loads(file.read_text())
        changed = [key for key in plan if plan[key] != before.get(key)]
        if changed:
            raise UserError(
                f"--out={options.out}: holds a corpus made with other {', '.join(changed)}; choose another one"
            )
        if (options.out / "manifest.json").is_file():
            return json.loads((options.out / "manifest.json").read_text())
    elif options.out.exists() and (not options.out.is_dir() or _foreign(options.out)):
        raise UserError(f"--out={options.out}: exists and is no prepared corpus; choose a new directory")
    (options.out / "work").mkdir(parents=True, exist_ok=True)
    (options.out / "index").mkdir(exist_ok=True)
    _write_json(file, plan)
    return None


def _foreign(out: pathlib.Path) -> bool:
    """Whether a directory without plan holds more than what a run that could use nothing left behind."""
    return any(entry.name not in ("rejects.jsonl", "index") for entry in out.iterdir())


def _write_clips(options, paths, workers, progress) -> list[dict[str, Any]]:
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
                done = pool.map(lambda path: _clip(options, path), part)
                shards.write_records(file, _accepted(done, clips, lambda: progress.advance(task)), shards.CLIP_OPTIONS)
                note = {"file": file.name, "sha256": shards.file_digest(file), "bytes": file.stat().st_size}
                _write_json(note_file, {**note, "clips": clips})
            else:
                progress.advance(task, len(part))
            notes.append(json.loads(note_file.read_text()))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted run stops at once
    return notes


def _accepted(done, clips: list[dict[str, Any]], advance) -> Iterator[bytes]:
    for record, entry in done:
        clips.append(entry)
        advance()
        if record is not None:
            yield record


def _clip(options: Options, path: str) -> tuple[bytes | None, dict[str, Any]]:
    seconds = options.max_seconds or None
    try:
        audio, cut = recordings.load(options.root, path, seconds, options.quality)
    except UserError as error:
        return None, {"name": path, "reason": str(error)}
    record, header = shards.encode_clip(audio, path, options.encoding)
    return record, {"name": path, "samples": header["samples"], "sha256": header["sha256"], "cut": cut}


class _Table:
    """The index under construction: one entry an example in every column, names of tasks etc. once."""

    def __init__(self):
        self.columns: dict[str, array.array] = collections.defaultdict(lambda: array.array("q"))
        self.names: dict[str, dict[str, int]] = {k: {} for k in ("task", "domain", "licence", "split")}
        self.taxa: dict[str, int] = {}
        self.clips = array.array("q")
        self.rejects: list[dict[str, Any]] = []

    def add(self, example: Example, clips: list[int], text_tokens: int, answer_tokens: int) -> None:
        for key, names in self.names.items():
            self.columns[key].append(names.setdefault(getattr(example, key), len(names)))
        taxon = lineage(example.facts) or example.label
        self.columns["taxon"].append(self.taxa.setdefault(taxon, len(self.taxa)))
        self.columns["text_tokens"].append(text_tokens)
        self.columns["answer_tokens"].append(answer_tokens)
        self.clips.extend(clips)
        self.columns["clip_end"].append(len(self.clips))


def _write_examples(options, notes, tokenizer, progress, total) -> _Table:
    number, rejected = {}, {}
    places = {key: array.array("q") for key in ("shard", "record", "samples")}
    for shard, note in enumerate(notes):
        record = 0
        for clip in note["clips"]:
            if "reason" in clip:
                rejected[clip["name"]] = clip["reason"]
                continue
            number[clip["name"]] = len(number)
            for key, value in (("shard", shard), ("record", record), ("samples", clip["samples"])):
                places[key].append(value)
            record += 1
    table, lost = _Table(), collections.Counter()
    task = progress.add_task("examples", total=total)

    def usable() -> Iterator[bytes]:
        for example in options.examples():
            progress.advance(task)
            bad = [path for path in example.paths if path in rejected]
            lost.update(bad)
            if bad:
                continue
            query = normalize_query(example.prompt, len(example.paths))
            try:
                sequence = build_sequence(tokenizer, query, example.text, len(example.paths), 0, max_txt_len=1 << 30)
            except UserError as error:
                table.rejects.append({"file": example.where, "reason": str(error), "examples": 1})
                continue
            table.add(example, [number[p] for p in example.paths], sequence.answer_start, sequence.n_answers)
            stored = {key: getattr(example, key) for key in ("id", "prompt", "text", "label")}
            if example.facts:
                stored["facts"] = dict(example.facts)
            yield json.dumps(stored, ensure_ascii=False).encode()

    stream, shard = usable(), 0
    while shards.write_records(
        shards.shard_path(options.out, "examples", shard),
        (record for _, record in zip(range(EXAMPLES_PER_SHARD), stream, strict=False)),
        shards.EXAMPLE_OPTIONS,
    ):
        shard += 1
    shards.shard_path(options.out, "examples", shard).unlink()  # the empty one behind the last
    table.rejects[:0] = [{"file": f, "reason": r, "examples": lost[f]} for f, r in rejected.items()]
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in table.rejects)
    (options.out / "rejects.jsonl").write_text(lines, encoding="utf-8")
    if not table.columns["task"]:
        first = table.rejects[0]
        for leftover in (options.out / "work", options.out / "plan.json"):  # the corrected command starts afresh
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        for file in options.out.glob("*.arrayrecord"):
            file.unlink()
        raise UserError(
            f"{options.annotations}: none of its {total} examples can be used; the first is left out because of "
            f"{first['reason']}. All reasons are in {options.out / 'rejects.jsonl'}"
        )
    for key, values in {**table.columns, **{f"clip_{k}": v for k, v in places.items()}, "clips": table.clips}.items():
        kind = np.int64 if key == "clip_end" else np.int32
        np.save(options.out / "index" / f"{key}.npy", np.asarray(values, kind))
    _write_json(options.out / "index" / "taxa.json", list(table.taxa))
    return table


def _manifest(options: Options, notes, table: _Table, tokenizer: Tokenizer) -> dict[str, Any]:
    kept = [clip for note in notes for clip in note["clips"] if "reason" not in clip]
    seconds = sum(clip["samples"] for clip in kept) / SAMPLE_RATE
    lengths = np.asarray(table.columns["text_tokens"]) + np.asarray(table.columns["answer_tokens"])
    files = sorted([*options.out.glob("examples-*.arrayrecord"), *(options.out / "index").iterdir()])
    counts = {
        f"{key}s": dict(zip(names, np.bincount(table.columns[key]).tolist(), strict=True))
        for key, names in table.names.items()
    }
    bad_clips = sum("reason" in clip for note in notes for clip in note["clips"])
    return {
        "version": FORMAT_VERSION,
        "annotations": {"name": options.annotations.name, "sha256": options.plan()["annotations_sha256"]},
        "examples": len(table.columns["task"]),
        "clips": len(kept),
        "clips_cut_short": sum(clip["cut"] for clip in kept),
        "seconds": round(seconds, 3),
        "hours": round(seconds / 3600, 4),
        "rejected": {"clips": bad_clips, "examples": sum(entry["examples"] for entry in table.rejects)},
        **counts,
        "text": {
            "tokenizer": options.tokenizer,
            "digest": text_digest(tokenizer, DEFAULT_TEMPLATE, DEFAULT_END_SYM),
            "tokens_without_audio": {
                "mean": round(float(lengths.mean()), 2),
                "max": int(lengths.max()),
                **{f"p{q}": float(np.percentile(lengths, q)) for q in (50, 90, 99)},
            },
        },
        "files": {
            **{note["file"]: note["sha256"] for note in notes},
            **{str(file.relative_to(options.out)): shards.file_digest(file) for file in files},
        },
    }


def text_digest(tokenizer: Tokenizer, template: str, end_sym: str) -> str:
    """Names what token lengths depend on; lengths made with another one are counted anew when a corpus is opened."""
    return hashlib.sha256("\0".join([tokenizer.digest, template, end_sym]).encode()).hexdigest()[:16]


def _write_json(path: pathlib.Path, content: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
