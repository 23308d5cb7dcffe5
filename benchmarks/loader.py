"""The torch DataLoader that `data.py` compares with. A module of its own without jax: its workers import it anew."""

import pathlib

import numpy as np
import soundfile
import soxr
import torch

from nlm_jax.data.text import Tokenizer


class Files(torch.utils.data.Dataset):
    """Recordings decoded, mixed, resampled, cut or padded to `samples`, each with its tokens; endless."""

    def __init__(self, folder: pathlib.Path, rows: list[dict], tokenizer: str, samples: int):
        self.folder, self.rows, self.samples = folder, rows, samples
        self.tokenizer, self.name = None, tokenizer

    def __len__(self):
        return 1 << 30

    def __getitem__(self, index):
        self.tokenizer = self.tokenizer or Tokenizer.from_pretrained(self.name)
        row = self.rows[index % len(self.rows)]
        sound, rate = soundfile.read(self.folder / row["path"], dtype="float32", always_2d=True)
        sound = soxr.resample(sound.mean(1), rate, 16_000)[: self.samples]
        sound = np.pad(sound, (0, self.samples - len(sound)))
        return torch.as_tensor(sound), torch.tensor(self.tokenizer.encode(row["prompt"] + row["text"]))


def together(items):
    """A batch: sounds stacked, tokens padded to the longest."""
    ids = torch.nn.utils.rnn.pad_sequence([ids for _, ids in items], batch_first=True)
    return torch.stack([sound for sound, _ in items]), ids


def batches(folder: pathlib.Path, rows: list[dict], tokenizer: str, samples: int, batch: int, workers: int):
    """An endless iterator over batches."""
    files = Files(folder, rows, tokenizer, samples)
    loader = torch.utils.data.DataLoader(
        files, batch, num_workers=workers, collate_fn=together, multiprocessing_context="spawn"
    )
    return iter(loader)
