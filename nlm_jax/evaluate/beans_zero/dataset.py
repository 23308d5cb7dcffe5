"""BEANS-Zero as people have it: a folder that `datasets.save_to_disk` wrote, Parquet files, or the id of a hub dataset.

Rows are streamed batch by batch: the benchmark's waveforms, stored as lists of floats, are tens of gigabytes.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nlm_jax.audio import wave
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data import arrow, hub, recordings
from nlm_jax.evaluate.beans_zero.parts import LONG_LISTS, MAX_SECONDS, SHORT_QUESTION

COLUMNS = ("audio", "id", "dataset_name", "output", "instruction_text", "metadata")
SECONDS = 10.0
"""What the model was trained on."""


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

    def waveform(self) -> np.ndarray:
        """f32[160000] at 16 kHz: cut to what the part's clips are meant to be, zero-padded to ten seconds.

        Raises:
          UserError: no samples, or samples that are not finite.
        """
        audio, rate = self.audio, self.rate
        if isinstance(audio, dict):
            rate = int(audio.get("sampling_rate") or rate)
            audio = audio.get("bytes") or audio["array"]
        made = recordings.decoded(audio, rate, self.id)
        longest = MAX_SECONDS.get(self.part, SECONDS)
        return wave.fit(made[: round(longest * SAMPLE_RATE)], round(SECONDS * SAMPLE_RATE))


def question_of(part: str, text: str) -> str:
    """What is asked: the benchmark's text, or of a detection among many species the short open question."""
    return SHORT_QUESTION if part in LONG_LISTS else text


def read(source: str, parts: tuple[str, ...] = ()) -> Iterator[Item]:
    """The items of a dataset in its order, of `parts` only if any are named.

    Raises:
      UserError: no dataset there, a column is missing, or pyarrow is not installed.
    """
    for file, batch in batches(source):
        if missing := [name for name in COLUMNS if name not in batch.schema.names]:
            raise UserError(f"{file}: no column {missing[0]!r}; BEANS-Zero has {', '.join(COLUMNS)}")
        names = batch.column("dataset_name").to_pylist()
        for i, part in enumerate(names):
            if not parts or part in parts:
                row = {name: batch.column(name)[i] for name in COLUMNS}
                yield item(row, part, file)


def item(row: dict[str, Any], part: str, file: pathlib.Path) -> Item:
    """An item from the cells of one row."""
    try:
        metadata = json.loads(row["metadata"].as_py() or "{}")
    except json.JSONDecodeError:
        raise UserError(f"{file}: metadata of {row['id']} is no JSON") from None
    rate = int(metadata.get("sample_rate") or SAMPLE_RATE)
    question = question_of(part, row["instruction_text"].as_py() or "")
    return Item(str(row["id"].as_py()), part, question, row["output"].as_py() or "", arrow.value(row["audio"]), rate)


def batches(source: str) -> Iterator[tuple[pathlib.Path, Any]]:
    """(file, record batch) of every file of a dataset."""
    arrow.installed()
    files = arrow.files(hub.located(source, "--data="))
    if not files:
        raise UserError(f"--data={source}: neither Parquet files nor a folder that datasets.save_to_disk wrote")
    for file in files:
        for batch in arrow.batches(file):
            yield file, batch
