"""Rows: the arrays of a packed row against the plain sequences, and the plan that fills rows."""

import numpy as np
import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.data.pack import PackItem, RowShape, assemble, fill_rows, shape_for
from nlm_jax.data.planner import Planner, check_fit

CAPACITY = (100, 8, 30)


@pytest.fixture(scope="module")
def items(tokenizer, fmt):
    cases = [("<AudioHere> one?", "yes", 1), ("no audio", "a longer answer", 0), ("<AudioHere>, <AudioHere>", "no", 2)]
    rows_built = []
    for k, (prompt, text, clips) in enumerate(cases):
        audio = tuple(np.full(50 + 10 * c, 0.1 * (k + 1) + 0.01 * c, np.float32) for c in range(clips))
        rows_built.append(PackItem(fmt.sequence(tokenizer, prompt, text, clips), audio))
    return rows_built


def test_a_packed_row_holds_its_examples(items):
    total = sum(len(i.sequence) for i in items)
    shape = RowShape(total + 7, 4, 30, 80)
    rows = assemble([items, items[:1], []], shape, vectors_per_clip=5)
    assert rows["audio"].shape == (3, 4, 80)
    assert rows["tokens"].shape == (3, total + 7)
    at = clip = slot = 0
    for segment, item in enumerate(items, start=1):
        seq, n, m = item.sequence, len(item.sequence), item.sequence.n_answers
        here = slice(at, at + n)
        assert rows["tokens"][0, here].tolist() == seq.tokens
        assert rows["positions"][0, here].tolist() == list(range(n))
        assert (rows["segments"][0, here] == segment).all()
        slots = rows["audio_slot"][0, here]
        assert [s - 5 * clip if s >= 0 else -1 for s in slots] == seq.audio_slot
        for k, wave in enumerate(item.audio):
            np.testing.assert_array_equal(rows["audio"][0, clip + k, : len(wave)], wave)
            assert not rows["audio"][0, clip + k, len(wave) :].any()
        index = rows["answer_index"][0, slot : slot + m]
        assert rows["targets"][0, slot : slot + m].tolist() == seq.tokens[seq.answer_start :]
        np.testing.assert_array_equal(rows["tokens"][0, index + 1], rows["targets"][0, slot : slot + m])
        assert (rows["answer_segment"][0, slot : slot + m] == segment).all()
        at, clip, slot = at + n, clip + seq.n_clips, slot + m
    assert rows["weights"].sum(axis=1).tolist() == [slot, items[0].sequence.n_answers, 0]
    assert (rows["segments"][0, at:] == 0).all()
    assert (rows["audio_slot"][0, at:] == -1).all()
    assert not rows["answer_index"][0, slot:].any()
    assert (rows["audio_length"] == 80).all()  # the reference's dataset masks nothing, in unused slots either
    assert (rows["audio_slot"][2] == -1).all()
    for name, array in rows.items():
        assert array.dtype == (np.float32 if name in ("audio", "weights") else np.int32)


def test_true_lengths_if_requested(items):
    item = PackItem(items[2].sequence, items[2].audio, audio_length=(50, 60))
    rows = assemble([[item]], shape_for([item]), 5)
    assert rows["audio_length"].tolist() == [[50, 60]]
    assert rows["tokens"].shape == (1, len(item.sequence))


def test_rows_that_do_not_hold_their_examples(items):
    for shape, message in (
        (RowShape(10, 4, 30, 80), "a row of 10 tokens"),
        (RowShape(100, 0, 30, 80), "0 clips"),
        (RowShape(100, 4, 1, 80), "1 answer tokens"),
        (RowShape(100, 4, 30, 20), "crop it first"),
    ):
        with pytest.raises(UserError, match=message):
            assemble([items[:1]], shape, 5)
    with pytest.raises(UserError, match="1 placeholders but 0 audio"):
        assemble([[PackItem(items[0].sequence, ())]], RowShape(100, 4, 30, 80), 5)


def random_needs(seed, count, long=0.0):
    rng = np.random.default_rng(seed)
    tokens = np.where(rng.random(count) < long, rng.integers(70, 100, count), rng.integers(8, 40, count))
    return np.stack([tokens, rng.integers(0, 3, count), rng.integers(1, 6, count)], axis=1)


def test_no_row_overflows_and_none_stays_empty():
    needs = random_needs(0, 60)
    row = fill_rows(needs, np.asarray(CAPACITY), 20)
    used = np.zeros((20, 3), int)
    np.add.at(used, row[row >= 0], needs[row >= 0])
    assert (used <= CAPACITY).all()
    assert len(set(row[row >= 0])) == 20
    for left in np.flatnonzero(row < 0):  # what was left out really fits nowhere
        assert ((used + needs[left]) > CAPACITY).any(axis=1).all()
    assert (fill_rows(needs, np.asarray(CAPACITY), 1) >= 0).sum() >= 2


def planner(needs, window_rows=32, seed=0):
    return Planner(lambda p: needs[p % len(needs)], CAPACITY, window_rows, seed)


@pytest.mark.parametrize("long", [0.0, 0.3])
def test_plan_keeps_every_example_and_fills_rows(long):
    plan = planner(random_needs(1, 5000, long), window_rows=256)
    windows = [plan.window(w) for w in range(8)]
    for window in windows:
        assert len(window.rows) == 256
        assert (window.used <= CAPACITY).all()
        assert all(window.rows)
    seen = sorted(p for window in windows for row in window.rows for p in row)
    lost = sorted(p for window in windows for p in window.dropped.tolist())
    expected = set(range(8 * plan.per_window)) - set(windows[-1].carried.tolist())
    assert sorted(seen + lost) == sorted(expected)  # once each: none twice, none silently gone
    assert len(lost) <= 0.002 * len(seen)
    assert plan.report(8)["tokens"] > 0.9


def test_a_carried_example_lands_in_the_next_window():
    """Window 1 is made of examples too long for its rows together; what it leaves is in window 2."""
    short, long = np.asarray([[20, 1, 2]]), np.asarray([[60, 1, 2]])
    base = planner(short, window_rows=8)
    count = base.per_window
    needs = lambda p: np.where((p // count == 30)[:, None], long, short)  # noqa: E731
    plan = Planner(needs, CAPACITY, 8, 0)
    assert plan.per_window == count
    crowded, after = plan.window(30), plan.window(31)
    assert len(crowded.carried) == count - 8
    placed = {p for row in after.rows for p in row}
    assert set(crowded.carried.tolist()) == (placed | set(after.dropped.tolist())) - set(range(31 * count, 32 * count))


def test_a_row_depends_on_seed_and_number_alone():
    needs = random_needs(2, 3000)
    first, second = planner(needs), planner(needs)
    ahead = [second.row(r) for r in (500, 3, 77, 501, 0)]
    assert ahead == [first.row(r) for r in (500, 3, 77, 501, 0)]
    other = planner(needs, seed=1)
    assert [other.row(r) for r in range(32)] != [first.row(r) for r in range(32)]


def test_examples_that_fill_a_row_alone():
    plan = planner(np.asarray([[90, 1, 5]]))
    assert plan.per_window == 32
    assert [len(row) for row in plan.window(3).rows] == [1] * 32


def test_too_long_is_named():
    needs = np.asarray([[50, 1, 3], [120, 9, 3], [130, 1, 3]])
    with pytest.raises(UserError, match=r"ex 1: longer than a row, as 2 of 3.*row_tokens=130 \(now 100\).*row_clips=9"):
        check_fit(needs, CAPACITY, lambda e: f"ex {e}")
    check_fit(needs[:1], CAPACITY, str)
