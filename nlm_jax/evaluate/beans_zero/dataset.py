"""BEANS-Zero as people have it: a folder that `datasets.save_to_disk` wrote, Parquet files, or the id of a hub dataset.

Rows are streamed batch by batch: the benchmark's waveforms, stored as lists of floats, are tens of gigabytes.
"""

import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile

from nlm_jax.audio import wave
from nlm_jax.core import remote
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero.parts import LONG_LISTS, MAX_SECONDS, SHORT_QUESTION

COLUMNS = ("audio", "id", "dataset_name", "output", "instruction_text", "metadata")
SECONDS = 10.0
"""What the model was trained on."""
BATCH = 16
"""Rows read at once."""


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
            if audio.get("bytes"):
                samples, rate = soundfile.read(io.BytesIO(audio["bytes"]), dtype="float32", always_2d=True)
                audio = samples.mean(1)
            else:
                audio, rate = audio["array"], int(audio.get("sampling_rate") or rate)
        made = wave.prepare(np.asarray(audio, np.float32), rate)
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
    cell = row["audio"]
    audio = cell.as_py() if hasattr(cell, "keys") else np.asarray(cell.values.to_numpy(zero_copy_only=False))
    rate = int(metadata.get("sample_rate") or SAMPLE_RATE)
    question = question_of(part, row["instruction_text"].as_py() or "")
    return Item(str(row["id"].as_py()), part, question, row["output"].as_py() or "", audio, rate)


def batches(source: str) -> Iterator[tuple[pathlib.Path, Any]]:
    """(file, record batch) of every file of a dataset."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("the dataset is read with pyarrow; pip install 'nlm_jax[data]'") from None
    folder = located(source)
    parquet = sorted(folder.rglob("*.parquet")) if folder.is_dir() else [folder] * (folder.suffix == ".parquet")
    arrow = sorted(folder.rglob("*.arrow")) if folder.is_dir() else []
    if not parquet and not arrow:
        raise UserError(f"--data={source}: neither Parquet files nor a folder that datasets.save_to_disk wrote")
    for file in parquet:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(BATCH):
            yield file, batch
    for file in arrow if not parquet else ():
        with pyarrow.memory_map(str(file)) as mapped:
            for batch in pyarrow.ipc.open_stream(mapped):
                for start in range(0, batch.num_rows, BATCH):
                    yield file, batch.slice(start, BATCH)


def located(source: str) -> pathlib.Path:
    """The local folder or file of a path, a bucket's URL or a hub id."""
    path = remote.local(source)
    if path.exists():
        return path
    if source.count("/") != 1 or source.startswith((".", "/")):
        raise UserError(f"--data={source}: no such file or folder")
    try:
        import huggingface_hub

        return pathlib.Path(
            huggingface_hub.snapshot_download(source, repo_type="dataset", allow_patterns=["*.parquet", "*.arrow"])
        )
    except Exception as error:  # the library raises its own, the network's and the file system's
        raise UserError(
            f"--data={source}: no such folder, and not to be had as a hub dataset ({type(error).__name__})"
        ) from error
