"""The torch DataLoader that `data.py` compares with, in its own process: its workers fork, which is unsafe with jax.

python loader.py FOLDER WORKERS SECONDS      # prints clips/s
"""

import json
import pathlib
import sys
import time

import numpy as np
import soundfile
import soxr
import torch

from nlm_jax.data.text import Tokenizer

SAMPLES, BATCH = 160_000, 32
NOISE, SNR = 0.4, (-10.0, 25.0)  # share of clips that get noise, and its level below the sound in dB


class Files(torch.utils.data.Dataset):
    """Recordings decoded, mixed, resampled, cut or padded to 10 s, each with its tokens."""

    def __init__(self, folder: pathlib.Path, length: int):
        self.folder, self.length = folder, length
        self.rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
        self.tokenizer = Tokenizer.from_pretrained("embedded")

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        row = self.rows[index % len(self.rows)]
        sound, rate = soundfile.read(self.folder / row["path"], dtype="float32", always_2d=True)
        sound = soxr.resample(sound.mean(1), rate, 16_000)[:SAMPLES]
        sound = np.pad(sound, (0, SAMPLES - len(sound)))
        rng = np.random.default_rng(index)
        if rng.random() < NOISE:  # the same tilted noise that nlm_jax adds without noise recordings
            spectrum = np.fft.rfft(rng.standard_normal(SAMPLES))
            spectrum[1:] /= np.arange(1, spectrum.size) ** rng.uniform(0.0, 1.0)
            noise = np.fft.irfft(spectrum, SAMPLES).astype(np.float32)
            noise_power = np.mean(sound**2) / 10 ** (rng.uniform(*SNR) / 10)
            sound = sound + noise * np.sqrt(noise_power / np.mean(noise**2), dtype=np.float32)
            sound = sound / max(1.0, float(np.abs(sound).max()))
        return torch.as_tensor(sound), torch.tensor(self.tokenizer.encode(row["prompt"] + row["text"]))


def collate(items):
    """A batch: sounds stacked, tokens padded to the longest."""
    ids = torch.nn.utils.rnn.pad_sequence([ids for _, ids in items], batch_first=True)
    return torch.stack([sound for sound, _ in items]), ids


def rate(folder: pathlib.Path, workers: int, seconds: float) -> float:
    """Clips per second over about `seconds`, without the start of the workers."""
    batches = 2 + max(1, round(seconds * workers * 12))  # enough for the fastest format in that time
    loader = torch.utils.data.DataLoader(Files(folder, batches * BATCH), BATCH, num_workers=workers, collate_fn=collate)
    clips, started = 0, None
    for number, (sounds, _) in enumerate(loader):
        if number == 1:
            started = time.perf_counter()
        elif number > 1:
            clips += len(sounds)
            if time.perf_counter() - started > seconds:
                break
    return clips / (time.perf_counter() - started)


if __name__ == "__main__":
    print(rate(pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
