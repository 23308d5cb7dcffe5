"""Batches: pure functions of (seed, number), the same for any hosts, workers and restarts; damaged records replaced."""

import dataclasses
import io
import json
import shutil
import struct

import numpy as np
import pytest
import soundfile

from nlm_jax.core.batch import FIELDS
from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.config import AugmentConfig, DataConfig, MixtureConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.eval_batches import EvalSet
from nlm_jax.data.pipeline import train_set

AUGMENTED = AugmentConfig(
    **{f"{kind}_prob": 0.2 for kind in ("none", "band_stop", "reverb", "gain", "time_shift", "time_scale")},
    mixup_prob=0.5,
    noise_prob=0.5,
)


@pytest.fixture(scope="module")
def config(prepared):
    return DataConfig(
        train=(str(prepared),),
        train_split="train",
        seconds=1.0,
        rows=4,
        row_tokens=256,
        row_clips=6,
        row_answers=96,
        window_rows=16,
        augment=AUGMENTED,
        seed=11,
    )


@pytest.fixture(scope="module")
def data(config, tokenizer, fmt):
    return train_set(config, tokenizer, fmt)


def take(iterator, count):
    try:
        return [next(iterator) for _ in range(count)]
    finally:
        iterator.close()


def same(a, b):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.fixture(scope="module")
def straight(data):
    return take(data.batches(), 10)


def test_shapes_and_content(data, straight):
    for batch in straight:
        assert (batch.rows, batch.clips, batch.length) == (4, 6, 256)
        assert batch.audio.shape == (4, 6, 16000)
        assert np.abs(batch.audio).max() <= 1.0
        assert (batch.weights.sum(axis=1) > 0).all()
        assert (batch.segments.max(axis=1) >= 1).all()
        for row in range(4):  # every clip vector of the row's clips stands somewhere, once
            slots = np.sort(batch.audio_slot[row][batch.audio_slot[row] >= 0])
            np.testing.assert_array_equal(slots, np.arange(len(slots)))
            assert not batch.audio[row, len(slots) // 5 :].any()
    summary = data.summary()
    assert summary["tokens"] > 0.7
    assert (summary["examples"], summary["left_out"]) == (160, 0)
    assert summary["batches_per_epoch"] == pytest.approx(160 / summary["examples_per_row"] / 4)


def test_a_row_is_what_its_plan_says(data, straight, tokenizer):
    """Row 1 of batch 6, put together by hand from the plan and the stream."""
    positions = np.asarray(data.planner.row(6 * 4 + 1))
    examples = data.stream.lookup(positions)
    tokens, segments = straight[6].tokens[1], straight[6].segments[1]
    assert segments.max() == len(examples)
    for segment, (position, example) in enumerate(zip(positions, examples, strict=True), start=1):
        entry, choice = data.corpus.entry(int(example)), data.choose(int(position), int(example))
        text = tokenizer.decode(tokens[segments == segment].tolist())
        assert text.endswith(entry.text if choice.text is None else choice.text)


def test_resumed_equals_straight(data, config, tokenizer, fmt, straight):
    for start in (1, 7):
        for a, b in zip(take(data.batches(start), 2), straight[start:], strict=False):
            same(a, b)
    again = train_set(config, tokenizer, fmt).batches(start=5)  # a new process would open everything anew
    assert again.position == 5
    same(next(again), straight[5])
    assert again.position == 6
    again.close()


def test_seed_decides(config, tokenizer, fmt, straight):
    (other,) = take(train_set(config, tokenizer, fmt, seed=12).batches(), 1)
    assert (other.tokens != straight[0].tokens).any()


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_same_batches(data, straight, hosts):
    """Also a change of hosts under way: batches 3.. read by `hosts` processes continue what one process read."""
    parts = [take(data.batches(3, process, hosts), 2) for process in range(hosts)]
    for step in range(2):
        for name in FIELDS:
            rows = np.concatenate([getattr(part[step], name) for part in parts])
            np.testing.assert_array_equal(rows, getattr(straight[3 + step], name))


def test_threads_and_prefetch_change_nothing(config, tokenizer, fmt, straight):
    for threads, prefetch in ((1, 1), (8, 16)):
        changed = dataclasses.replace(config, threads=threads, prefetch=prefetch)
        for a, b in zip(take(train_set(changed, tokenizer, fmt).batches(), 6), straight, strict=False):
            same(a, b)


def test_worker_processes_change_nothing(data, straight):
    for a, b in zip(take(data.batches(2, workers=2), 4), straight[2:], strict=False):
        same(a, b)
        # Arrays in memory shared with a worker would be leaked by whoever holds them when the process ends.
        assert {type(getattr(a, name)) for name in FIELDS} == {np.ndarray}


def test_split_and_mixture_are_respected(config, tokenizer, fmt):
    mixture = MixtureConfig(domain={"animal": 1.0, "speech": 0.0, "music": 0.0})
    data = train_set(dataclasses.replace(config, mixture=mixture), tokenizer, fmt)
    drawn = [data.corpus.entry(int(e)) for e in np.unique(data.stream.lookup(np.arange(2000)))]
    assert {entry.domain for entry in drawn} == {"animal"}
    # 60 recordings with three questions each, and 15 pairs; every sixth recording is for validation.
    examples = [3 + (k % 4 == 3) for k in range(60) if k % 6 != 5]
    assert len(data.corpus) == len(Corpus(config.train, split="train")) == sum(examples)


def test_augmented_text_is_planned(data):
    """No row overflows although merged questions are longer: their tokens were counted before."""
    positions = np.arange(600)
    sizes, stored = data.sizes(positions), data.stored_sizes[data.stream.lookup(positions)]
    assert (sizes[:, 0] > stored[:, 0]).sum() > 20
    for window in range(3):
        assert (data.planner.window(window).used <= (256, 6, 96)).all()


def test_long_examples(config, data, tokenizer, fmt):
    limit = int(np.sort(data.stored_sizes[:, 0])[-10]) - 1
    short = dataclasses.replace(config, row_tokens=limit)
    with pytest.raises(UserError, match=r"tones: example \d+: longer than a row.*data\.row_tokens=\d+ \(now \d+\)"):
        train_set(short, tokenizer, fmt)
    data = train_set(dataclasses.replace(short, skip_long=True), tokenizer, fmt)
    assert data.skipped > 0
    assert len(data.corpus) + data.skipped == 160
    batches = take(data.batches(), 2)
    assert (batches[0].segments > 0).any()
    with pytest.raises(UserError, match="every example is longer"):
        train_set(dataclasses.replace(short, row_tokens=8, skip_long=True), tokenizer, fmt)


@pytest.mark.parametrize(
    ("field", "value"), [("rows", 0), ("seed", -1), ("seconds", 0.0), ("threads", 0), ("prefetch", -1)]
)
def test_bad_config(field, value):
    with pytest.raises(UserError, match=rf"data\.{field}="):
        DataConfig(**{field: value})
    with pytest.raises(UserError, match=r"data\.augment\.noise_prob=1\.5"):
        AugmentConfig(noise_prob=1.5)
    with pytest.raises(UserError, match=r"noise_snr is \(low, high\)"):
        AugmentConfig(noise_snr=(3.0, 1.0))


def test_rows_must_divide(data):
    with pytest.raises(UserError, match=r"data\.rows=4: does not divide over 3 processes"):
        data.batches(0, 0, 3)


def damage(folder, corpus, clip):
    """Overwrites the bytes of one clip in its shard file."""
    part = corpus.parts[0]
    record = part.clip_records.read(*part.address(clip))
    path = folder / f"clips-{part.address(clip)[0]:05d}.arrayrecord"
    content = path.read_bytes()
    at = content.index(record[60:200])
    path.write_bytes(content[:at] + bytes(100) + content[at + 100 :])


@pytest.fixture
def broken(prepared, tmp_path):
    folder = tmp_path / "tones"
    shutil.copytree(prepared, folder)
    corpus = Corpus([folder])
    for clip in (4, 20, 21):
        damage(folder, corpus, clip)
    return folder


def test_damaged_records_are_named_and_replaced(broken, config, tokenizer, fmt, straight, caplog):
    plain = dataclasses.replace(config, train=(str(broken),), augment=AugmentConfig())
    whole = take(train_set(dataclasses.replace(config, augment=AugmentConfig()), tokenizer, fmt).batches(), 12)
    iterator = train_set(plain, tokenizer, fmt).batches()
    result = take(iterator, 12)
    assert iterator.damaged
    assert all("tones: example" in name and "is damaged" in name for name in iterator.damaged)
    assert sum("damaged example replaced" in message for message in caplog.messages) == len(iterator.damaged)
    changed = 0
    for a, b in zip(result, whole, strict=True):
        assert (a.segments.max(axis=1) == b.segments.max(axis=1)).all()  # as many examples as planned
        changed += sum((a.audio[r] != b.audio[r]).any() for r in range(4))
    assert 0 < changed <= sum(iterator.damaged.values())  # and only those rows differ
    for a, b in zip(take(train_set(plain, tokenizer, fmt).batches(start=4), 3), result[4:], strict=False):
        same(a, b)


def test_damage_under_augmentation(broken, config, tokenizer, fmt):
    """Mixed and silenced examples need other room than the stored ones; what replaces them keeps to the plan."""
    iterator = train_set(dataclasses.replace(config, train=(str(broken),)), tokenizer, fmt).batches()
    batches = take(iterator, 12)
    assert len(iterator.damaged) > 1
    assert all((batch.weights.sum(axis=1) > 0).all() for batch in batches)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_damage(prepared, config, tokenizer, fmt, monkeypatch, value):
    """A record that decodes to them is counted and replaced as one that does not decode, by the very same example."""
    config = dataclasses.replace(config, train=(str(prepared),), augment=AugmentConfig(gain_prob=0.5))
    decode = shards.decode_clip

    def batches(spoilt):
        monkeypatch.setattr(shards, "decode_clip", lambda record, *part: spoilt(record, decode(record, *part)))
        iterator = train_set(config, tokenizer, fmt).batches()
        batch_list = take(iterator, 8)
        return batch_list, dict(iterator.damaged)

    def chosen(record):
        return shards.clip_header(record)[0]["sha256"][0] in "01"

    def not_finite(record, wave):
        if chosen(record):
            wave[len(wave) // 3] = value
        return wave

    def undecodable(record, wave):
        if chosen(record):
            raise shards.CorruptRecord("samples that are NaN or infinite after the step 'stored'")
        return wave

    result, damaged = batches(not_finite)
    expected, others = batches(undecodable)
    assert damaged
    assert {name.split(" (")[0] for name in damaged} == {name.split(" (")[0] for name in others}
    assert sum(damaged.values()) == sum(others.values())
    assert all("NaN or infinite" in name for name in damaged)
    for a, b in zip(result, expected, strict=True):
        same(a, b)
        assert np.isfinite(a.audio).all()


def test_a_record_whose_bytes_are_floats(prepared):
    """What is no FLAC may hold NaN: the record is damaged."""
    corpus = Corpus([prepared])
    header, _ = shards.clip_header(corpus.clip_record(0, 0))
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(header["samples"], np.nan), 16_000, format="WAV", subtype="FLOAT")
    text = json.dumps(header | {"encoding": "flac"}).encode()
    record = shards.MAGIC + struct.pack("<I", len(text)) + text + buffer.getvalue()
    with pytest.raises(shards.CorruptRecord, match="NaN or infinite"):
        shards.decode_clip(record)


def test_a_damaged_recording_of_noise_is_drawn_again(prepared, broken, config, tokenizer, fmt, caplog):
    """It would otherwise fail whatever example stands there, and all that could stand for it."""
    augment = AugmentConfig(noise_dirs=(str(broken),), noise_prob=1.0)
    config = dataclasses.replace(config, train=(str(prepared),), augment=augment)
    iterator = train_set(config, tokenizer, fmt).batches()
    batch_list = take(iterator, 12)
    assert not iterator.damaged
    named = [m for m in caplog.messages if "damaged recording of data.augment left out: " in m]
    assert 0 < len(named) == len(set(named))
    for a, b in zip(take(train_set(config, tokenizer, fmt).batches(start=6), 3), batch_list[6:], strict=False):
        same(a, b)


def test_everything_damaged(prepared, tmp_path, config, tokenizer, fmt):
    folder = tmp_path / "tones"
    shutil.copytree(prepared, folder)
    for file in folder.glob("clips-*.arrayrecord"):
        content = bytearray(file.read_bytes())
        content[40::5000] = bytes(len(content[40::5000]))
        file.write_bytes(content)
    iterator = train_set(dataclasses.replace(config, train=(str(folder),)), tokenizer, fmt).batches()
    with pytest.raises(UserError, match=r"tones: example \d+: damaged, and so are 32 examples"):
        next(iterator)
    iterator.close()


def test_evaluation_keeps_the_order(prepared, tokenizer, fmt):
    corpus = Corpus([prepared], split="valid")
    evaluation = EvalSet(corpus, tokenizer, fmt, rows=8, samples=16000)
    batches = list(evaluation)
    assert len(batches) == len(evaluation) == 5
    numbers = [e for batch_list in batches for e in batch_list.examples]
    assert numbers[: len(corpus)] == list(range(len(corpus)))
    assert set(numbers[len(corpus) :]) == {-1}
    last = batches[-1].batch
    assert not last.weights[len(corpus) % 8 :].any()
    assert (last.weights[: len(corpus) % 8].sum(axis=1) > 0).all()
    for batch_list in batches:
        for row, e in enumerate(batch_list.examples):
            if e >= 0:
                entry, weights = corpus.entry(e), batch_list.batch.weights[row] > 0
                assert tokenizer.decode(batch_list.batch.targets[row][weights].tolist()) == entry.text
                np.testing.assert_array_equal(batch_list.batch.audio[row, 0], corpus.audio(e, 16000)[0])
    hosts = [list(EvalSet(corpus, tokenizer, fmt, 8, 16000, p, 2)) for p in range(2)]
    for whole, *parts in zip(batches, *hosts, strict=True):
        np.testing.assert_array_equal(whole.batch.tokens, np.concatenate([p.batch.tokens for p in parts]))
    assert len(list(EvalSet(corpus, tokenizer, fmt, 8, 16000, limit=9))) == 2


def test_evaluation_leaves_damaged_examples_out(broken, tokenizer, fmt):
    evaluation = EvalSet(Corpus([broken]), tokenizer, fmt, rows=8, samples=16000)
    numbers = [e for batch_list in evaluation for e in batch_list.examples][:195]
    assert numbers.count(-1) == len(evaluation.damaged) >= 9
    assert all(e in (k, -1) for k, e in enumerate(numbers))
