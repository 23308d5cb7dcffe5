"""The index of the clips of a prepared directory, gathered from the notes of their shards."""

import array
import pathlib

import numpy as np

from nlm_jax.prepare import notes
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.source_report import Sources
from nlm_jax.prepare.survey import Survey


class ClipIndex:
    """Which recordings have a clip, and where it is: a few numbers per clip.

    Writes `index/clip_digest.npy`, `fingerprint.npy` (u64[F], all clips one after the other) and `fingerprint_end.npy`.

    Args:
      options: of the run.
      survey: its recordings, all of which are in a shard that has a note.
    """

    def __init__(self, options: PrepareOptions, survey: Survey):
        self.places = {key: array.array("i") for key in ("shard", "record", "samples")}
        """Per clip its shard, its record there, and its number of samples."""
        self.digests = array.array("Q")
        """Per clip the first 64 bits of the SHA-256 of its samples."""
        self.recording = array.array("i")
        """Per clip the number of its recording in `survey.paths`."""
        self.clip = array.array("i", [-1]) * len(survey.paths)
        """Per recording the number of its clip; -1 if it was rejected."""
        self.rejected: dict[str, str] = {}
        """Recording -> why it cannot be used."""
        self.files: dict[str, str] = {}
        """Shard file -> its SHA-256."""
        self.cut = 0
        """Clips that are shorter than their recording."""
        self.sources = Sources()
        recording, shard_count = 0, -(-len(survey.paths) // options.shard_size)
        for shard in range(shard_count):
            note = notes.read(options.out, shard)
            self.files[note["file"]] = note["sha256"]
            record = 0
            for entry in note["clips"]:
                if "reason" in entry:
                    self.rejected[entry["name"]] = entry["reason"]
                elif "samples" in entry:
                    self.clip[recording] = len(self.recording)
                    self.recording.append(recording)
                    self.digests.append(int(entry["sha256"][:16], 16))
                    self.cut += entry["cut"]
                    self.sources.add(entry)
                    for key, value in (("shard", shard), ("record", record), ("samples", entry["samples"])):
                        self.places[key].append(value)
                    record += 1
                recording += 1
        np.save(options.out / "index" / "clip_digest.npy", np.frombuffer(self.digests, np.uint64))
        if options.fingerprints:
            _gather_fingerprints(options.out, shard_count)


def _gather_fingerprints(out: pathlib.Path, shard_count: int) -> None:
    """Concatenates the fingerprints of all shards, one shard in memory at a time."""
    files = [notes.fingerprint_file(out, shard) for shard in range(shard_count)]
    ends, totals = [np.zeros(0, np.int64)], [0]
    for file in files:
        with np.load(file) as saved:
            ends.append(saved["end"] + totals[-1])
            totals.append(totals[-1] + len(saved["words"]))
    np.save(out / "index" / "fingerprint_end.npy", np.concatenate(ends))
    if not totals[-1]:  # no audio at all: an empty array cannot be memory-mapped
        np.save(out / "index" / "fingerprint.npy", notes.NO_WORDS)
        return
    words = np.lib.format.open_memmap(out / "index" / "fingerprint.npy", "w+", np.uint64, (totals[-1],))
    for file, first, last in zip(files, totals, totals[1:], strict=False):
        with np.load(file) as saved:
            words[first:last] = saved["words"]
    words.flush()
