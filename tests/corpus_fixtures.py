"""A small corpus, written once: 60 clips of 0.3 to 14 s, three domains, naming, detection, caption and pair tasks."""

import json
import pathlib

import numpy as np
import pytest
import soundfile

SPECIES = ("frog", "robin", "wren", "owl", "cat")


def write_annotations(folder: pathlib.Path, clips: int = 60, seconds=(0.3, 14.0)) -> pathlib.Path:
    rng = np.random.default_rng(5)
    rows = []
    for k in range(clips):
        name, species = f"clip{k:03d}.wav", SPECIES[k % 5]
        t = np.arange(round(16000 * rng.uniform(*seconds))) / 16000
        wave = 0.3 * np.sin(2 * np.pi * (300 + 40 * k) * t) + 0.01 * rng.standard_normal(t.size)
        soundfile.write(folder / name, wave, 16000)
        domain, split = ("animal", "speech", "music")[k % 3], "valid" if k % 6 == 5 else "train"
        common = {"domain": domain, "licence": "CC0", "split": split, "label": species}
        options = f"Which of these, if any, are present? {species}, bat, None"
        extra = [{"task": "common-simple-detection", "prompt": options, "text": species}]
        extra += [
            {"task": "caption", "prompt": "Caption the audio.", "text": f"A {species} calls " + "again " * (k % 9)}
        ]
        rows.append({"path": name, "task": "common-name", "prompt": "What is it?", "text": species, **common})
        rows[-1]["extra_tasks"] = extra
        if k % 4 == 3:
            pair = {
                "files": [name, f"clip{k - 1:03d}.wav"],
                "path": name,
                "id": f"pair{k}",
                "task": "same",
                "text": "no",
            }
            rows.append({**pair, "prompt": "Is it the same individual?", **common})
    file = folder / "annotations.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="session")
def tokenizer():
    from nlm_jax.data.text import Tokenizer

    return Tokenizer.from_pretrained("embedded")


@pytest.fixture(scope="session")
def fmt():
    from nlm_jax.data.text import Format

    return Format(vectors_per_clip=5, max_txt_len=40)


@pytest.fixture(scope="session")
def annotations(tmp_path_factory):
    return write_annotations(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="session")
def prepared(annotations, tmp_path_factory):
    from nlm_jax.prepare.options import PrepareOptions
    from nlm_jax.prepare.pipeline import prepare

    out = tmp_path_factory.mktemp("prepared") / "tones"
    prepare(PrepareOptions(annotations, out, shard_size=16, encoding="pcm16"), workers=2)
    return out
