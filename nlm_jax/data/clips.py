"""The clips of an example as model input: cropped or padded, mixed and augmented; a function of (seed, position)."""

import dataclasses
import fnmatch
import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from nlm_jax.audio import augment
from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.choices import BAND, CROP, GAIN, NOISE, ROOM, SCALE, SHIFT, Choice, generator, matching
from nlm_jax.data.config import AugmentConfig
from nlm_jax.data.dataset import Corpus

log = logging.getLogger(__name__)
ATTEMPTS = 32
"""Noise recordings or impulse responses drawn before giving up, if those drawn are damaged."""
SPARING = ("noise", "time_scale", "time_shift", "band_stop", "reverb", "gain")
"""Augmentations with a field `<name>_except` of tasks that they leave alone."""
Clips = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class ClipStep:
    """The clips of an example after one step of augmentation."""

    name: str
    """`stored`, or the augmentation."""
    parameters: dict[str, float]
    """The values that were drawn for it."""
    clips: Clips


def crop_start(stored: int, samples: int, rng: np.random.Generator) -> int:
    """First sample of a random crop of `samples` samples out of `stored`; 0 if the clip is no longer than that."""
    return int(rng.integers(0, stored - samples + 1)) if stored > samples else 0


class ClipReader:
    """Reads and augments the clips of examples.

    Args:
      corpus: the examples.
      config: of the augmentation; the directories of `noise_dirs` and `reverb_dirs` are opened.
      samples: T, length of every clip.
      crop: longer clips are cropped at random; if false, at their start.
      seed: of everything random.

    Raises:
      UserError: a directory of noise or impulse responses has no recording.
    """

    def __init__(self, corpus: Corpus, config: AugmentConfig, samples: int, crop: bool, seed: int):
        self._corpus, self._config = corpus, config
        self._samples, self._crop, self._seed = samples, crop, seed
        self._noise = _open_recordings(config, "noise_dirs", corpus.cache_gb)
        self._responses = _open_recordings(config, "reverb_dirs", corpus.cache_gb)
        self._reported: set[str] = set()
        self._spared_tasks = {name: matching(corpus.tasks, getattr(config, f"{name}_except")) for name in SPARING}

    def clips(self, choice: Choice, position: int) -> Clips:
        """Per clip f32[T] within [-1, 1], after all steps.

        Args:
          choice: the example, its partners, and whether it is silenced.
          position: in the stream.

        Raises:
          CorruptRecord: a record is damaged, or samples are NaN or infinite, as they are stored or after a step.
        """
        clips: Clips = ()
        for step in self.steps(choice, position):
            clips = step.clips
            if not all(np.isfinite(clip).all() for clip in clips):
                raise shards.CorruptRecord(f"samples that are NaN or infinite after the step {step.name!r}")
        return clips

    def steps(self, choice: Choice, position: int) -> Iterator[ClipStep]:
        """The stored clips, cropped or padded, then the clips after each augmentation that applies here."""
        rng = self._generator(position, CROP)
        count = int(self._corpus.n_clips[choice.example])
        records = [self._corpus.clip_record(choice.example, k) for k in range(count)]
        clips = tuple(self._decode(self._corpus, choice.example, k, r, rng) for k, r in enumerate(records))
        yield ClipStep("stored", {}, clips)
        if choice.silenced:
            rng = self._generator(position, NOISE)
            clips = tuple(augment.limit(self._noise_clip(rng)) for _ in clips)
            yield ClipStep("none", {}, clips)
        else:
            for step in self._augmented(choice, position, clips, records, rng):
                clips = step.clips
                yield step
        if rng := self._applies("gain", choice, position, GAIN):
            db = rng.uniform(*self._config.gain)
            yield ClipStep("gain", {"dB": db}, tuple(augment.gain(clip, db) for clip in clips))

    def _augmented(
        self, choice: Choice, position: int, clips: Clips, records: Sequence[bytes], crop: np.random.Generator
    ) -> Iterator[ClipStep]:
        """Steps that keep the sounds of the recording. `crop` also draws the crops of the partners."""
        config = self._config
        if choice.partners:
            partners = [self._read(self._corpus, partner, crop) for partner in choice.partners]
            clips = (augment.mix([clips[0], *partners]),)
            yield ClipStep("mixup", {"partners": len(choice.partners)}, clips)
        if rng := self._applies("time_scale", choice, position, SCALE):
            factor = config.time_scale ** (2.0 * rng.random() - 1.0)
            clips = tuple(augment.time_scale(clip, factor, rng.random()) for clip in clips)
            yield ClipStep("time_scale", {"factor": factor}, clips)
        if rng := self._applies("time_shift", choice, position, SHIFT):
            shares = [config.time_shift * rng.random() for _ in clips]
            clips = tuple(augment.shift(clip, share) for clip, share in zip(clips, shares, strict=True))
            yield ClipStep("time_shift", {"share": shares[0]} if shares else {}, clips)
        if rng := self._applies("band_stop", choice, position, BAND):
            centre = float(np.exp(rng.uniform(*np.log(config.band_stop))))
            octaves = rng.uniform(*config.band_stop_octaves)
            clips = tuple(augment.band_stop(clip, centre, octaves) for clip in clips)
            yield ClipStep("band_stop", {"Hz": centre, "octaves": octaves}, clips)
        if rng := self._applies("reverb", choice, position, ROOM):
            response, parameters = self._impulse_response(rng)
            clips = tuple(augment.reverb(clip, response) for clip in clips)
            yield ClipStep("reverb", parameters, clips)
        if (rng := self._applies("noise", choice, position, NOISE)) and not self._is_spared_path(records):
            snr = rng.uniform(*config.noise_snr)
            clips = tuple(augment.add_noise(clip, self._noise_clip(rng), snr) for clip in clips)
            yield ClipStep("noise", {"SNR dB": snr}, clips)

    def _generator(self, position: int, kind: int) -> np.random.Generator:
        return generator(self._seed, position, kind)

    def _applies(self, name: str, choice: Choice, position: int, kind: int) -> np.random.Generator | None:
        """The generator that draws the parameters of an augmentation, or None if it does not apply here."""
        prob = getattr(self._config, f"{name}_prob")
        if not prob or self._spared_tasks[name][self._corpus.task[choice.example]]:
            return None
        rng = self._generator(position, kind)
        return rng if rng.random() < prob else None

    def _is_spared_path(self, records: Sequence[bytes]) -> bool:
        """Whether noise leaves the recordings of these records alone, by their names in the annotations."""
        patterns = self._config.noise_except_paths
        names = [shards.clip_header(record)[0]["name"] for record in records] if patterns else ()
        return any(fnmatch.fnmatchcase(f"/{name.removeprefix('/')}", pattern) for name in names for pattern in patterns)

    def _read(self, corpus: Corpus, example: int, rng: np.random.Generator) -> Float[np.ndarray, "T"]:
        """The first clip of an example."""
        return self._decode(corpus, example, 0, corpus.clip_record(example, 0), rng)

    def _decode(
        self, corpus: Corpus, example: int, number: int, record: bytes, rng: np.random.Generator
    ) -> Float[np.ndarray, "T"]:
        """The clip of a record, cropped or padded."""
        stored = corpus.clip_samples(example)[number]
        start = crop_start(stored, self._samples, rng) if self._crop else 0
        wave = shards.decode_clip(record, start, self._samples)
        if wave.size == self._samples:
            return wave
        padded = np.zeros(self._samples, np.float32)
        padded[: wave.size] = wave
        return padded

    def _noise_clip(self, rng: np.random.Generator) -> Float[np.ndarray, "T"]:
        """Noise of a recording drawn from `noise_dirs`, or synthetic noise if there are none."""
        if self._noise is None:
            return augment.coloured_noise(rng, self._samples)
        return self._draw_intact(self._noise, rng, lambda example: self._read(self._noise, example, rng))[1]

    def _impulse_response(self, rng: np.random.Generator) -> tuple[Float[np.ndarray, "R"], dict[str, float]]:
        """An impulse response drawn from `reverb_dirs`, or of a synthetic room, and its parameters."""
        if self._responses is None:
            seconds, ratio = rng.uniform(*self._config.reverb_seconds), rng.uniform(*self._config.reverb_ratio)
            return augment.room(rng, seconds, ratio), {"seconds": seconds, "direct dB": ratio}
        example, response = self._draw_intact(self._responses, rng, lambda example: self._responses.clip(example, 0))
        return response, {"response": example}

    def _draw_intact(
        self, corpus: Corpus, rng: np.random.Generator, read: Callable[[int], np.ndarray]
    ) -> tuple[int, Float[np.ndarray, "T"]]:
        """A random recording of a corpus of noise or impulse responses; damaged ones are reported once and redrawn.

        Returns:
          The example's number and its clip.

        Raises:
          CorruptRecord: all recordings drawn are damaged.
        """
        for _ in range(ATTEMPTS):
            example = int(rng.integers(len(corpus)))
            try:
                return example, read(example)
            except shards.CorruptRecord as error:
                name = f"{corpus.name(example)} ({error})"
            if name not in self._reported:
                self._reported.add(name)
                log.warning("damaged recording of data.augment left out: %s", name)
        raise shards.CorruptRecord(f"{name}; and so are {ATTEMPTS - 1} others that were drawn in its place")


def _open_recordings(config: AugmentConfig, field: str, cache_gb: float) -> Corpus | None:
    """The examples with a recording in the directories of a config field; None if it names no directory."""
    directories = getattr(config, field)
    if not directories:
        return None
    corpus = Corpus(directories, cache_gb=cache_gb)
    if not corpus.n_clips.any():
        raise UserError(f"data.augment.{field}: no example there has a recording")
    return corpus.subset(corpus.n_clips > 0)
