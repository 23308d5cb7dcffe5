"""What `nlm prepare` is told: its flags, and the options that its result depends on."""

import argparse
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from nlm_jax.audio import wave
from nlm_jax.core import remote
from nlm_jax.data import corpora, holdout, shards
from nlm_jax.data.corpora import select
from nlm_jax.data.schema import Example

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

    taxon: Sequence[str] = ()
    """Keep examples of these alone: names of any rank, or common names."""
    task: Sequence[str] = ()
    """Keep these tasks alone (* allowed)."""

    @functools.cached_property
    def source(self) -> pathlib.Path:
        """The annotations; of a hub id the folder that was fetched."""
        return select.located(self.annotations, self.taxon, self.task)

    @property
    def root(self) -> pathlib.Path:
        return self.audio_root or corpora.home(self.source)

    def read(self) -> Iterator[Example]:
        """The chosen examples of the annotations, as they are there."""
        return select.read(self.source, self.format, None, self.root, self.taxon, self.task)

    def examples(self) -> Iterator[Example]:
        if not self.hold_out:
            return (e for e in self.read() if self.split in (None, e.split))
        every = holdout.divided(self.read(), self.held_out[0])
        return (e for e in every if self.split in (None, e.split))

    @functools.cached_property
    def held_out(self) -> tuple[frozenset[str], list[str]]:
        """Recordings to hold out, and labels too rare for that."""
        return holdout.draw(self.read(), self.hold_out)

    def plan(self) -> dict[str, Any]:
        """What a continued run must have in common with the one before it."""
        same = dataclasses.asdict(self)
        del same["out"], same["audio_root"], same["annotations"]
        for name in ("hold_out", "taxon", "task"):
            if not same[name]:
                del same[name]
        return {"version": FORMAT_VERSION, "annotations_sha256": corpora.digest(self.source), **same}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm prepare`."""
    parser.add_argument(
        "annotations",
        type=remote.reads_beside,
        metavar="ANNOTATIONS",
        help="JSON lines, a table, a folder, Parquet, tars ('x-{000..127}.tar') or the id of a hub dataset",
    )
    parser.add_argument(
        "--out", type=remote.writes, required=True, help="directory to write; a killed run continues in it"
    )
    parser.add_argument("--split", help="keep only examples of this split")
    parser.add_argument(
        "--taxon", action="append", default=[], metavar="NAME", help="keep this taxon only: any rank or common name"
    )
    parser.add_argument("--task", action="append", default=[], metavar="PATTERN", help="keep such tasks only")
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
