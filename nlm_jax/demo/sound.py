"""Synthesis of waveforms from parameters: animal phrases, formant speech, instruments and weather. Plain numpy."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.signal import sosfilt

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.demo.species import Note, Phrase

Wave = Float[np.ndarray, "T"]
CONTROL = 64  # samples between two values of a slow parameter
CEILING = 7600.0  # Hz: partials above would alias or fall out of the filter bank


@dataclasses.dataclass(frozen=True)
class Voice:
    """Parameters of an individual: pitch and tempo factors, spectral tilt per partial."""

    pitch: float
    tempo: float
    tilt: float

    @classmethod
    def draw(cls, rng: np.random.Generator, pitch: float | None = None) -> "Voice":
        """A random individual; `pitch` fixes its pitch factor (used to distinguish members of a group)."""
        random_pitch = 2.0 ** rng.uniform(-0.08, 0.08)
        return cls(random_pitch if pitch is None else pitch, 2.0 ** rng.uniform(-0.08, 0.08), rng.uniform(-0.25, 0.25))


def envelope(samples: int, attack: float = 0.012, release: float = 0.02) -> Wave:
    """Amplitude envelope with an attack and a release in seconds, at most a third of the note each."""
    up = max(2, min(int(attack * SAMPLE_RATE), samples // 3))
    down = max(2, min(int(release * SAMPLE_RATE), samples // 3))
    shape = np.ones(samples, np.float32)
    shape[:up] = np.sin(np.linspace(0, np.pi / 2, up)) ** 2
    shape[-down:] *= np.cos(np.linspace(0, np.pi / 2, down)) ** 2
    return shape


def synthesise_vocal_note(note: Note, voice: Voice, rng: np.random.Generator) -> Wave:
    """One note by one individual, peak about 1."""
    n = max(64, int(note.seconds / voice.tempo * SAMPLE_RATE))
    t = np.arange(n, dtype=np.float32) / SAMPLE_RATE
    jitter = 2.0 ** rng.normal(0, 0.015)
    knots = np.log2(np.asarray(note.hz) * voice.pitch * jitter)
    hz = 2.0 ** smooth(knots, n)
    if note.warble[1]:
        hz = hz * (1 + note.warble[1] * np.sin(2 * np.pi * note.warble[0] * voice.tempo * t))
    phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE
    wave = np.zeros(n)
    for k, amplitude in enumerate(note.partials, 1):
        audible = np.clip((CEILING - k * hz) / 400, 0, 1)
        if audible.any():
            wave += amplitude * k**voice.tilt * audible * np.sin(k * phase)
    wave /= sum(note.partials)
    if note.buzz:
        # Noise shifted to the pitch: a slow random amplitude and phase on the same carrier.
        slow = noise_band(rng, n, 60, min(900.0, 0.25 * float(hz.mean())))
        wave = (1 - note.buzz) * wave + note.buzz * 1.5 * np.sin(phase + 3 * slow) * np.abs(1 + slow) * 0.5
    if note.pulse[1]:
        rate, depth = note.pulse
        wave *= 1 - depth * (0.5 + 0.5 * np.cos(2 * np.pi * rate * voice.tempo * t)) ** 1.5
    return (wave * envelope(n)).astype(np.float32)


def smooth(knots: np.ndarray, n: int) -> np.ndarray:
    """Interpolates the knots with half cosines to `n` samples."""
    if len(knots) == 1:
        return np.full(n, knots[0])
    position = np.linspace(0, len(knots) - 1, n)
    left = np.minimum(position.astype(int), len(knots) - 2)
    blend = 0.5 - 0.5 * np.cos(np.pi * (position - left))
    return knots[left] * (1 - blend) + knots[left + 1] * blend


def noise_band(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    """Gaussian noise between two frequencies, unit variance."""
    return coloured(rng, n, lambda hz: (hz >= low) & (hz <= high))


def coloured(rng: np.random.Generator, n: int, shape: Callable) -> np.ndarray:
    """Gaussian noise, f32[n] of unit variance, whose spectrum has the magnitude `shape(hz)`."""
    hz = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    spectrum = rng.standard_normal((2, len(hz)), dtype=np.float32) * shape(hz).astype(np.float32)
    wave = np.fft.irfft(spectrum[0] + 1j * spectrum[1], n)
    return wave / (wave.std() + 1e-9)


def vocalise(phrase: Phrase, voice: Voice, rng: np.random.Generator) -> Wave:
    """Waveform of a phrase with a random number of repetitions."""
    parts, times = [], int(rng.integers(phrase.times[0], phrase.times[1] + 1))
    for turn in range(times):
        for note in phrase.notes:
            loud = 10 ** (rng.normal(0, 1.0) / 20)
            parts += [
                loud * synthesise_vocal_note(note, voice, rng),
                silence(note.gap / voice.tempo * rng.uniform(0.9, 1.1)),
            ]
        if turn + 1 < times:
            parts.append(silence(phrase.pause / voice.tempo * rng.uniform(0.8, 1.2)))
    return np.concatenate(parts).astype(np.float32)


def silence(seconds: float) -> Wave:
    """Zeros."""
    return np.zeros(max(0, int(seconds * SAMPLE_RATE)), np.float32)


# Weather and machines: (colour exponent of the spectrum, low Hz, high Hz, slow gusts per second).
BACKGROUNDS = {
    "wind": (1.6, 40, 900, 0.8),
    "rain": (0.0, 900, 7800, 0.0),
    "a stream": (0.7, 250, 4000, 4.0),
    "traffic": (1.2, 40, 350, 0.3),
}


def background(kind: str, samples: int, rng: np.random.Generator) -> Wave:
    """Environmental noise of unit RMS."""
    colour, low, high, gusts = BACKGROUNDS[kind]

    def shape(hz):
        inside = np.where((hz >= low) & (hz <= high), np.maximum(hz, low) ** (-colour / 2), 0)
        return inside + 0.03 * inside.max()  # no frequency is silent outdoors

    wave = coloured(rng, samples, shape)
    if gusts:
        knots = rng.uniform(0.3, 1.2, max(2, int(samples / SAMPLE_RATE * gusts) + 2))
        wave *= smooth(knots, samples)
    if kind == "rain":
        drops = (rng.random(samples) < 60 / SAMPLE_RATE) * rng.exponential(12, samples)
        wave = wave + sosfilt(np.array([[1, 0, 0, 1, -0.88, 0]]), drops)
    return (wave / np.sqrt(np.mean(wave**2) + 1e-12)).astype(np.float32)


# --- speech: a pulse source through three formants -----------------------------------------------
VOWELS = {
    "i": (290, 2300, 3000),
    "e": (520, 1850, 2500),
    "a": (780, 1250, 2500),
    "o": (480, 850, 2450),
    "u": (320, 750, 2300),
    "w": (300, 620, 2300),
    "r": (380, 1150, 1650),
    "n": (260, 1400, 2500),
}
HISS = {
    "s": (4200, 7600),
    "f": (1500, 7000),
    "t": (3000, 7600),
    "k": (1500, 3000),
    "z": (4200, 7600),
    "x": (1800, 3500),
}
WORDS = {
    "zero": "ziiroo",
    "one": "wwaann",
    "two": "ttuuuu",
    "three": "ffrriii",
    "four": "ffoorr",
    "five": "ffaaiiv",
    "six": "ssixkss",
    "seven": "ssevvenn",
    "eight": "eeiitt",
    "nine": "nnaainn",
}


def synthesise_word(word: str, voice: Voice, base: float, rng: np.random.Generator) -> Wave:
    """A word of formant speech; `base` is the speaker's pitch in Hz, `voice.pitch` the length of the vocal tract."""
    letter_seconds = 0.075 / voice.tempo
    letters = [c if c in VOWELS or c in HISS else "u" for c in WORDS[word]]
    n = int(letter_seconds * len(letters) * SAMPLE_RATE)
    centres = np.array([VOWELS.get(c, VOWELS["e"]) for c in letters], float) * voice.pitch
    tracks = [smooth(np.log2(centres[:, k]), n) for k in range(3)]
    pitch = base * 2.0 ** (smooth(np.array([0.08, 0.12, -0.15]), n) + rng.normal(0, 0.03))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    # Gains of all harmonics at a control rate, then one sine each: formants move slowly.
    k = np.arange(1, int(4000 / base) + 1)[:, None]
    slow = slice(None, None, CONTROL)
    gains = sum(
        weight / (1 + ((k * pitch[slow] - 2.0 ** track[slow]) / width) ** 2)
        for track, width, weight in zip(tracks, (90, 120, 180), (1.0, 0.6, 0.3), strict=True)
    )
    gains = np.repeat(gains.astype(np.float32), CONTROL, axis=1)[:, :n]
    wave = (gains * np.sin(k.astype(np.float32) * np.mod(phase, 2 * np.pi).astype(np.float32))).sum(0)
    voiced = smooth(np.array([1.0 if c in VOWELS else 0.05 for c in letters]), n)
    wave *= voiced
    for i, c in enumerate(letters):
        if c in HISS:
            lo, hi = int(i * letter_seconds * SAMPLE_RATE), int((i + 1) * letter_seconds * SAMPLE_RATE)
            wave[lo:hi] += 0.35 * noise_band(rng, hi - lo, *HISS[c]) * envelope(hi - lo)
    wave *= envelope(n, 0.02, 0.05)
    return (wave / (np.abs(wave).max() + 1e-9)).astype(np.float32)


# --- music: (partials, attack s, decay per second, tremolo depth, inharmonicity, breath) ----------
INSTRUMENTS = {
    "flute": ((1, 0.25, 0.08), 0.08, 0.3, 0.25, 0.0, 0.10),
    "violin": ((1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3), 0.10, 0.2, 0.5, 0.0, 0.02),
    "piano": ((1, 0.6, 0.35, 0.2, 0.12, 0.08), 0.004, 4.0, 0.0, 0.0004, 0.0),
    "clarinet": ((1, 0.02, 0.8, 0.02, 0.6, 0.02, 0.4), 0.05, 0.3, 0.0, 0.0, 0.03),
    "marimba": ((1, 0, 0, 0.6, 0, 0, 0, 0, 0, 0.25), 0.003, 14.0, 0.0, 0.0, 0.0),
    "organ": ((1, 0.8, 0, 0.7, 0, 0, 0, 0.5), 0.02, 0.0, 0.0, 0.0, 0.0),
    "bell": ((1, 0.7, 0.6, 0.5), 0.003, 2.5, 0.0, 0.35, 0.0),
    "trumpet": ((0.6, 0.9, 1, 0.9, 0.8, 0.6, 0.5, 0.4, 0.3), 0.04, 0.2, 0.1, 0.0, 0.0),
}


def synthesise_note(instrument: str, hz: float, seconds: float, tilt: float, rng: np.random.Generator) -> Wave:
    """One note of an instrument."""
    partials, attack, decay, tremolo, stretch, breath = INSTRUMENTS[instrument]
    n = int(seconds * SAMPLE_RATE)
    t = np.arange(n) / SAMPLE_RATE
    wobble = 1 + 0.006 * (tremolo > 0) * np.sin(2 * np.pi * 5.5 * t)
    phase, wave = 2 * np.pi * hz * np.cumsum(wobble) / SAMPLE_RATE, np.zeros(n)
    for k, amplitude in enumerate(partials, 1):
        ratio = k * np.sqrt(1 + stretch * k * k) if stretch < 0.1 else k ** (1 + stretch)
        if amplitude and ratio * hz < CEILING:
            wave += amplitude * k**tilt * np.sin(ratio * phase) * np.exp(-decay * t * (0.6 + 0.4 * k))
    wave *= 1 - tremolo * 0.5 * (1 + np.sin(2 * np.pi * 5.5 * t))
    if breath:
        wave += breath * noise_band(rng, n, 800, 5000)
    return (wave * envelope(n, attack, 0.06) / (np.abs(wave).max() + 1e-9)).astype(np.float32)


def mix_into(canvas: Wave, wave: Float[np.ndarray, "n"], start: int, gain: float = 1.0) -> None:
    """Adds `wave` into `canvas` from sample `start`, in place; samples beyond the end are dropped."""
    n = min(len(wave), len(canvas) - start)
    if n > 0:
        canvas[start : start + n] += gain * wave[:n]


def far(wave: Wave, distance: float) -> Wave:
    """Simulates a distance in [0, 1] with a one-pole low-pass, as air and leaves attenuate high frequencies."""
    a = 0.5 * distance
    return sosfilt(np.array([[1 - a, 0, 0, 1, -a, 0]]), wave).astype(np.float32)
