"""Uploads that stall, crawl, or fill what all may hold together: they give way, and good requests do not wait."""

import asyncio
import contextlib
import json
import socket

import httpx
import pytest
from serve_tools import Fake, item, serving
from starlette.requests import ClientDisconnect, Request

from nlm_jax.serve import request_body
from nlm_jax.serve.contract import Refused
from nlm_jax.serve.request_body import Intake


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Windows of a second in the place of ten."""
    monkeypatch.setattr(request_body, "WINDOW", 1.0)
    monkeypatch.setattr(request_body, "IDLE", 0.05)


def request(*parts, **headers):
    """A request whose body comes in these parts: bytes, seconds to wait before the next, or None for ever."""
    coming = list(parts)

    async def receive():
        while coming and isinstance(coming[0], float):
            await asyncio.sleep(coming.pop(0))
        if coming and coming[0] is None:
            await asyncio.Event().wait()
        if coming and coming[0] == "gone":
            return {"type": "http.disconnect"}
        body = coming.pop(0) if coming else b""
        return {"type": "http.request", "body": body, "more_body": bool(coming)}

    fields = [(name.replace("_", "-").encode(), str(value).encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": fields}, receive)


async def read_body(one, *parts, hold=0.0, **headers):
    """The size of the body, or the status it is refused with."""
    try:
        async with one.body(request(*parts, **headers)) as body:
            await asyncio.sleep(hold)
            return len(body)
    except Refused as error:
        return error.status


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_a_body_comes_whole_and_is_let_go():
    async def all_of_it():
        one = Intake(100, 200)
        assert await read_body(one, b"ab", 0.01, b"c", b"") == 3
        assert await read_body(one) == 0
        assert await read_body(one, b"x" * 100) == 100
        assert await read_body(one, b"x" * 60, b"x" * 60, b"x" * 999) == 413
        assert await read_body(one, b"x", content_length=10**30) == 413
        with pytest.raises(ClientDisconnect):
            await read_body(one, b"x", "gone")
        assert one.buffered == 0

    run(all_of_it())


@pytest.mark.parametrize(
    "parts",
    [(b"x" * 90, None), (None,), (*(b for _ in range(60) for b in (b"x", 0.1)), b"x")],
    ids=["stalls", "never begins", "crawls"],
)
def test_a_body_that_comes_too_slowly(parts):
    async def all_of_it():
        one = Intake(100, 200, rate=50)
        assert await read_body(one, *parts) == 408
        assert one.buffered == 0

    run(all_of_it())


def test_a_body_has_a_deadline():
    async def all_of_it():
        one = Intake(10_000, 20_000, rate=1, seconds=0.5)
        steady = [b for _ in range(60) for b in (b"x" * 100, 0.05)]
        assert await read_body(one, *steady) == 408

    run(all_of_it())


def test_a_steady_body_of_the_minimum_rate_is_accepted():
    async def all_of_it():
        one = Intake(10_000, 20_000, rate=100)
        steady = [b for _ in range(15) for b in (b"x" * 40, 0.1)]
        assert await read_body(one, *steady, b"x") == 601

    run(all_of_it())


def test_stalled_uploads_give_way_to_new_ones():
    """Four that send nearly all and wait fill the budget; eighty good ones all get through."""

    async def all_of_it():
        one = Intake(1000, 4000, rate=1e-9)
        stalled = [asyncio.ensure_future(read_body(one, b"x" * 999, None)) for _ in range(4)]
        await asyncio.sleep(0.1)
        assert one.buffered == 3996
        good = [await read_body(one, b"x" * 500, 0.001, b"x" * 400) for _ in range(80)]
        assert set(good) == {900}
        assert one.buffered <= 4000
        # One gave way, the first, and is told to come again.
        assert await asyncio.wait_for(stalled[0], 5) == 503
        for task in stalled[1:]:
            assert not task.done()
            task.cancel()

    run(all_of_it())


def test_the_slowest_of_those_that_send_gives_way():
    async def all_of_it():
        one = Intake(1000, 2000, rate=1)
        drops = [b for _ in range(99) for b in (b"x" * 10, 0.02)]

        async def later():
            await asyncio.sleep(0.2)
            return await read_body(one, b"x" * 900, 0.03, b"x" * 99, hold=0.5)

        assert await asyncio.gather(read_body(one, *drops), later(), later()) == [503, 999, 999]

    run(all_of_it())


def test_stalled_connections_do_not_shut_the_service():
    """Over real sockets: four bodies that never end hold all there is to hold; good requests are answered."""
    body = json.dumps({"schema_version": "predictions_v1", "requests": [item()]}).encode()
    limit = len(body) + 1000
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {limit}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(serving(Fake(), max_body=limit))
        where = ("127.0.0.1", int(address.rsplit(":", 1)[1]))
        stalled = [stack.enter_context(socket.create_connection(where)) for _ in range(4)]
        for one in stalled:
            one.sendall(head + b" " * (limit - 10))
        client = stack.enter_context(httpx.Client(base_url=address))
        while float(client.get("/metrics").text.split("nlm_held_bytes ")[-1].split()[0]) < 4 * (limit - 10):
            pass
        statuses = [client.post("/predict", content=body).status_code for _ in range(20)]
        assert statuses == [200] * 20
        stalled[0].settimeout(20)
        assert stalled[0].recv(12) == b"HTTP/1.1 503"


def test_a_refused_body_that_is_all_there_is_answered_at_once():
    """Nothing more comes of it: to read on would be to wait for the client to go away."""

    async def all_of_it():
        one = Intake(100, 200)

        def whole(size):
            coming = [{"type": "http.request", "body": b"x" * size, "more_body": False}]

            async def receive():
                return coming.pop() if coming else await asyncio.Event().wait()

            return Request({"type": "http", "method": "POST", "headers": []}, receive)

        one.buffered = 150  # of requests that are being answered
        for size, status in ((101, 413), (60, 503)):
            with pytest.raises(Refused) as refused:
                async with asyncio.timeout(request_body.LINGER / 3), one.body(whole(size)):
                    pass
            assert refused.value.status == status
        assert one.buffered == 150

    run(all_of_it())


def test_bodies_that_are_all_there_are_not_dropped():
    """What is being answered stays; then the newcomer is the one that is turned away."""

    async def all_of_it():
        one = Intake(1000, 2000, rate=1)
        readers = [asyncio.ensure_future(read_body(one, b"x" * 1000, hold=1.0)) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert await read_body(one, b"x" * 500) == 503
        assert await asyncio.gather(*readers) == [1000, 1000]
        assert one.buffered == 0

    run(all_of_it())
