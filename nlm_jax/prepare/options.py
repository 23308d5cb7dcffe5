"""`PrepareOptions`: the values that the result of `nlm prepare` depends on. Nothing is read or written here."""

import dataclasses
import fnmatch
import math
import pathlib
from collections.abc import Sequence
from typing import Literal

from nlm_jax.audio.resample import Quality
from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.prepare import splits

Duplicates = Literal["report", "drop", "none"]
Leakage = Literal["drop", "report"]
AT_LEAST_ONE = "--shard-size and --workers must be at least 1, --max-seconds at least 0"


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """Everything that the result depends on."""

    annotations: pathlib.Path
    """A file, folder or pattern of annotations, or the id of a hub dataset."""
    out: pathlib.Path
    """The prepared directory."""
    split: str | None = None
    """Keep the examples of this split only; None = all."""
    audio_root: pathlib.Path | None = None
    """Folder of relative audio paths; default: the annotation file's own."""
    tokenizer: str = "embedded"
    """Directory, hub id or "embedded", for the token lengths in the index."""
    shard_size: int = 512
    """Clips in one shard file."""
    max_seconds: float = 30.0
    """Longer recordings keep their first `max_seconds`; training then crops at random inside. 0 = keep everything."""
    encoding: shards.Encoding = "flac"
    """Storage of samples."""
    quality: Quality = "HQ"
    """Quality of the resampler."""
    format: str = "auto"
    """Format of the annotations, see `readers.registry.FORMATS`."""
    instruct: str = ""
    """Tasks that questions are generated for from the facts of recordings: names and patterns, or all; "" = none."""
    templates: pathlib.Path | None = None
    """Folder of task files in addition to the package's own."""
    seed: int = 0
    """For sampling of phrasings and candidate answers."""
    tasks_per_recording: int = 0
    """This many of the tasks for which a recording has the facts, sampled; 0 = all of them."""
    max_clips: int = 8
    """Most clips in one question."""
    hold_out: float = 0.0
    """Share of the recordings without a split that become split "valid"; the others become "train"."""

    taxon: Sequence[str] = ()
    """Keep examples of these taxa only: names of any rank, or common names."""
    task: Sequence[str] = ()
    """Keep these tasks only (* allowed)."""
    window: float = 0.0
    """Seconds of the windows that recordings are cut into; 0 = none."""
    hop: float = 0.0
    """Seconds from one window to the next; 0 = half a window."""
    held_out_taxa: str = "none"
    """Taxa excluded from training: none, paper, or a file (`heldout_taxa.load`)."""
    duplicates: Duplicates = "report"
    """Whether exact and near duplicates are listed, also dropped from training, or not looked for."""
    benchmark: pathlib.Path | None = None
    """Recordings excluded from training: a prepared directory, saved fingerprints, or annotations."""
    leakage: Leakage = "drop"
    """Whether benchmark recordings in training are dropped, or only listed."""
    training_splits: str = "train*"
    """Names or patterns, separated by commas, of splits that may lose examples; examples without a split always may."""

    @property
    def fingerprints(self) -> bool:
        """Whether clips get a fingerprint."""
        return self.duplicates != "none" or self.benchmark is not None

    @property
    def window_hop(self) -> float:
        """Seconds from one window to the next."""
        return self.hop or self.window / 2

    def is_training(self, split: str) -> bool:
        """Whether examples of a split may be dropped because of examples in other splits or in a benchmark."""
        return not split or any(fnmatch.fnmatchcase(split, p.strip()) for p in self.training_splits.split(","))

    def check(self) -> None:
        """Checks the values, without looking at any file.

        Raises:
          UserError: a value out of its range, or an option without the one it belongs to.
        """
        if self.shard_size < 1 or not 0 <= self.max_seconds < math.inf:
            raise UserError(AT_LEAST_ONE)
        splits.check(self.hold_out)
        if not (self.window == 0 or 0.1 <= self.window < math.inf):
            raise UserError(f"--window {self.window:g}: windows last at least 0.1 s, as in 10; 0 cuts none")
        if self.hop and not self.window:
            raise UserError("--hop goes with --window; give --window SECONDS as well, or leave --hop out")
        if self.hop and not 0.1 <= self.hop <= self.window:
            raise UserError(f"--hop {self.hop:g}: lies between 0.1 s and the window, {self.window:g} s")
        if self.templates and not self.instruct:
            raise UserError("--templates goes with --instruct; give --instruct as well")
        if self.instruct and (self.tasks_per_recording < 0 or self.max_clips < 1):
            raise UserError("--tasks-per-recording must be at least 0 (0 = all of them), --max-clips at least 1")
