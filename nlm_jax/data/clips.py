"""The clips of an example as the model hears them: cropped, mixed, changed; each step follows from (seed, position)."""

import dataclasses
import fnmatch
import logging
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float

from nlm_jax.audio import augment
from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.choices import BAND, CROP, GAIN, NOISE, ROOM, SCALE, SHIFT, Choice, generator, listed
from nlm_jax.data.config import AugmentConfig
from nlm_jax.data.dataset import Corpus

log = logging.getLogger(__name__)
TRIES = 32
"""Recordings of noise or rooms that are drawn, should those before be damaged."""
Clips = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """Clips after one of the changes made to them."""

    name: str
    values: dict[str, float]
    """What was drawn for it."""
    clips: Clips


def crop_start(stored: int, samples: int, rng: np.random.Generator) -> int:
    """Where a clip of `stored` samples is cut to `samples`: anywhere it fits."""
    return int(rng.integers(0, stored - samples + 1)) if stored > samples else 0


def _recordings(config: AugmentConfig, field: str, cache_gb: float) -> Corpus | None:
    """The corpus that a field names; None where it names none."""
    directories = getattr(config, field)
    if not directories:
        return None
    corpus = Corpus(directories, cache_gb=cache_gb)
    if not corpus.n_clips.any():
        raise UserError(f"data.augment.{field}: no example there has a recording")
    return corpus.subset(corpus.n_clips > 0)


class Waves:
    """Reads and changes clips. `config.noise_dirs` and `reverb_dirs` are opened at the start."""

    def __init__(self, corpus: Corpus, config: AugmentConfig, samples: int, crop: bool, seed: int):
        self._corpus, self._config = corpus, config
        self._samples, self._crop, self._seed = samples, crop, seed
        self._noise, self._rooms = (
            _recordings(config, name, corpus.cache_gb) for name in ("noise_dirs", "reverb_dirs")
        )
        self._damaged: set[str] = set()
        kinds = ("noise", "time_scale", "time_shift", "band_stop", "reverb", "gain")
        self._spared = {kind: listed(corpus.tasks, getattr(config, f"{kind}_except")) for kind in kinds}

    def clips(self, choice: Choice, position: int) -> Clips:
        """Per clip f32[T], within [-1, 1].

        Raises:
          CorruptRecord: a record is damaged, or samples are NaN or infinite, as they are stored or after a change.
        """
        clips: Clips = ()
        for step in self.steps(choice, position):
            clips = step.clips
            if not all(np.isfinite(clip).all() for clip in clips):
                raise shards.CorruptRecord(f"samples that are NaN or infinite after the step {step.name!r}")
        return clips

    def steps(self, choice: Choice, position: int) -> Iterator[Step]:
        """The clips as they are stored (cropped and padded), then after each change that is drawn for them."""
        rng = self._rng(position, CROP)
        count = int(self._corpus.n_clips[choice.example])
        records = [self._corpus.clip_record(choice.example, k) for k in range(count)]
        clips = tuple(self._decode(self._corpus, choice.example, k, r, rng) for k, r in enumerate(records))
        yield Step("stored", {}, clips)
        if choice.silenced:
            rng = self._rng(position, NOISE)
            clips = tuple(augment.limit(self._noise_wave(rng)) for _ in clips)
            yield Step("none", {}, clips)
        else:
            for step in self._sounding(choice, position, clips, records, rng):
                clips = step.clips
                yield step
        if rng := self._drawn("gain", choice, position, GAIN):
            db = rng.uniform(*self._config.gain)
            yield Step("gain", {"dB": db}, tuple(augment.gain(clip, db) for clip in clips))

    def _sounding(
        self, choice: Choice, position: int, clips: Clips, records: list[bytes], crop: np.random.Generator
    ) -> Iterator[Step]:
        """What happens to recordings whose sounds the answer is about. `crop` goes on with the partners' crops."""
        config = self._config
        if choice.partners:
            clips = (augment.mix([clips[0], *(self._read(self._corpus, p, 0, crop) for p in choice.partners)]),)
            yield Step("mixup", {"partners": len(choice.partners)}, clips)
        if rng := self._drawn("time_scale", choice, position, SCALE):
            factor = config.time_scale ** (2.0 * rng.random() - 1.0)
            clips = tuple(augment.time_scale(clip, factor, rng.random()) for clip in clips)
            yield Step("time_scale", {"factor": factor}, clips)
        if rng := self._drawn("time_shift", choice, position, SHIFT):
            by = [config.time_shift * rng.random() for _ in clips]
            clips = tuple(augment.shift(clip, share) for clip, share in zip(clips, by, strict=True))
            yield Step("time_shift", {"share": by[0]} if by else {}, clips)
        if rng := self._drawn("band_stop", choice, position, BAND):
            centre = float(np.exp(rng.uniform(*np.log(config.band_stop))))
            octaves = rng.uniform(*config.band_stop_octaves)
            clips = tuple(augment.band_stop(clip, centre, octaves) for clip in clips)
            yield Step("band_stop", {"Hz": centre, "octaves": octaves}, clips)
        if rng := self._drawn("reverb", choice, position, ROOM):
            response, values = self._room(rng)
            clips = tuple(augment.reverb(clip, response) for clip in clips)
            yield Step("reverb", values, clips)
        if (rng := self._drawn("noise", choice, position, NOISE)) and not self._spared_path(records):
            snr = rng.uniform(*config.noise_snr)
            clips = tuple(augment.add_noise(clip, self._noise_wave(rng), snr) for clip in clips)
            yield Step("noise", {"SNR dB": snr}, clips)

    def _rng(self, position: int, kind: int) -> np.random.Generator:
        return generator(self._seed, position, kind)

    def _drawn(self, name: str, choice: Choice, position: int, kind: int) -> np.random.Generator | None:
        """The random numbers of a change that is made here, behind the one that said so; None where it is not made."""
        prob = getattr(self._config, f"{name}_prob")
        if not prob or self._spared[name][self._corpus.task[choice.example]]:
            return None
        rng = self._rng(position, kind)
        return rng if rng.random() < prob else None

    def _spared_path(self, records: list[bytes]) -> bool:
        patterns = self._config.noise_except_paths
        names = [shards.clip_header(record)[0]["name"] for record in records] if patterns else ()
        return any(fnmatch.fnmatchcase(f"/{name.removeprefix('/')}", pattern) for name in names for pattern in patterns)

    def _read(self, corpus: Corpus, example: int, number: int, rng: np.random.Generator) -> Float[np.ndarray, "T"]:
        return self._decode(corpus, example, number, corpus.clip_record(example, number), rng)

    def _decode(
        self, corpus: Corpus, example: int, number: int, record: bytes, rng: np.random.Generator
    ) -> Float[np.ndarray, "T"]:
        """The clip in `record`, cropped or padded."""
        stored = corpus.clip_samples(example)[number]
        start = crop_start(stored, self._samples, rng) if self._crop else 0
        wave = shards.decode_clip(record, start, self._samples)
        if wave.size == self._samples:
            return wave
        padded = np.zeros(self._samples, np.float32)
        padded[: wave.size] = wave
        return padded

    def _noise_wave(self, rng: np.random.Generator) -> Float[np.ndarray, "T"]:
        if self._noise is None:
            return augment.coloured_noise(rng, self._samples)
        return self._intact(self._noise, rng, lambda number: self._read(self._noise, number, 0, rng))[1]

    def _room(self, rng: np.random.Generator) -> tuple[Float[np.ndarray, "R"], dict[str, float]]:
        """An impulse response, and what is to be said of it."""
        if self._rooms is None:
            seconds, ratio = rng.uniform(*self._config.reverb_seconds), rng.uniform(*self._config.reverb_ratio)
            return augment.room(rng, seconds, ratio), {"seconds": seconds, "direct dB": ratio}
        number, clip = self._intact(self._rooms, rng, lambda number: self._rooms.clip(number, 0))
        return clip, {"response": number}

    def _intact(
        self, corpus: Corpus, rng: np.random.Generator, read: Callable[[int], np.ndarray]
    ) -> tuple[int, Float[np.ndarray, "T"]]:
        """A recording drawn of a corpus of noise or rooms; a damaged one is named, once, and another is drawn.

        Raises:
          CorruptRecord: so were all that were drawn.
        """
        for _ in range(TRIES):
            number = int(rng.integers(len(corpus)))
            try:
                return number, read(number)
            except shards.CorruptRecord as error:
                name = f"{corpus.name(number)} ({error})"
            if name not in self._damaged:
                self._damaged.add(name)
                log.warning("damaged recording of data.augment left out: %s", name)
        raise shards.CorruptRecord(f"{name}; and so are {TRIES - 1} others that were drawn in its place")
