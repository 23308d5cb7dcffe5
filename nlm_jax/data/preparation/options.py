"""What `nlm prepare` is told: its flags, and the options that its result depends on."""

import argparse
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any, get_args

from nlm_jax.audio import wave
from nlm_jax.core import remote
from nlm_jax.data import corpora, holdout, shards
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
