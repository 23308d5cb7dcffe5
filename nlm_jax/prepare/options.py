"""What `nlm prepare` is told: its flags, and the options that its result depends on."""

import argparse
import dataclasses
import fnmatch
import functools
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

from nlm_jax.audio.resample import Quality
from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.schema import Example
from nlm_jax.prepare import audio_sources, heldout_taxa, splits
from nlm_jax.prepare import leakage as benchmarks
from nlm_jax.prepare.readers import registry, subset
from nlm_jax.prepare.rejects import Report
from nlm_jax.prepare.tasks import with_tasks
from nlm_jax.prepare.windowing import Windows

FORMAT_VERSION = 1
Duplicates = Literal["report", "drop", "none"]
Leakage = Literal["drop", "report"]
LATER = (
    *("hold_out", "taxon", "task", "window", "hop"),
    *("held_out_taxa", "duplicates", "benchmark", "leakage", "training_splits"),
)
"""Options that came after the first version."""


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
    quality: Quality = "HQ"
    format: str = "auto"
    instruct: str = ""
    """Tasks that questions are made for from the facts of recordings: names and patterns, or all; "" = none."""
    templates: pathlib.Path | None = None
    """Folder of task files beside the package's own."""
    seed: int = 0
    """Of phrasings and candidates."""
    tasks_per_recording: int = 0
    """So many of the tasks that a recording has the facts for; 0 = all of them."""
    max_clips: int = 8
    """Clips in one question."""
    hold_out: float = 0.0
    """Share of the recordings without a split that become split "valid"; the others become "train"."""

    taxon: Sequence[str] = ()
    """Keep examples of these alone: names of any rank, or common names."""
    task: Sequence[str] = ()
    """Keep these tasks alone (* allowed)."""
    window: float = 0.0
    """Seconds of the windows that recordings are cut into; 0 = none."""
    hop: float = 0.0
    """Seconds from one window to the next; 0 = half a window."""
    held_out_taxa: str = "none"
    """Taxa that training must not hear: none, paper, or a file (`heldout_taxa.load`)."""
    duplicates: Duplicates = "report"
    benchmark: pathlib.Path | None = None
    """Recordings that training must not hear: a prepared directory, saved fingerprints, or annotations."""
    leakage: Leakage = "drop"
    training_splits: str = "train*"
    """Names or patterns, with commas, of splits that may lose examples; examples without a split always may."""

    @functools.cached_property
    def source(self) -> pathlib.Path:
        """The annotations; of a hub id the folder that was fetched."""
        return subset.located(self.annotations, self.taxon, self.task)

    @property
    def root(self) -> pathlib.Path:
        return self.audio_root or registry.home(self.source)

    def read(self) -> Iterator[Example]:
        """The chosen examples of the annotations, as they are there."""
        return subset.read(self.source, self.format, None, self.root, self.taxon, self.task, self.report)

    @functools.cached_property
    def report(self) -> Report:
        """What reading left out and said, filled while examples are read."""
        return Report()

    def examples(self) -> Iterator[Example]:
        """All examples of the split, as they are asked; before the held-out part is drawn those that may be of it."""
        every = self.division.divided(self.read()) if self.hold_out else self.read()
        if self.window:
            every = self.windows.cut(every)
        free = self.division.splits if self.hold_out and self.division.held is None else ()
        return (e for e in every if self.split in (None, e.split) or e.split in free)

    @functools.cached_property
    def division(self) -> splits.Division:
        """What is held out; drawn in `selection.divide`."""
        return splits.Division(self.hold_out, self.content)

    @functools.cached_property
    def windows(self) -> Windows:
        """How recordings are cut; the length of each is looked up once."""
        duration = functools.cache(functools.partial(audio_sources.seconds, self.root))
        return Windows(self.window, self.hop or self.window / 2, duration, self.report, self.content)

    @functools.cached_property
    def content(self) -> Callable[[str], str]:
        """What copies of one recording in the rows of a dataset have in common; looked up once."""
        return functools.cache(functools.partial(audio_sources.content, self.root))

    @functools.cached_property
    def taxa(self) -> heldout_taxa.HeldOut | None:
        """The taxa held out."""
        return heldout_taxa.load(self.held_out_taxa)

    @functools.cached_property
    def against(self) -> benchmarks.Benchmark | None:
        """The recordings of the benchmark."""
        return benchmarks.load(self.benchmark) if self.benchmark else None

    @property
    def fingerprints(self) -> bool:
        """Whether clips get a fingerprint."""
        return self.duplicates != "none" or self.benchmark is not None

    def training(self, split: str) -> bool:
        """Whether examples of a split may be left out for what is in others."""
        return not split or any(fnmatch.fnmatchcase(split, p.strip()) for p in self.training_splits.split(","))

    def check(self) -> None:
        """Raises UserError for values that nothing can be made of."""
        if self.shard_size < 1 or not 0 <= self.max_seconds < math.inf:
            raise UserError("--shard-size and --workers must be at least 1, --max-seconds at least 0")
        splits.check(self.hold_out)
        if not (self.window == 0 or 0.1 <= self.window < math.inf):
            raise UserError(f"--window {self.window:g}: windows last at least 0.1 s, as in 10; 0 cuts none")
        if self.hop and not self.window:
            raise UserError("--hop goes with --window; give --window SECONDS as well, or leave --hop out")
        if self.hop and not 0.1 <= self.hop <= self.window:
            raise UserError(f"--hop {self.hop:g}: lies between 0.1 s and the window, {self.window:g} s")

    def plan(self) -> dict[str, Any]:
        """What a continued run must have in common with the one before it."""
        same = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del same["out"], same["audio_root"], same["annotations"]
        for field in dataclasses.fields(self):  # directories of versions without an option are those with its default
            if field.name in LATER and same[field.name] in (field.default, []):
                del same[field.name]
        if self.held_out_taxa not in ("none", "paper"):
            same["held_out_taxa"] = shards.file_digest(pathlib.Path(self.held_out_taxa))
        if self.benchmark:
            same["benchmark"] = registry.digest(self.benchmark)
        same = {key: value for key, value in same.items() if key not in with_tasks.FIELDS} | with_tasks.plan(self)
        return {"version": FORMAT_VERSION, "annotations_sha256": registry.digest(self.source), **same}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm prepare`."""
    parser.add_argument(
        "annotations",
        metavar="ANNOTATIONS",
        help="JSON lines, a table, a folder, Parquet, tars ('x-{000..127}.tar') or the id of a hub dataset",
    )
    parser.add_argument("--out", required=True, help="directory to write; a killed run continues in it")
    parser.add_argument("--split", help="keep only examples of this split")
    parser.add_argument(
        "--taxon", action="append", default=[], metavar="NAME", help="keep this taxon only: any rank or common name"
    )
    parser.add_argument("--task", action="append", default=[], metavar="PATTERN", help="keep such tasks only")
    parser.add_argument(
        "--hold-out", type=float, default=0.0, metavar="SHARE", help="of recordings that become split valid, as in 0.2"
    )
    parser.add_argument("--audio-root", help="folder of relative audio paths (default: annotations' own)")
    parser.add_argument(
        "--tokenizer", default="embedded", help="directory, hub id or 'embedded', for the token lengths"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="threads or processes that convert (default: all cores)",
    )
    parser.add_argument("--shard-size", type=int, default=512, help="clips in one shard (default 512)")
    parser.add_argument(
        "--max-seconds", type=float, default=30.0, help="cut recordings there; 0 keeps all (default 30)"
    )
    parser.add_argument("--encoding", choices=get_args(shards.Encoding), default="flac", help="flac is half the size")
    parser.add_argument(
        "--quality",
        choices=get_args(Quality),
        default="HQ",
        help="of resampling: soxr's (default HQ), or kaiser_best, the official code's",
    )
    with_tasks.add_arguments(parser)
    parser.add_argument("--format", default="auto", help=f"of the annotations: {', '.join(registry.KINDS)}")
    parser.add_argument("--window", type=float, default=0.0, metavar="SECONDS", help="cut recordings into windows")
    parser.add_argument(
        "--hop", type=float, default=0.0, metavar="SECONDS", help="between windows (default: half of one)"
    )
    parser.add_argument(
        "--duplicates",
        choices=get_args(Duplicates),
        default="report",
        help="exact and near ones: list them, also drop them from training, or do not look (default report)",
    )
    parser.add_argument(
        "--benchmark",
        metavar="PATH",
        help="recordings that training must not hear: BEANS-Zero, a prepared directory, or saved fingerprints",
    )
    parser.add_argument(
        "--leakage", choices=get_args(Leakage), default="drop", help="of --benchmark into training (default drop)"
    )
    parser.add_argument(
        "--held-out-taxa", default="none", metavar="paper|FILE|none", help="taxa that training must not hear"
    )
    parser.add_argument(
        "--training-splits", default="train*", metavar="NAMES", help="splits that may lose examples (default 'train*')"
    )
    parser.add_argument("--runner", choices=("local", "beam"), default="local", help="what converts (default local)")
    parser.add_argument(
        "--beam-args", default="", metavar="FLAGS", help="for Beam, as in --beam-args='--runner=DataflowRunner ...'"
    )
