"""Data pipeline: clips per second and core, compared with a torch DataLoader doing the same work on the same files.

    python benchmarks/data.py                 # 10 s clips, FLAC at 44.1 kHz; written, later removed
    python benchmarks/data.py --kind=wav --rate=16000      # also ogg, mp3

The work: read a file, mix to mono, resample to 16 kHz, cut or pad to 10 s, add noise to two in five, tokenize the text,
put examples together. Ours reads what `nlm prepare` wrote (decoded and resampled once), as FLAC or 16-bit samples, from
disk or through fsspec with its cache, and packs rows; `from files` is our decoder on the files themselves. The
DataLoader decodes with soundfile, resamples with soxr (the reference's resampy is 60 times slower) and pads to the
longest, with one worker a core. Both add Gaussian noise of a random tilt: ours draws it as a spectrum, the DataLoader
filters samples, the usual way. `nlm prepare` is timed too; its cost is paid once.
"""

import collections
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import soundfile
from common import arguments, cores, median, report

from nlm_jax.audio import wave
from nlm_jax.data.config import AugmentConfig, DataConfig
from nlm_jax.data.pipeline import train_set
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.prompts import text_format
from nlm_jax.models.presets import preset
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare

SECONDS = 10.0
NOISE, SNR = 0.4, (-10.0, 25.0)  # as in loader.py, which must not import this
LOADER = pathlib.Path(__file__).with_name("loader.py")


def write_files(folder: pathlib.Path, clips: int, kind: str, rate: int) -> list[dict]:
    """Files of tones in noise, 10 to 12 s long, with a question each."""
    rng, rows = np.random.default_rng(0), []
    for i in range(clips):
        time_ = np.arange(round((10 + 2 * rng.random()) * rate)) / rate
        tone = 0.3 * np.sin(2 * np.pi * (300 + 3000 * rng.random()) * time_) + 0.05 * rng.normal(size=len(time_))
        soundfile.write(folder / f"{i}.{kind}", tone.astype(np.float32), rate)
        prompt = "<Audio><AudioHere></Audio> What is the common name for the focal species in the audio?"
        rows.append({"path": f"{i}.{kind}", "prompt": prompt, "text": "Common Chiffchaff", "task": "common-name"})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return rows


def rate_of(batches, clips_in, seconds: float) -> float:
    """Clips per second over about `seconds`, after two batches of warm-up."""
    for batch in itertools.islice(batches, 2):
        clips_in(batch)
    started, clips = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        clips += clips_in(next(batches))
    return clips / (time.perf_counter() - started)


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200, help="number of files")
    parser.add_argument("--kind", choices=("wav", "flac", "ogg", "mp3"), default="flac")
    parser.add_argument("--rate", type=int, default=44_100)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of one measurement")
    args = parser.parse_args(argv)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="data_"))
    try:
        rows, tokenizer, workers = (
            write_files(folder, args.clips, args.kind, args.rate),
            Tokenizer.from_pretrained("embedded"),
            cores(),
        )
        started = time.perf_counter()
        for encoding in ("flac", "pcm16"):
            prepare(PrepareOptions(folder / "rows.jsonl", folder / encoding, encoding=encoding), workers=workers)
        prepared = 2 * args.clips / (time.perf_counter() - started)
        sources = {
            "nlm_jax, FLAC shards": str(folder / "flac"),
            "nlm_jax, 16-bit shards": str(folder / "pcm16"),
            "nlm_jax, 16-bit shards, fsspec": f"file://{folder / 'pcm16'}",
        }
        noise = AugmentConfig(noise_prob=NOISE, noise_snr=SNR)
        fmt = text_format(preset("tiny"), round(SECONDS * 16_000))
        vectors = preset("tiny").qformer.vectors(round(SECONDS * 16_000))
        measured: dict[str, list[float]] = collections.defaultdict(list)
        for _ in range(args.repeats):
            for name, source in sources.items():
                config = DataConfig(
                    train=(source,), seconds=SECONDS, rows=8, row_clips=8, threads=workers, augment=noise
                )
                ours = train_set(config, tokenizer, fmt).batches(0, 0, 1)
                measured[name].append(rate_of(ours, lambda b: int((b.audio_slot >= 0).sum()) // vectors, args.seconds))
                ours.close()
            files = (wave.load(folder / row["path"], seconds=SECONDS) for row in itertools.cycle(rows))
            measured["nlm_jax, from files"].append(workers * rate_of(files, lambda _: 1, args.seconds))
            command = [sys.executable, LOADER, folder, str(workers), str(args.seconds)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            measured["torch DataLoader"].append(float(done.stdout.split()[-1]))
    finally:
        shutil.rmtree(folder)
    rates = {name: median(values) / workers for name, values in measured.items()}
    facts = {"files": f"{args.clips} of {args.kind} at {args.rate} Hz", "workers": workers}
    facts["nlm prepare"] = f"{prepared / workers:.1f} clips/s per core, once"
    facts["from files"] = "decoding alone, one thread, times the cores"
    report("data pipeline, per core", rates, "clips/s", "torch DataLoader", args.json, **facts)


if __name__ == "__main__":
    main()
