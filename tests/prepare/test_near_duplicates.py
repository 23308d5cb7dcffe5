"""Recordings that are there twice, in a corpus and in a benchmark: what is found, what is not, and what goes."""

import io
import json

import numpy as np
import pytest
import soundfile
import soxr

from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare import leakage, near_duplicates
from nlm_jax.prepare.fingerprint import fingerprint
from nlm_jax.prepare.near_duplicates import Fingerprints
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare

RATE = 16000


def song(seed, seconds=5.0):
    """Chirps of random pitch, slope and loudness over noise: no two seeds alike."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(RATE * seconds)) / RATE
    out = 0.01 * rng.standard_normal(t.size)
    for _ in range(round(6 * seconds)):
        start, length = rng.uniform(0, seconds), rng.uniform(0.05, 0.4)
        inside = (t >= start) & (t < start + length)
        u = t[inside] - start
        f = rng.uniform(400, 5000) + rng.uniform(-2000, 2000) * u
        out[inside] += rng.uniform(0.05, 0.3) * np.sin(2 * np.pi * f * u) * np.sin(np.pi * u / length)
    return out.astype(np.float32)


def coded(wave, kind, rate=RATE):
    buffer = io.BytesIO()
    format, subtype = {"mp3": ("MP3", "MPEG_LAYER_III"), "ogg": ("OGG", "VORBIS")}[kind]
    soundfile.write(buffer, wave, rate, format=format, subtype=subtype)
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


def resampled(wave, rate):
    return soxr.resample(soxr.resample(wave, RATE, rate), rate, RATE)


def prints(*waves):
    fingerprints = [fingerprint(np.asarray(w, np.float32)) for w in waves]
    return Fingerprints(
        np.concatenate([np.zeros(0, np.uint64), *fingerprints]),
        np.cumsum([len(m) for m in fingerprints], dtype=np.int64),
    )


CHANGES = {
    "gain": lambda x: 0.2 * x,
    "mp3": lambda x: coded(x, "mp3"),
    "ogg": lambda x: coded(x, "ogg"),
    "8 kHz": lambda x: resampled(x, 8000),
    "44.1 kHz as mp3": lambda x: soxr.resample(coded(soxr.resample(x, RATE, 44100), "mp3", 44100), 44100, RATE),
    "0.3 s later": lambda x: x[round(0.3 * RATE) :],
    "0.307 s earlier": lambda x: np.concatenate([np.zeros(round(0.307 * RATE), np.float32), x]),
    "the middle": lambda x: x[RATE : 4 * RATE],
    "quiet, later, ogg": lambda x: coded(0.3 * x[round(0.3 * RATE) :], "ogg"),
    "16 bits": lambda x: np.rint(x * 32768) / 32768,
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_detected(change):
    original, others = song(0), [song(k) for k in range(1, 6)]
    (match,) = near_duplicates.near_matches(prints(*others, original, CHANGES[change](original)))
    assert (match.first, match.second) == (5, 6)
    assert match.errors <= 0.2
    want = {"0.3 s later": 0.3, "0.307 s earlier": -0.307, "the middle": 1.0, "quiet, later, ogg": 0.3}.get(change, 0)
    assert match.offset == pytest.approx(want, abs=0.05)


def test_different_recordings_are_not():
    """Of 1,770 pairs of songs, and with silence, steady tones and white noise next to them, none."""
    t = np.arange(5 * RATE) / RATE
    tones = [0.3 * np.sin(2 * np.pi * f * t) for f in (440, 441, 3000)]
    noise = [np.random.default_rng(100 + k).standard_normal(5 * RATE) * 0.1 for k in range(4)]
    silence = [np.zeros(5 * RATE), np.zeros(4 * RATE), np.zeros(10)]
    assert near_duplicates.near_matches(prints(*(song(k) for k in range(60)), *tones, *noise, *silence)) == []


def test_real_recordings(shared):
    """All pairs of the cuts of one upload: found are the two that a listener finds, under other names."""
    folder = shared / "corpus"
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    names = [row["path"] for row in rows if row["label"] in ("sheep", "pig")]
    recorded = prints(*(soundfile.read(folder / name, dtype="float32")[0] for name in names))
    result = {
        (names[m.first].split("/")[-1], names[m.second].split("/")[-1]) for m in near_duplicates.near_matches(recorded)
    }
    assert result == {
        ("3-253084-B.flac", "3-253084-E.flac"),
        ("3-140199-C.flac", "3-197408-B.flac"),
        ("3-140199-A.flac", "3-197408-A.flac"),
    }


def test_memory_bound_does_not_change_the_matches():
    waves = [*(song(k, 2.0) for k in range(8)), song(3, 2.0) * 0.5]
    matches = near_duplicates.near_matches(prints(*waves))
    assert near_duplicates.near_matches(prints(*waves), frames_at_once=100) == matches
    assert [(m.first, m.second) for m in matches] == [(3, 8)]


def test_nothing_to_compare():
    assert near_duplicates.near_matches(Fingerprints(np.zeros(0, np.uint64), np.zeros(0, np.int64))) == []
    assert near_duplicates.near_matches(prints(song(0))) == []
    assert near_duplicates.exact_copies(np.zeros(0, np.uint64)) == []
    assert near_duplicates.exact_copies(np.asarray([3, 1, 3, 2, 1, 3], np.uint64)) == [[0, 2, 5], [1, 4]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Songs 0 to 4 in training, and copies: of 0 in valid as MP3, of 1 in training, of 2 in valid exactly."""
    folder = tmp_path_factory.mktemp("songs")
    for k in range(6):
        soundfile.write(folder / f"song{k}.wav", song(k, 3.0), RATE)
    soundfile.write(folder / "copy0.mp3", song(0, 3.0), RATE, format="MP3")
    soundfile.write(folder / "copy1.flac", 0.5 * song(1, 3.0), RATE)
    soundfile.write(folder / "copy2.wav", song(2, 3.0), RATE)
    splits = {"copy0.mp3": "valid", "copy2.wav": "valid", "song5.wav": "valid"}
    names = [*(f"song{k}.wav" for k in range(6)), "copy1.flac", "copy0.mp3", "copy2.wav", "song4.wav"]
    rows = [
        {"path": n, "prompt": f"What {k}?", "text": n, "task": "t", "split": splits.get(n, "train"), "id": f"{n}-{k}"}
        for k, n in enumerate(names)
    ]
    rows[-1]["split"] = "test"  # song 4 itself is in two splits
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(out, split):
    corpus = Corpus([out], split=split)
    return sorted(corpus.entry(e).text for e in range(len(corpus)))


PAIRS = {
    ("exact", "song2.wav", "copy2.wav"),
    ("exact", "song4.wav", "song4.wav"),
    ("near", "song0.wav", "copy0.mp3"),
    ("near", "song1.wav", "copy1.flac"),
}


def test_reported(nlm, folder, tmp_path):
    status, printed, _ = nlm("prepare", folder / "rows.jsonl", "--out", tmp_path / "out")
    assert status == 0
    assert "duplicates: exact 0 within, 2 across, near 1 within, 1 across splits; 0 examples dropped" in printed
    entries = lines(tmp_path / "out" / "duplicates.jsonl")
    assert {(e["kind"], e["first"], e["second"]) for e in entries} == PAIRS
    assert all(e["dropped"] == [] for e in entries)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["examples"] == 10
    assert manifest["duplicates"] == {
        "policy": "report",
        "exact": {"within": 0, "across": 2},
        "near": {"within": 1, "across": 1},
        "examples_dropped": 0,
    }


def test_dropped_from_training_only(folder, tmp_path):
    manifest = prepare(PrepareOptions(folder / "rows.jsonl", tmp_path / "out", duplicates="drop"), workers=2)
    assert manifest["duplicates"]["examples_dropped"] == 4
    assert texts(tmp_path / "out", "train") == ["song1.wav", "song3.wav"]
    assert texts(tmp_path / "out", "valid") == ["copy0.mp3", "copy2.wav", "song5.wav"]
    assert texts(tmp_path / "out", "test") == ["song4.wav"]
    dropped = {e["second"]: e["dropped"] for e in lines(tmp_path / "out" / "duplicates.jsonl")}
    assert dropped["copy1.flac"] == ["copy1.flac"]
    assert dropped["copy0.mp3"] == ["song0.wav"]
    one = prepare(PrepareOptions(folder / "rows.jsonl", tmp_path / "one", duplicates="drop", shard_size=3), workers=1)
    assert {k: v for k, v in one.items() if k != "files"} == {k: v for k, v in manifest.items() if k != "files"}


def test_which_splits_are_training(folder, tmp_path):
    options = PrepareOptions(folder / "rows.jsonl", tmp_path / "out", duplicates="drop", training_splits="train, valid")
    prepare(options)
    assert texts(tmp_path / "out", "test") == ["song4.wav"]
    assert texts(tmp_path / "out", "train") == ["song0.wav", "song1.wav", "song2.wav", "song3.wav"]
    assert texts(tmp_path / "out", "valid") == ["song5.wav"]


def test_not_looked_for(folder, tmp_path):
    manifest = prepare(PrepareOptions(folder / "rows.jsonl", tmp_path / "out", duplicates="none"))
    assert "duplicates" not in manifest
    assert not (tmp_path / "out" / "duplicates.jsonl").exists()
    assert not (tmp_path / "out" / "index" / "fingerprint.npy").exists()
    with pytest.raises(UserError, match="prepared without fingerprints; prepare it again"):
        leakage.load(tmp_path / "out")


def test_all_alike(nlm, tmp_path):
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, song(0, 1.0), RATE)
    rows = [
        {"path": n, "prompt": "?", "text": n, "task": "t", "split": s}
        for n, s in (("a.wav", "train"), ("b.wav", "valid"))
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert nlm("prepare", tmp_path / "rows.jsonl", "--out", tmp_path / "out", "--duplicates=drop")[0] == 0
    assert texts(tmp_path / "out", "") == ["b.wav"]


@pytest.fixture(scope="module")
def exam(tmp_path_factory):
    """A benchmark: song 0 as OGG, song 3 itself, a name that training bears as well, and an id."""
    folder = tmp_path_factory.mktemp("exam")
    soundfile.write(folder / "q-0.ogg", song(0, 3.0), RATE, format="OGG", subtype="VORBIS")
    soundfile.write(folder / "q-3.wav", song(3, 3.0), RATE)
    soundfile.write(folder / "Copy1.wav", song(77, 3.0), RATE)
    soundfile.write(folder / "q-9.wav", song(78, 3.0), RATE)
    names, ids = ("q-0.ogg", "q-3.wav", "Copy1.wav", "q-9.wav"), ("b-0", "b-3", "b-1", "song2.wav-2")
    rows = [{"path": n, "prompt": "?", "text": "x", "task": "t", "id": i} for n, i in zip(names, ids, strict=True)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "rows.jsonl"


def test_leakage(nlm, folder, exam, tmp_path):
    out = tmp_path / "out"
    status, printed, _ = nlm("prepare", folder / "rows.jsonl", "--out", out, f"--benchmark={exam}")
    assert status == 0
    assert "benchmark rows.jsonl: 3 clips sound like its own, 2 examples bear its names; 4 examples dropped" in printed
    assert texts(out, "train") == ["song1.wav", "song4.wav"]
    assert texts(out, "valid") == ["copy0.mp3", "copy2.wav", "song5.wav"]  # never touched
    entries = {(e["kind"], e.get("clip") or e["id"]): e for e in lines(out / "leakage.jsonl")}
    assert set(entries) == {
        ("near", "song0.wav"),
        ("near", "copy0.mp3"),
        ("exact", "song3.wav"),
        ("file name", "copy1.flac-6"),
        ("id", "song2.wav-2"),
    }
    assert entries["near", "song0.wav"]["benchmark"] == "q-0.ogg"
    assert entries["near", "song0.wav"]["dropped"]
    assert not entries["near", "copy0.mp3"]["dropped"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["leakage"] == {
        "benchmark": "rows.jsonl",
        "policy": "drop",
        "clips": {"exact": 1, "near": 2},
        "examples": {"file name": 1, "id": 1},
        "examples_dropped": 4,
    }


def test_leakage_reported(folder, exam, tmp_path):
    options = PrepareOptions(
        folder / "rows.jsonl", tmp_path / "out", benchmark=exam, leakage="report", duplicates="none"
    )
    manifest = prepare(options)
    assert (manifest["examples"], manifest["leakage"]["examples_dropped"]) == (10, 0)
    assert len(lines(tmp_path / "out" / "leakage.jsonl")) == 5


def test_other_forms_of_a_benchmark(folder, exam, tmp_path):
    """A prepared directory, and saved fingerprints, find what the recordings find."""
    prepare(PrepareOptions(exam, tmp_path / "exam"))
    leakage.load(exam).save(tmp_path / "exam.npz")
    result = []
    for k, source in enumerate((exam, tmp_path / "exam", tmp_path / "exam.npz")):
        manifest = prepare(PrepareOptions(folder / "rows.jsonl", tmp_path / f"out{k}", benchmark=source))
        result.append({k: v for k, v in manifest["leakage"].items() if k != "benchmark"})
    assert result[0] == result[1] == result[2]


def test_beans_zero_in_parquet(folder, tmp_path):
    """The benchmark as the hub has it: ids, file names and samples are columns."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    waves = [song(0, 3.0), song(90, 3.0), song(91, 3.0)]
    columns = {
        "audio": [wave.tolist() for wave in waves],
        "id": ["b-0", "b-1", "song2.wav-2"],
        "file_name": ["XC1.ogg", "Copy1.wav", "XC3.ogg"],
        **{name: ["x"] * 3 for name in ("instruction", "instruction_text", "output", "dataset_name", "license")},
        "task": ["classification"] * 3,
        "source_dataset": ["XC"] * 3,
        "metadata": ['{"sample_rate": 16000}'] * 3,
    }
    (tmp_path / "data").mkdir()
    parquet.write_table(pyarrow.table(columns), tmp_path / "data" / "test-00000.parquet")
    options = PrepareOptions(folder / "rows.jsonl", tmp_path / "out", benchmark=tmp_path / "data")
    leakage = prepare(options)["leakage"]
    assert leakage["clips"] == {"exact": 0, "near": 2}  # song 0, and its copy in valid
    assert leakage["examples"] == {"file name": 1, "id": 1}
    assert texts(tmp_path / "out", "train") == ["song1.wav", "song3.wav", "song4.wav"]


def test_names_that_say_something():
    for name, want in (
        ("a/5-256452-A.WAV#t=0,5", "5-256452-a"),
        ("x.tar#member=deep/XC12.ogg", "xc12"),
        ("test-00000.parquet#row=3", ""),
        ("C:\\data\\XC12.mp3", "xc12"),
    ):
        assert leakage.stem(name) == want
    fingerprints = leakage.Benchmark(
        "b", frozenset({"17", "xc-17-a"}), ("clip_001.wav", "12.wav", "XC9.wav"), np.zeros(3, np.uint64), prints()
    )
    assert list(fingerprints.stems) == ["xc9"]


def test_bad_benchmarks(nlm, folder, tmp_path):
    (tmp_path / "junk.npz").write_bytes(b"junk")
    (tmp_path / "empty.jsonl").touch()
    for source, sentence in (
        ("nowhere", "no such file or folder"),
        ("junk.npz", "no fingerprints that nlm prepare saved"),
        ("empty.jsonl", "holds no examples"),
    ):
        path = tmp_path / source
        status, _, printed = nlm("prepare", folder / "rows.jsonl", "--out", tmp_path / "out", f"--benchmark={path}")
        assert (status, sentence in printed.strip().splitlines()[-1]) == (2, True), printed
        assert not (tmp_path / "out").exists()


def test_digest_is_that_of_the_header():
    wave = song(0, 0.5)
    assert shards.pcm_digest(wave) == int(shards.encode_clip(wave, "x")[1]["sha256"][:16], 16)
