"""A synthetic dataset in the format of BEANS-Zero: every part with its labels and queries, a few clips of each.

Each label has calls of its own, derived from a hash of its name: pitch, slide, rate, overtones. So labels can be
distinguished by ear and learnt, and all of `nlm evaluate` runs without a recording of the benchmark.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero.parts import (
    DETECTION,
    MAX_LISTED_LABELS,
    MAX_SECONDS,
    NONE,
    PARTS,
    kind_of,
    label_sets,
)

EACH = 4
"""Questions of each part."""
RATES = {"esc50": 44_100, "watkins": 44_100, "humbugdb": 44_100, "hiceas": 22_050}
"""Sample rate in Hz at which a part is stored; 16,000 for the others."""
AUDIO_TAG = "<Audio><AudioHere></Audio> "
NAMES = {"cmn": "common name", "sci": "scientific name", "tax": "taxonomic name"}
QUERIES = {
    "lifestage": "What is the life stage of the focal species in the audio?",
    "call-type": "What type of vocalization is heard from the focal species in the audio? "
    "Answer with either 'call' or 'song'.",
    "captioning": "Caption the audio, using the common name for any animal species.",
    "zf-indiv": "How many birds are vocalizing in the audio? Choose between 1, 2, 3 or 4.",
}


def write(
    folder: pathlib.Path,
    each: int = EACH,
    parts: Sequence[str] = tuple(PARTS),
    form: Literal["parquet", "arrow"] = "parquet",
    seed: int = 0,
) -> pathlib.Path:
    """Writes the dataset, and returns the folder.

    Args:
      folder: to write to.
      each: questions of each part.
      parts: of the benchmark.
      form: Parquet, or Arrow files as `datasets.save_to_disk` writes them.
      seed: of the noise and the variation between calls.

    Raises:
      UserError: the folder contains other files, or pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("the dataset is written with pyarrow; pip install 'nlm_jax[data]'") from None
    name = "test-00000-of-00001.parquet" if form == "parquet" else "data-00000-of-00001.arrow"
    if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - {name, "state.json"}):
        raise UserError(f"{folder}: contains other files; give a new folder for the synthetic dataset")
    folder.mkdir(parents=True, exist_ok=True)
    texts = [(key, pyarrow.string()) for key in next(rows(1, ["zf-indiv"], seed)) if key != "audio"]
    schema = pyarrow.schema([*texts, ("audio", pyarrow.list_(pyarrow.float32()))])
    batch = pyarrow.RecordBatch.from_pylist(list(rows(each, parts, seed)), schema)
    if form == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_batches([batch]), folder / name)
        return folder
    with pyarrow.OSFile(str(folder / name), "wb") as out, pyarrow.ipc.new_stream(out, schema) as stream:
        stream.write_batch(batch)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}], "_split": "test"}))
    return folder


def rows(each: int, parts: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """The rows of the dataset, with the columns of BEANS-Zero; for the arguments see `write`."""
    for part in parts:
        rng = np.random.default_rng([seed, *hashlib.sha256(part.encode()).digest()[:8]])
        for number in range(each):
            labels, query = correct_labels(part, number), instruction_of(part)
            rate, seconds = RATES.get(part, 16_000), float(rng.uniform(0.6, 1.0) * MAX_SECONDS.get(part, 4.0))
            wave = synthesize(callers(part, labels), seconds, rate, rng)
            output = ", ".join(labels) if part != "captioning" else f"A {labels[0]} calls over quiet noise."
            yield {
                "source_dataset": f"synthetic {part}",
                "audio": wave.tolist(),
                "id": f"{part}-{number:04d}",
                "metadata": json.dumps({"sample_rate": rate, "duration": round(len(wave) / rate, 3)}),
                "file_name": f"{part}/{number:04d}.wav",
                "instruction": AUDIO_TAG + query,
                "instruction_text": query,
                "output": output,
                "task": kind_of(part),
                "dataset_name": part,
                "license": "CC0",
            }


def correct_labels(part: str, number: int) -> list[str]:
    """The correct labels of question `number`: one, of a detection up to two or "None"; the labels take turns."""
    if part == "captioning":
        return [label_sets()["unseen-species-cmn"][number]]
    labels = [label for label in label_sets()[part] if label != NONE]
    first = labels[number % len(labels)]
    if kind_of(part) != DETECTION:
        return [first]
    if number % 4 == 3:
        return [NONE]
    second = labels[(number + 1) % len(labels)]
    return [first, second] if number % 4 == 2 and second != first else [first]


def instruction_of(part: str) -> str:
    """The instruction of a part, in the words of the benchmark."""
    if part in QUERIES:
        return QUERIES[part]
    labels = label_sets()[part]
    if part == "esc50":
        return f"The objective is to classify the sound into one of the following categories: {', '.join(labels)}"
    if kind_of(part) == DETECTION:
        offered = [label for label in labels if label != NONE][: 2 * MAX_LISTED_LABELS]
        return f"Which of these, if any, are present in the audio recording? {', '.join(offered)}, {NONE}."
    return f"What is the {NAMES.get(part[-3:], 'common name')} for the focal species in the audio?"


def callers(part: str, labels: Sequence[str]) -> list[str]:
    """The names whose calls are in a clip: none for "None", several individuals if the question is how many."""
    if part == "zf-indiv":
        return ["Zebra Finch", "Zebra Finch, another"][: 1 + (labels[0] == "More")]
    return [name for name in labels if name != NONE]


def synthesize(names: Sequence[str], seconds: float, rate: int, rng: np.random.Generator) -> Float[np.ndarray, "T"]:
    """The calls of some names over quiet noise.

    Args:
      names: the callers.
      seconds: length of the clip.
      rate: sample rate in Hz.
      rng: for the noise and the variation between calls.

    Returns:
      f32[T] in [-1, 1].
    """
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.01 * rng.standard_normal(len(t))
    for name in names:
        base, slide, calls, tone = (b / 255 for b in hashlib.sha256(name.encode()).digest()[:4])
        hz = 300 * 10**base * 2 ** rng.uniform(-0.05, 0.05)  # 300 to 3000 Hz, a little different each time
        within = (t * (1 + 5 * calls) + rng.uniform()) % 1.0
        phase = 2 * np.pi * np.cumsum(hz * 2 ** ((slide - 0.5) * within)) / rate
        call = np.sin(phase) + tone * np.sin(2 * phase) + tone**2 * np.sin(3 * phase)
        wave += 0.2 * call * np.clip(np.sin(2 * np.pi * within), 0, None)
    return wave.clip(-1, 1).astype(np.float32)
