"""Batching across clients, a bounded queue, clients that go away, loading, shutting down, figures, and streams."""

import asyncio
import concurrent.futures
import json
import threading
import time

import pytest
from prometheus_client import parser
from serve_tools import Fake, clip, item, predict, wav

from nlm_jax.core.errors import UserError


def until(true, seconds=20):
    """Waits until something is the case."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def test_clients_share_batches_and_the_queue_is_bounded(served):
    client, model, _ = served
    model.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        waiting = [pool.submit(predict, client, item(str(i), f"q{i}")) for i in range(24)]
        until(lambda: sum(d.done() for d in waiting) >= 12)  # 4 with the model, 8 in the queue
        turned_away = [d.result() for d in waiting if d.done()]
        assert {r.status_code for r in turned_away} == {503}
        assert all(r.headers["retry-after"] for r in turned_away)
        model.gate.set()
        responses = [a.result() for a in waiting]
    for i, response in enumerate(responses):  # each has the answer to its own question
        if response.status_code == 200:
            assert response.json()["responses"][0]["predictions"][0].startswith(f"q{i} |")
    statuses = [r.status_code for r in responses]
    assert set(statuses) == {200, 503}
    assert max(map(len, model.batches)) > 1
    figures = client.get("/metrics").text
    assert "nlm_requests_total 24" in figures
    assert f"nlm_answers_total {statuses.count(200)}" in figures
    assert f"nlm_turned_away_total {statuses.count(503)}" in figures
    assert "nlm_queue_length 0" in figures


def test_a_request_is_admitted_whole_or_not_at_all(served):
    client, model, _ = served
    model.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        first = pool.submit(predict, client, *(item(str(i)) for i in range(4)))
        until(lambda: client.app.state.server.running == 4)
        two = [pool.submit(predict, client, *(item(str(i)) for i in range(3))) for _ in range(2)]
        until(lambda: client.app.state.server.waiting == 6)
        assert predict(client, *(item(str(i)) for i in range(3))).status_code == 503
        assert client.app.state.server.waiting == 6
        model.gate.set()
        assert {f.result().status_code for f in (first, *two)} == {200}


def test_one_that_crashes_takes_no_other_with_it(served):
    client, model, _ = served
    responses = predict(client, item("a"), item("b", "crash"), item("c")).json()["responses"]
    assert ["error" in r for r in responses] == [False, True, False]
    first, *others = model.batches
    assert first == ["What?", "crash", "What?"]
    assert sorted(others) == [["What?"], ["What?"], ["crash"]]


def test_patience_ends(serving):
    model = Fake()
    client = serving(model, patience=0.1)
    model.gate.clear()
    (response,) = predict(client, item()).json()["responses"]
    assert "no answer within 0.1 seconds" in response["error"]
    assert "no answer within 0.1 seconds" in lines(client)[-1]["error"]


def test_figures_are_prometheus_text(served):
    client, *_ = served
    predict(client, item("a"), item("b", ""))
    predict(client, item("a"), item("a"))
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in parser.text_string_to_metric_families(response.text)}
    kinds = {name: family.type for name, family in families.items() if name.startswith("nlm_")}
    assert kinds["nlm_answer_seconds"] == kinds["nlm_queue_seconds"] == kinds["nlm_batch_size"] == "histogram"
    assert kinds["nlm_queue_length"] == kinds["nlm_running"] == kinds["nlm_ready"] == "gauge"
    assert kinds["nlm_answers"] == kinds["nlm_errors"] == "counter"
    assert all(family.documentation for family in families.values())
    by_status = {s.labels["status"]: s.value for s in families["nlm_responses"].samples if s.name.endswith("_total")}
    assert by_status == {"200": 1, "400": 1}
    buckets = [s.value for s in families["nlm_answer_seconds"].samples if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1


def lines(client, body=None):
    """What `/ask` answers."""
    body = body or {key: value for key, value in item().items() if key != "sample_id"}
    response = client.post("/ask", json=body)
    assert response.headers["content-type"].startswith("application/x-ndjson"), response.text
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_streamed_answer(served):
    client, *_ = served
    *pieces, last = lines(client)
    texts = [line["text"] for line in pieces if "text" in line]
    assert len(texts) == 2
    assert "".join(texts) == last["text"] == "What? | heard [16000] of [160000], 50 tokens"
    assert last["done"]
    assert last["finish_reason"] == "stop"
    assert last["latency_sec"] > 0
    assert "RuntimeError" in lines(client, item("x", "crash"))[-1]["error"]


@pytest.mark.parametrize(("bad", "says"), [(item(text=""), "no user message"), (item(audio=[clip("%")]), "not base64")])
def test_questions_of_the_page_that_are_none(served, bad, says):
    client, *_ = served
    response = client.post("/ask", json=bad)
    assert response.status_code == 422
    assert says in response.json()["error"]


@pytest.mark.parametrize("path", ["/predict", "/ask"])
def test_a_client_that_leaves_gives_up_its_place(served, path):
    """Spoken to as an ASGI server would, because a test client never hangs up."""
    client, model, _ = served
    server = client.app.state.server
    model.gate.clear()
    one = {key: value for key, value in item().items() if path == "/predict" or key != "sample_id"}
    body = {"schema_version": "predictions_v1", "requests": [one]} if path == "/predict" else one
    left, sent = threading.Event(), []

    async def receive():
        if not sent:
            sent.append(1)
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        while not left.is_set():
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": [], "http_version": "1.1", "asgi": {}, "scheme": "http", "root_path": ""}  # fmt: skip
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        busy = pool.submit(predict, client, *(item(str(i)) for i in range(4)))
        until(lambda: server.running == 4)
        disconnected = pool.submit(client.portal.call, client.app, scope, receive, send)
        until(lambda: server.waiting == 1)
        left.set()
        disconnected.result(20)
        until(lambda: server.waiting == 0)
        model.gate.set()
        assert busy.result().status_code == 200
    assert sum(map(len, model.batches)) == 4
    assert "nlm_disconnected_total 1" in client.get("/metrics").text


def test_the_server_is_there_while_the_model_loads(serving):
    model = Fake()
    model.loaded.clear()
    client = serving(model)
    until(lambda: client.get("/info").json().get("loading_stage") == "loading weights")
    health = client.get("/health")
    assert health.status_code == 503
    assert health.json()["load_status"] == "loading"
    info = client.get("/info").json()
    assert info["load_status"] == "loading"
    assert info["loading_elapsed_sec"] >= 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # it waits for the model
        early = pool.submit(predict, client, item())
        until(lambda: client.app.state.server.waiting == 1)
        model.loaded.set()
        assert "error" not in early.result().json()["responses"][0]
    assert model.batches == [["What?"]]
    assert client.get("/health").json() == {"status": "ok", "load_status": "ready"}
    assert "loading_stage" not in client.get("/info").json()


@pytest.mark.parametrize(
    ("error", "says"), [(UserError("no such directory"), "no such directory"), (MemoryError("8 GiB"), "MemoryError: 8")]
)
def test_a_model_that_cannot_be_loaded(serving, error, says):
    model = Fake()
    model.failure = error
    client = serving(model)
    until(lambda: client.get("/info").json()["load_status"] == "error")
    health = client.get("/health")
    assert health.status_code == 503
    assert says in health.json()["last_error"]
    response = predict(client, item())
    assert response.status_code == 503
    assert says in response.json()["error"]
    until(lambda: model.failures)
    assert model.failures == [error]


def test_many_bodies_at_once_are_bounded(serving):
    """What all requests hold together has a bound too: four times the largest one."""
    client = serving(Fake(), max_body=300_000)
    server = client.app.state.server
    server.intake.buffered = 4 * 300_000 - 100
    assert predict(client, item()).status_code == 503
    server.intake.buffered = 0
    assert predict(client, item(audio=[clip(wav(2.0))])).status_code == 200


def test_a_stream_begins_while_the_model_loads(serving):
    model = Fake()
    model.loaded.clear()
    client = serving(model)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        early = pool.submit(lines, client)
        until(lambda: client.app.state.server.waiting == 1)
        model.loaded.set()
        first, *_, last = early.result()
    assert first == {"waiting": 1}
    assert last["done"]


def test_as_many_wait_for_the_model_as_for_an_answer(serving):
    model = Fake()
    model.loaded.clear()
    client = serving(model)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        early = [pool.submit(predict, client, *(item(str(i)) for i in range(4))) for _ in range(3)]
        until(lambda: client.app.state.server.waiting == 12)
        assert predict(client, item()).status_code == 503
        model.loaded.set()
        assert [e.result().status_code for e in early] == [200] * 3


def test_patience_ends_while_the_model_loads(serving):
    model = Fake()
    model.loaded.clear()
    client = serving(model, patience=0.1)
    (response,) = predict(client, item()).json()["responses"]
    assert "no answer within 0.1 seconds" in response["error"]
    assert client.app.state.server.waiting == 0


def test_closing_while_the_model_loads(serving):
    model = Fake()
    model.loaded.clear()
    client = serving(model)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        early = pool.submit(predict, client, item())
        until(lambda: client.app.state.server.waiting == 1)
        closing = pool.submit(client.app.state.server.model.close)
        assert early.result(20).status_code == 503
        assert "shutting down" in early.result().json()["error"]
        assert predict(client, item()).status_code == 503
        model.loaded.set()
        closing.result(20)
