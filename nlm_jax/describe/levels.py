"""Levels of the clips of a corpus: loudness, clipping, silence, offset."""

import concurrent.futures
from typing import Any

import numpy as np
import rich.progress
from jaxtyping import Float, Int

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.data import shards
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.shuffle import permute
from nlm_jax.describe.index import Clips, spread

FLOOR = -96.0
"""dBFS of digital silence: the step of 16-bit samples."""
SILENCE = -60.0
"""A frame of 20 ms is silent if its root mean square is below this level in dBFS."""
FRAME = SAMPLE_RATE // 50
FULL, RUN = 32767 / 32768, 3
"""A clip counts as clipped if at least `RUN` samples in a row are at full scale."""
OFFSET = 0.01
"""A clip has an offset if its mean exceeds this share of full scale."""
FIGURES = ("rms", "peak", "clipped", "silent", "offset")
NAMED = 5
"""Clips of a kind that describe.json names; flagged.jsonl has all."""


def chosen(total: int, sample: int) -> Int[np.ndarray, "S"]:
    """Numbers of the clips to measure: a random but fixed sample; all if `sample` is 0 or at least `total`."""
    if not 0 < sample < total:
        return np.arange(total)
    return np.sort(permute(np.arange(sample), total, np.full(sample, 1, np.uint64)))


def measure(wave: Float[np.ndarray, "T"]) -> dict[str, float]:
    """`rms` and `peak` in dBFS, the shares of `clipped` samples and `silent` frames, and the mean, `offset`."""
    if not wave.size:
        return {"rms": FLOOR, "peak": FLOOR, "clipped": 0.0, "silent": 1.0, "offset": 0.0}
    power = np.square(wave, dtype=np.float64)
    frames = np.add.reduceat(power, np.arange(0, wave.size, FRAME))
    frames /= np.diff(np.append(np.arange(0, wave.size, FRAME), wave.size))
    return {
        "rms": decibels(float(np.sqrt(power.mean()))),
        "peak": decibels(float(np.abs(wave).max())),
        "clipped": runs(np.abs(wave) >= FULL, RUN) / wave.size,
        "silent": float((frames < 10.0 ** (SILENCE / 10)).mean()),
        "offset": float(wave.mean()),
    }


def decibels(level: float) -> float:
    """dB relative to full scale, not below `FLOOR`."""
    return max(FLOOR, 20.0 * float(np.log10(level))) if level > 0 else FLOOR


def runs(hit: np.ndarray, least: int) -> int:
    """Number of true values in runs of at least `least`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hit.astype(np.int8), [0]])))
    length = edges[1::2] - edges[::2]
    return int(length[length >= least].sum())


def levels(
    corpus: Corpus, clips: Clips, sample: int, workers: int, progress: rich.progress.Progress
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Levels of a sample of the clips.

    Args:
      corpus: the corpus.
      clips: its distinct clips.
      sample: number of clips to measure; 0 = all.
      workers: threads that decode.
      progress: shows the clips done.

    Returns:
      Statistics for describe.json, damaged clips among them, and a row with name and levels for each clip that is
      silent, clipped or has an offset.
    """
    numbers = chosen(len(clips.samples), sample)
    task = progress.add_task("levels", total=len(numbers))

    def measured(number: int) -> dict[str, Any] | str:
        k = int(np.searchsorted(clips.first, number, side="right")) - 1
        part = corpus.parts[k]
        try:
            record = part.clip_records.read(*part.address(number - clips.first[k]))
            name = shards.clip_header(record)[0]["name"]
            return {"directory": corpus.sources[k], "clip": name, **measure(shards.decode_clip(record))}
        except shards.CorruptRecord as error:
            return str(error)
        finally:
            progress.advance(task)

    pool = concurrent.futures.ThreadPoolExecutor(workers)  # decoding releases the interpreter lock
    try:
        results = list(pool.map(measured, numbers.tolist()))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted run stops at once
    damaged = [f for f in results if isinstance(f, str)]
    good = [f for f in results if not isinstance(f, str)]
    seconds = np.asarray(
        [clips.samples[n] for n, f in zip(numbers, results, strict=True) if not isinstance(f, str)], float
    )
    column = {key: np.asarray([g[key] for g in good]) for key in FIGURES}
    whole = max(1.0, float(seconds.sum()))
    share = lambda hits: round(float(hits.mean()), 5) if len(hits) else 0.0  # noqa: E731
    kinds = {
        "silent": column["silent"] == 1.0,
        "clipped": column["clipped"] > 0,
        "offset": np.abs(column["offset"]) > OFFSET,
    }
    flagged = [
        {"directory": g["directory"], "clip": g["clip"], "is": flags, **{key: round(g[key], 5) for key in FIGURES}}
        for number, g in enumerate(good)
        if (flags := [kind for kind, hits in kinds.items() if hits[number]])
    ]
    first = {kind: [f["clip"] for f in flagged if kind in f["is"]][:NAMED] for kind in kinds}
    return {
        "clips": len(good),
        "of": len(clips.samples),
        "damaged": {"clips": len(damaged), "first": damaged[:5]},
        "rms_dbfs": spread(column["rms"]),
        "peak_dbfs": spread(column["peak"]),
        "clipping": {
            "clips": int(kinds["clipped"].sum()),
            "share_of_clips": share(column["clipped"] > 0),
            "share_of_samples": round(float(column["clipped"] @ seconds) / whole, 7),
        },
        "silence": {
            "below_dbfs": SILENCE,
            "share_of_time": round(float(column["silent"] @ seconds) / whole, 5),
            "silent_clips": int(kinds["silent"].sum()),
            "share": spread(column["silent"], 20),
        },
        "offset_above_1_percent": int(kinds["offset"].sum()),
        "first": first,
    }, flagged
