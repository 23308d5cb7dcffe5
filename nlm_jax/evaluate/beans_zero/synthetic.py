"""A dataset of BEANS-Zero's shape with made sounds: every part, real labels and questions, a few clips of each.

Each label has a voice of its own, drawn from its name: pitch, slide, rate of its calls, overtones. So labels can be
told apart by ear and learnt, and all of `nlm evaluate` runs without a recording of the benchmark.
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
    MAX_SECONDS,
    NONE,
    PARTS,
    TOO_MANY,
    kind_of,
    label_sets,
)

EACH = 4
"""Questions of each part."""
RATES = {"esc50": 44_100, "watkins": 44_100, "humbugdb": 44_100, "hiceas": 22_050}
"""Hz in which a part is stored; 16,000 where none is named."""
AUDIO_TAG = "<Audio><AudioHere></Audio> "
NAMES = {"cmn": "common name", "sci": "scientific name", "tax": "taxonomic name"}
QUESTIONS = {
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
    """Writes the dataset below `folder` as Parquet, or as `datasets.save_to_disk` would; the folder.

    Raises:
      UserError: the folder holds something else, or pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("the dataset is written with pyarrow; pip install 'nlm_jax[data]'") from None
    name = "test-00000-of-00001.parquet" if form == "parquet" else "data-00000-of-00001.arrow"
    if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - {name, "state.json"}):
        raise UserError(f"{folder}: holds something else; give a new folder for the made dataset")
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
    """`each` rows of every part, with the columns of BEANS-Zero."""
    for part in parts:
        rng = np.random.default_rng([seed, *hashlib.sha256(part.encode()).digest()[:8]])
        for number in range(each):
            truth = truths(part, number, rng)
            question = asked(part, truth, rng)
            rate, seconds = RATES.get(part, 16_000), float(rng.uniform(0.6, 1.0) * MAX_SECONDS.get(part, 4.0))
            wave = sound(voices(part, truth), seconds, rate, rng)
            output = ", ".join(truth) if part != "captioning" else f"A {truth[0]} calls over quiet noise."
            yield {
                "source_dataset": f"synthetic {part}",
                "audio": wave.tolist(),
                "id": f"{part}-{number:04d}",
                "metadata": json.dumps({"sample_rate": rate, "duration": round(len(wave) / rate, 3)}),
                "file_name": f"{part}/{number:04d}.wav",
                "instruction": AUDIO_TAG + question,
                "instruction_text": question,
                "output": output,
                "task": kind_of(part),
                "dataset_name": part,
                "license": "CC0",
            }


def truths(part: str, number: int, rng: np.random.Generator) -> list[str]:
    """What is right: one label, of a detection none to two; the labels take turns."""
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


def asked(part: str, truth: Sequence[str], rng: np.random.Generator) -> str:
    """The question, as the benchmark words it."""
    if part in QUESTIONS:
        return QUESTIONS[part]
    labels = label_sets()[part]
    if part == "esc50":
        return f"The objective is to classify the sound into one of the following categories: {', '.join(labels)}"
    if kind_of(part) == DETECTION:
        offered = [label for label in labels if label != NONE][: 2 * TOO_MANY]
        return f"Which of these, if any, are present in the audio recording? {', '.join(offered)}, {NONE}."
    return f"What is the {NAMES.get(part[-3:], 'common name')} for the focal species in the audio?"


def voices(part: str, truth: Sequence[str]) -> list[str]:
    """Whose voices are heard: nobody's of "None", several individuals where birds are counted."""
    if part == "zf-indiv":
        return ["Zebra Finch", "Zebra Finch, another"][: 1 + (truth[0] == "More")]
    return [name for name in truth if name != NONE]


def sound(names: Sequence[str], seconds: float, rate: int, rng: np.random.Generator) -> Float[np.ndarray, "T"]:
    """f32[T] in [-1, 1] at `rate` Hz: the calls of each name over quiet noise."""
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
