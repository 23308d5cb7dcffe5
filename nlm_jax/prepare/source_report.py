"""Facts of the manifest about the source recordings of the clips: their rates, ultrasound, and damaged files."""

import collections
from typing import Any

from nlm_jax.audio.parts import ultrasound_notice
from nlm_jax.core.files import printable
from nlm_jax.data.schema import file_of

SHOWN = 5
"""Recordings that are listed at most."""


class Sources:
    """Counts over the clips of a corpus; the clips of one recording follow each other."""

    def __init__(self):
        self.rates: collections.Counter[int] = collections.Counter()
        """Clips by the sample rate of their recording in Hz."""
        self.ultrasound, self.damaged = RecordingList(), RecordingList()
        self._file, self._energy, self._energy_above = "", 0.0, 0.0

    def add(self, clip: dict[str, Any]) -> None:
        """Counts a clip, given its entry in the note of its shard (`write_clips.NOTED`)."""
        file = file_of(clip["name"])
        if file != self._file:
            self._finish_recording()
            self._file = file
        self.rates[clip["source_rate"]] += 1
        energy = clip.get("power", 0.0) * clip["samples"]
        self._energy += energy
        self._energy_above += energy * clip.get("above_band", 0.0)
        if clip.get("notice"):
            self.damaged.add(file, f"{file}: {clip['notice']}")

    def _finish_recording(self) -> None:
        """Decides whether the recording of the last clips has most of its energy above the band."""
        if self._energy_above > 0.5 * self._energy:
            self.ultrasound.add(self._file, self._file)
        self._energy = self._energy_above = 0.0

    def described(self) -> dict[str, Any]:
        """For the manifest: `source_rates`; and `ultrasound` and `damaged` if there are such recordings."""
        self._finish_recording()
        summary: dict[str, Any] = {"source_rates": {str(rate): n for rate, n in sorted(self.rates.items())}}
        for name, recordings in (("ultrasound", self.ultrasound), ("damaged", self.damaged)):
            if recordings.count:
                summary[name] = {"recordings": recordings.count, "first": recordings.first}
        return summary


class RecordingList:
    """The number of recordings of a kind, and a description of the first few."""

    def __init__(self):
        self.count = 0
        self.first: list[str] = []
        self._last = ""

    def add(self, file: str, text: str) -> None:
        """Counts a recording, unless it was the last one; `text` describes it."""
        if file != self._last:
            self.count, self._last = self.count + 1, file
            self.first += [printable(text)] * (len(self.first) < SHOWN)


def notices(audio: dict[str, Any]) -> list[str]:
    """Warnings about the recordings, given the entry `audio` of a manifest."""
    lines = []
    if entry := audio.get("ultrasound"):
        lines.append(f"{ultrasound_notice(entry['recordings'])} ({_first(entry)})")
    if entry := audio.get("damaged"):
        lines.append(f"not read whole: {entry['recordings']} recordings ({_first(entry)})")
    return lines


def _first(entry: dict[str, Any]) -> str:
    return "; ".join(entry["first"]) + ("; ..." if entry["recordings"] > len(entry["first"]) else "")
