"""BEANS-Zero as people have it: a folder that `datasets.save_to_disk` wrote, Parquet files, or the id of a hub dataset.

Its waveforms, stored as lists of floats, are tens of gigabytes: what there is to answer is told from the other columns,
and only the rows that are to be answered are read.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nlm_jax.audio import wave
from nlm_jax.audio.config import AudioConfig
from nlm_jax.core import arrow, hub
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero.parts import MAX_SECONDS, question_of
from nlm_jax.prepare import audio_sources

HEAD = ("id", "dataset_name", "output")
COLUMNS = ("audio", *HEAD, "instruction_text", "metadata")
ROWS = 4096
"""Rows without audio that are read at once."""


@dataclasses.dataclass(frozen=True)
class Head:
    """What a row is, without its audio, and where it is."""

    id: str
    part: str
    label: str
    file: pathlib.Path = dataclasses.field(default=pathlib.Path(), compare=False)
    row: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass(frozen=True)
class Item:
    """One question of the benchmark."""

    id: str
    part: str
    question: str
    label: str
    audio: Any
    """As it is stored; `waveform` decodes it."""
    rate: int
    """Hz, of a waveform that is stored as numbers."""
    clips: AudioConfig
    """Of the checkpoint that is asked."""

    def waveform(self) -> np.ndarray:
        """f32[T] at 16 kHz: cut, or zero-padded, to the seconds of its part, as the official evaluation does it.

        At most to the clip length of the checkpoint, which knows no longer ones.

        Raises:
          UserError: no samples, samples that are not finite, or bytes that are no audio.
        """
        audio, rate = self.audio, self.rate
        if isinstance(audio, dict):
            rate = int(audio.get("sampling_rate") or rate)
            audio = audio.get("bytes") or audio.get("array")
        seconds = min(MAX_SECONDS.get(self.part, self.clips.seconds), self.clips.seconds)
        found = audio_sources.decoded(audio, rate, self.id, quality=self.clips.quality)
        return wave.fit(found, round(seconds * SAMPLE_RATE))


def heads(source: str) -> list[Head]:
    """Every row of a dataset in its order, without the audio.

    Raises:
      UserError: no dataset there, a column is missing, or pyarrow is not installed.
    """
    arrow.installed()
    files, found = arrow.files(hub.dataset_path(source, "--data=")), []
    if not files:
        raise UserError(f"--data={source}: neither Parquet files nor a folder that datasets.save_to_disk wrote")
    for file in files:
        names, row = arrow.schema(file).names, 0
        if missing := [name for name in COLUMNS if name not in names]:
            raise UserError(f"{file}: no column {missing[0]!r}; BEANS-Zero has {', '.join(COLUMNS)}")
        for batch in arrow.batches(file, list(HEAD), ROWS):
            columns = (batch.column(name).to_pylist() for name in HEAD)
            for id_, part, label in zip(*columns, strict=True):
                found.append(Head(str(id_), str(part), label or "", file, row))
                row += 1
    return found


def read(rows: Iterable[Head], clips: AudioConfig) -> Iterator[Item]:
    """The items of rows, one after the other, heard as `clips` says. Errors as in `heads`.

    Raises:
      UserError: metadata that is no JSON.
    """
    for head in rows:
        cells = arrow.row(head.file, head.row, COLUMNS)
        try:
            rate = int(json.loads(cells["metadata"] or "{}").get("sample_rate") or SAMPLE_RATE)
        except (ValueError, TypeError, AttributeError):
            raise UserError(
                f'{head.file}: metadata of {head.id} is not JSON such as {{"sample_rate": 16000}}'
            ) from None
        question = question_of(head.part, cells["instruction_text"] or "")
        yield Item(head.id, head.part, question, head.label, cells["audio"], rate, clips)
