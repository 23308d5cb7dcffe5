"""The synthetic corpus: about 3,000 clips with questions and answers, as official JSONL next to FLAC and WAV files.

A clip is first a `Scene` (facts), then a waveform, then rows of (prompt, text, task). Individuals, speakers and
instruments are assigned to one split each, so that none of the held-out ones occurs in training.
"""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import pathlib
from collections.abc import Iterator

import numpy as np
import soundfile
from jaxtyping import Float

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.demo import sound
from nlm_jax.demo.questions import rows
from nlm_jax.demo.scene import FULL, Scene, Sizes
from nlm_jax.demo.species import BY_NAME, SPECIES

SPLITS = ("train", "valid")
SECONDS = 2.0
CHUNK = 64
"""Clips per task of a worker process."""


def scenes(seed: int = 0, sizes: Sizes = FULL) -> Iterator[Scene]:
    """Every scene of the corpus in a fixed order; a pure function of the arguments."""
    rng = np.random.default_rng([seed, 1])
    weather = tuple(sound.BACKGROUNDS)
    number = 0

    def scene(split, domain, who, **facts) -> Scene:
        nonlocal number
        number += 1
        name = f"{domain}/{split}-{number:04d}.{'wav' if number % 8 == 0 else 'flac'}"
        background = facts.pop("background", None) or weather[rng.integers(len(weather))]
        return Scene(name, split, domain, tuple(who), background, seed=seed * 1_000_000 + number, **facts)

    for split_index, split in enumerate(SPLITS):
        for species in SPECIES[: sizes.species]:
            members = [f"{species.common}/{split}/{i}" for i in range(sizes.individuals[split_index])]
            for i, member in enumerate(members):
                for take in range(sizes.recordings):
                    kind = ("song", "call")[(i + take) % 2]
                    yield scene(split, "animal", [member], species=species.common, kind=kind)
            for i in range(sizes.choirs[split_index]):
                who = rng.choice(members, min(len(members), 2 + i % 2), replace=False)
                yield scene(split, "animal", map(str, who), species=species.common, kind=("song", "call")[i // 2 % 2])
        speakers = [f"speaker/{split}/{i}" for i in range(sizes.speakers[split_index])]
        for speaker in speakers:
            for word in sound.WORDS:
                yield scene(split, "speech", [speaker], word=word)
        for _ in range(sizes.dialogues[split_index]):
            yield scene(split, "speech", map(str, rng.choice(speakers, 2, replace=False)))
        for instrument in sound.INSTRUMENTS:
            for i in range(sizes.instruments[split_index]):
                yield scene(split, "music", [f"{instrument}/{split}/{i}"], instrument=instrument)
        for kind in weather:
            for _ in range(sizes.weather[split_index]):
                yield scene(split, "environment", [], background=kind)


def voice_of(who: str, seed: int) -> tuple[sound.Voice, np.random.Generator]:
    """Voice of the individual with an id, the same in all its clips, and its random generator."""
    rng = np.random.default_rng([seed, 2, *who.encode()])
    return sound.Voice.draw(rng), rng


def render(scene: Scene, seed: int = 0, seconds: float = SECONDS) -> Float[np.ndarray, "T"]:
    """The waveform of a scene, f32[T] at 16 kHz in [-1, 1]."""
    rng = np.random.default_rng([seed, 3, scene.seed])
    samples = int(seconds * SAMPLE_RATE)
    canvas = np.zeros(samples, np.float32)
    if scene.domain == "animal":
        _animals(scene, seed, rng, canvas)
    elif scene.domain == "speech":
        _speech(scene, seed, rng, canvas)
    elif scene.domain == "music":
        _music(scene, seed, rng, canvas)
    wave = canvas / (np.abs(canvas).max() + 1e-9)
    alone = scene.domain == "environment"
    level = 0.12 if alone else 0.12 * 10 ** (-rng.uniform(18, 32) / 20)
    wave = (0 if alone else 1) * sound.far(wave, rng.uniform(0, 0.6)) + level * sound.background(
        scene.background, samples, rng
    )
    gain = 10 ** (rng.uniform(-12, -4) / 20)
    return np.clip(gain * wave / max(1.0, float(np.abs(wave).max())), -1, 1).astype(np.float32)


def _animals(scene: Scene, seed: int, rng: np.random.Generator, canvas: np.ndarray) -> None:
    phrase = BY_NAME[scene.species].phrase(scene.kind)
    order = rng.permutation(scene.count)
    for rank, who in zip(order, scene.who, strict=True):
        voice, _ = voice_of(who, seed)
        if scene.count > 1:
            # Members of a group are distinguished by pitch: low, middle and high register.
            register = 2.0 ** (0.5 * (rank - (scene.count - 1) / 2))
            voice = dataclasses.replace(voice, pitch=voice.pitch**0.3 * register)
        vocalisation = sound.vocalise(phrase, voice, rng)
        start = int(rng.uniform(0, 0.25) * SAMPLE_RATE + rank * rng.uniform(0.05, 0.2) * SAMPLE_RATE)
        sound.mix_into(canvas, vocalisation, start, 10 ** (rng.uniform(-3, 0) / 20))


def _speech(scene: Scene, seed: int, rng: np.random.Generator, canvas: np.ndarray) -> None:
    words = [scene.word] * 2 if scene.word else [str(w) for w in rng.choice(list(sound.WORDS), 3)]
    start = int(rng.uniform(0.02, 0.15) * SAMPLE_RATE)
    first = int(rng.integers(2))
    for turn, word in enumerate(words):
        which = (turn + first) % scene.count
        voice, speaker_rng = voice_of(scene.who[which], seed)
        base = speaker_rng.uniform(95, 230)
        if scene.count == 2:
            # Similar voices would sound like one speaker, so a dialogue has a low and a high voice.
            base = (speaker_rng.uniform(85, 115), speaker_rng.uniform(210, 270))[which]
        speech = sound.synthesise_word(word, dataclasses.replace(voice, pitch=1 + 0.5 * (voice.pitch - 1)), base, rng)
        sound.mix_into(canvas, speech, start)
        start += len(speech) + int(rng.uniform(0.03, 0.12) * SAMPLE_RATE)


def _music(scene: Scene, seed: int, rng: np.random.Generator, canvas: np.ndarray) -> None:
    voice, _ = voice_of(scene.who[0], seed)
    start, pitch = int(rng.uniform(0, 0.1) * SAMPLE_RATE), int(rng.integers(0, 13))
    while start < len(canvas):
        pitch = int(np.clip(pitch + rng.choice([-4, -3, -2, 0, 2, 3, 5]), 0, 14))
        seconds = float(rng.choice([0.3, 0.45, 0.6]))
        note = sound.synthesise_note(scene.instrument, 262 * 2 ** (pitch / 12), seconds, voice.tilt, rng)
        sound.mix_into(canvas, note, start)
        start += len(note)


def write(
    folder: str | pathlib.Path, seed: int = 0, sizes: Sizes = FULL, seconds: float = SECONDS, workers: int = 0
) -> dict[str, pathlib.Path]:
    """Writes the corpus below `folder` (audio/..., train.jsonl, valid.jsonl); returns the JSONL path of each split.

    Args:
      workers: processes that synthesise the sounds; 0 uses this one only.
    """
    folder, all_scenes = pathlib.Path(folder), list(scenes(seed, sizes))
    parts = [(folder, all_scenes[i : i + CHUNK], seed, seconds) for i in range(0, len(all_scenes), CHUNK)]
    if workers:
        spawn = multiprocessing.get_context("spawn")  # forking is unsafe with JAX's threads
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn) as pool:
            list(pool.map(_write_audio, *zip(*parts, strict=True)))
    else:
        for part in parts:
            _write_audio(*part)
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for scene in all_scenes:
        for row in rows(scene, seed, SPECIES[: sizes.species]):
            lines[scene.split].append(json.dumps({"path": f"audio/{scene.name}", "split": scene.split} | row))
    paths = {}
    for split in SPLITS:
        paths[split] = folder / f"{split}.jsonl"
        paths[split].write_text("\n".join(lines[split]) + "\n", encoding="utf-8")
    return paths


def _write_audio(folder: pathlib.Path, part: list[Scene], seed: int, seconds: float) -> None:
    for scene in part:
        path = folder / "audio" / scene.name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, render(scene, seed, seconds), SAMPLE_RATE, subtype="PCM_16")
