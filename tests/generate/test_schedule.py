"""The queue before an engine: bounds, batches, cancellation, closing, and retries after a device failure."""

import concurrent.futures
import gc
import threading
import time
import weakref

import numpy as np
import pytest
from serve_tools import FakeEngine, FakeRequest

from nlm_jax.generate.schedule import Admission, EngineClosed, QueueFull
from nlm_jax.serve.types import ServeQuestion


def until(condition, seconds=20):
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never did"
        time.sleep(0.005)


def echo(question, send):
    """Answers a question with its text."""
    send(question.text)
    return question.text


def request(text="", on_text=None):
    return FakeRequest(ServeQuestion((np.zeros(8, np.float32),), text, 5), on_text)


@pytest.fixture
def engine():
    """`engine(slots, answer, **admission)`: a running one, its batches and its gate."""
    opened = []

    def make(slots, answer=echo, **admission):
        batches, gate = [], threading.Event()
        gate.set()
        opened.append((FakeEngine(slots, Admission(**admission), answer, batches, gate), gate))
        opened[-1][0].start()
        return opened[-1][0], batches, gate

    yield make
    for one, gate in opened:
        gate.set()
        one.close()


def test_no_more_run_than_there_are_slots(engine):
    one, batches, _ = engine(3)
    futures = one.enqueue_all([request(str(i)) for i in range(10)])
    assert [f.result(10) for f in futures] == [str(i) for i in range(10)]
    assert max(map(len, batches)) <= 3
    assert [text for batch in batches for text in batch] == [str(i) for i in range(10)]


def test_the_capacity(engine):
    one, _, gate = engine(1, capacity=3)
    gate.clear()
    one.enqueue(request())
    until(lambda: one.active == 1)
    first, _ = one.enqueue_all([request(), request()])
    with pytest.raises(QueueFull):
        one.enqueue(request())
    first.cancel()
    assert one.waiting == 1
    with pytest.raises(QueueFull):  # all or none
        one.enqueue_all([request(), request()])
    assert one.waiting == 1
    late = one.enqueue(request("late"))  # in the place of the one that was cancelled
    gate.set()
    assert late.result(10) == "late"


def test_an_idle_engine_waits_for_a_batch(engine):
    """The wait ends as soon as there is a request for every slot: this one would be an hour."""
    started = []
    one, _, _ = engine(2, batch_wait=3600.0, on_start=lambda seconds, running: started.append((seconds, running)))
    first = one.enqueue(request("a"))
    assert not concurrent.futures.wait([first], 0.1).done
    second = one.enqueue(request("b"))
    assert [first.result(10), second.result(10)] == ["a", "b"]
    assert [running for _, running in started] == [1, 2]
    assert started[0][0] >= 0.1 > started[1][0] >= 0 or started[0][0] > started[1][0]


def test_cancelling_frees_the_slot(engine):
    one, batches, gate = engine(1)
    gate.clear()
    first = one.enqueue(request("a"))
    until(lambda: one.active == 1)
    second = one.enqueue(request("b"))
    assert first.cancel()
    gate.set()
    assert second.result(10) == "b"
    assert batches == [["b"]]


def test_closing(engine):
    """The step under way is completed; what waits fails, and nothing more is taken."""
    one, _, gate = engine(1)
    gate.clear()
    running = one.enqueue(request("a"))
    until(lambda: one.active == 1)
    waiting = one.enqueue(request("b"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        closing = pool.submit(one.close, EngineClosed("shutting down"))
        with pytest.raises(EngineClosed, match="shutting down"):
            waiting.result(10)
        with pytest.raises(EngineClosed, match="closed"):
            one.enqueue(request())
        gate.set()
        closing.result(10)
    assert running.result(10) == "a"


def test_closing_cancels_by_default(engine):
    one, _, gate = engine(1)
    gate.clear()
    one.enqueue(request("a"))
    until(lambda: one.active == 1)
    waiting = one.enqueue(request("b"))
    gate.set()
    one.close()
    assert waiting.cancelled() or waiting.result() == "b"


def test_after_a_failure_each_request_is_computed_alone(engine):
    """Requests that wait meanwhile are not affected, and start after those."""
    one, batches, gate = engine(3)
    gate.clear()
    futures = one.enqueue_all([request("a"), request("crash"), request("c")])
    until(lambda: one.active == 3)
    futures += one.enqueue_all([request("d"), request("e")])
    gate.set()
    concurrent.futures.wait(futures, 10)
    with pytest.raises(RuntimeError, match="out of memory"):
        futures[1].result()
    assert [f.result() for i, f in enumerate(futures) if i != 1] == ["a", "c", "d", "e"]
    assert batches == [["a", "crash", "c"], ["a"], ["crash"], ["c"], ["d", "e"]]


def test_delivered_text_is_not_computed_again(engine):
    def fails(question, send):
        send("The ")
        raise RuntimeError("lost")

    pieces = []
    one, batches, _ = engine(2, answer=fails)
    streamed = one.enqueue(request("x", pieces.append))
    with pytest.raises(RuntimeError, match="lost"):
        streamed.result(10)
    assert pieces == ["The "]
    assert batches == [["x"]]
    plain = one.enqueue(request("y"))
    with pytest.raises(RuntimeError, match="lost"):
        plain.result(10)
    assert batches == [["x"], ["y"], ["y"]]


def test_recordings_are_freed_with_their_answers(engine):
    """Without the garbage collector, which may run much later."""
    gc.collect()
    gc.disable()
    try:
        one, _, _ = engine(2)
        requests = [request(str(i)) for i in range(9)]
        clips = [weakref.ref(r.question.clips[0]) for r in requests]
        futures = one.enqueue_all(requests)
        del requests
        concurrent.futures.wait(futures, 10)
        until(lambda: one.active == 0)
        until(lambda: sum(clip() is not None for clip in clips) <= 3)  # those of the last step are in variables
    finally:
        gc.enable()
