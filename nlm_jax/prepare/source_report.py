"""What the manifest says of the recordings that clips come from: their rates, ultrasound, and damaged files."""

import collections
from typing import Any

from nlm_jax.audio.parts import ultrasound_notice
from nlm_jax.core.files import printable
from nlm_jax.data.schema import file_of

SHOWN = 5
"""Recordings of a kind that are named."""


class Sources:
    """Counts over the clips of a corpus, which come recording by recording."""

    def __init__(self):
        self.rates: collections.Counter[int] = collections.Counter()
        """Clips by the sample rate of their recording in Hz."""
        self.ultrasound, self.damaged = Named(), Named()
        self._file, self._energy, self._lost = "", 0.0, 0.0

    def add(self, clip: dict[str, Any]) -> None:
        """Counts the clip of a note, see `clips.NOTED`."""
        file = file_of(clip["name"])
        if file != self._file:
            self.finish()
            self._file, self._energy, self._lost = file, 0.0, 0.0
        self.rates[clip["source_rate"]] += 1
        energy = clip.get("power", 0.0) * clip["samples"]
        self._energy += energy
        self._lost += energy * clip.get("above_band", 0.0)
        if clip.get("notice"):
            self.damaged.add(file, f"{file}: {clip['notice']}")

    def finish(self) -> None:
        """Judges the recording whose clips came last."""
        if self._lost > 0.5 * self._energy:
            self.ultrasound.add(self._file, self._file)
        self._energy = self._lost = 0.0

    def described(self) -> dict[str, Any]:
        """For the manifest: `source_rates`, and `ultrasound` and `damaged` if there are any."""
        self.finish()
        summary: dict[str, Any] = {"source_rates": {str(rate): n for rate, n in sorted(self.rates.items())}}
        for name in ("ultrasound", "damaged"):
            if count := getattr(self, name).count:
                summary[name] = {"recordings": count, "first": getattr(self, name).first}
        return summary


class Named:
    """A number of recordings, the first of which are named; each counts once for clips that follow each other."""

    def __init__(self):
        self.count = 0
        self.first: list[str] = []
        self._last = ""

    def add(self, file: str, text: str) -> None:
        """Counts a recording, shown as `text`."""
        if file != self._last:
            self.count, self._last = self.count + 1, file
            self.first += [printable(text)] * (len(self.first) < SHOWN)


def notices(audio: dict[str, Any]) -> list[str]:
    """Warnings about the `audio` of a manifest, a sentence each."""
    lines = []
    if entry := audio.get("ultrasound"):
        lines.append(f"{ultrasound_notice(entry['recordings'])} ({_first(entry)})")
    if entry := audio.get("damaged"):
        lines.append(f"not read whole: {entry['recordings']} recordings ({_first(entry)})")
    return lines


def _first(entry: dict[str, Any]) -> str:
    return "; ".join(entry["first"]) + ("; ..." if entry["recordings"] > len(entry["first"]) else "")
