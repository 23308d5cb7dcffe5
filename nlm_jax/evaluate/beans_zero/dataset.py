"""BEANS-Zero as users have it: a folder that `datasets.save_to_disk` wrote, Parquet files, or a hub dataset id.

Its waveforms, stored as lists of floats, take tens of gigabytes: the questions are selected by the other columns, and
the audio is read only for those to be answered.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from jaxtyping import Float
from numpy import ndarray

from nlm_jax.audio import wave
from nlm_jax.audio.config import AudioConfig
from nlm_jax.core import arrow, hub
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero.parts import MAX_SECONDS, query_of
from nlm_jax.prepare import audio_sources

ROW_COLUMNS = ("id", "dataset_name", "output")
COLUMNS = ("audio", *ROW_COLUMNS, "instruction_text", "metadata")
ROWS_PER_BATCH = 4096
"""Rows, without audio, read at once."""


@dataclasses.dataclass(frozen=True)
class BenchmarkRow:
    """A row of the dataset without its audio, and its place."""

    id: str
    part: str
    label: str
    file: pathlib.Path = dataclasses.field(default=pathlib.Path(), compare=False)
    row: int = dataclasses.field(default=0, compare=False)
    """Index in `file`."""


@dataclasses.dataclass(frozen=True)
class BenchmarkItem:
    """A question of the benchmark with its audio; an `EvalQuestion`."""

    id: str
    part: str
    query: str
    label: str
    audio: Any
    """As stored; `waveform` decodes it."""
    rate: int
    """Sample rate in Hz, if the audio is stored as numbers."""
    clips: AudioConfig
    """Clip length and resampling of the checkpoint."""

    def waveform(self) -> Float[ndarray, "T"]:
        """The clip at 16 kHz, cut or zero-padded to the seconds of its part, as in the official evaluation.

        It is never longer than the checkpoint's clip length.

        Raises:
          UserError: there are no samples, some are not finite, or the bytes cannot be decoded.
        """
        audio, rate = self.audio, self.rate
        if isinstance(audio, dict):
            rate = int(audio.get("sampling_rate") or rate)
            audio = audio.get("bytes") or audio.get("array")
        seconds = min(MAX_SECONDS.get(self.part, self.clips.seconds), self.clips.seconds)
        samples = audio_sources.decoded(audio, rate, self.id, quality=self.clips.quality)
        return wave.fit(samples, round(seconds * SAMPLE_RATE))


def read_rows(source: str) -> list[BenchmarkRow]:
    """All rows of a dataset in order, without the audio.

    Args:
      source: a folder, a Parquet file, or a hub id.

    Raises:
      UserError: there is no dataset, a column is missing, or pyarrow is not installed.
    """
    arrow.installed()
    files, rows = arrow.files(hub.dataset_path(source, "--data=")), []
    if not files:
        raise UserError(f"--data={source}: neither Parquet files nor a folder that datasets.save_to_disk wrote")
    for file in files:
        names, index = arrow.schema(file).names, 0
        if missing := [name for name in COLUMNS if name not in names]:
            raise UserError(f"{file}: no column {missing[0]!r}; BEANS-Zero has {', '.join(COLUMNS)}")
        for batch in arrow.batches(file, list(ROW_COLUMNS), ROWS_PER_BATCH):
            columns = (batch.column(name).to_pylist() for name in ROW_COLUMNS)
            for id_, part, label in zip(*columns, strict=True):
                rows.append(BenchmarkRow(str(id_), str(part), label or "", file, index))
                index += 1
    return rows


def read_questions(rows: Iterable[BenchmarkRow], clips: AudioConfig) -> Iterator[BenchmarkItem]:
    """The questions of some rows with their audio, read one at a time.

    Args:
      rows: those to read.
      clips: audio configuration of the checkpoint.

    Raises:
      UserError: the metadata of a row is not JSON; or as `read_rows`.
    """
    for row in rows:
        cells = arrow.row(row.file, row.row, COLUMNS)
        try:
            rate = int(json.loads(cells["metadata"] or "{}").get("sample_rate") or SAMPLE_RATE)
        except (ValueError, TypeError, AttributeError):
            raise UserError(f'{row.file}: metadata of {row.id} is not JSON such as {{"sample_rate": 16000}}') from None
        query = query_of(row.part, cells["instruction_text"] or "")
        yield BenchmarkItem(row.id, row.part, query, row.label, cells["audio"], rate, clips)
