"""What one client does never harms another's answer: numbers that no dtype holds, failures of the model, sizes."""

import base64
import concurrent.futures
import io
import json
import threading
import tracemalloc

import numpy as np
import pytest
import soundfile
from serve_tools import Fake, clip, item, predict, wav

from nlm_jax.serve import contract


class FailsOnce(Fake):
    """Sends a piece of each answer and fails in its first step; later it answers."""

    def answer(self, question, send):
        send("The ")
        if len(self.batches) == 1:
            raise RuntimeError("device lost")
        return super().answer(question, send)


def test_after_a_failure_each_request_is_retried_alone(serving):
    """Also if the model had told its first tokens: of `/predict` nothing has left for the client then."""
    model = FailsOnce()
    client = serving(model)
    responses = predict(client, *(item(f"i{i}", f"q{i}") for i in range(3))).json()["responses"]
    assert [r.get("error") for r in responses] == [None] * 3
    assert [r["predictions"][0].split(" |")[0] for r in responses] == ["q0", "q1", "q2"]
    first, *others = model.batches
    assert sorted(first) == ["q0", "q1", "q2"]
    assert sorted(others) == [["q0"], ["q1"], ["q2"]]


NUMBERS = {
    "top_k": (-1, 2**31, 2**32, 2**63 - 1, 2**63, 10**300, 1.5, True),
    "seed": (-1, 2**32, 2**63, 10**300, 0.5, False),
    "temperature": (-1e-9, 1e39, 10**300, "NaN", "Infinity", True),
    "top_p": (0, -0.1, 1.0001, 10**300, "NaN", True),
    "repetition_penalty": (0, -1, 1e-30, 1e30, 10**300, "NaN", True),
    "max_tokens": (0, -(10**300), 1.0, True),
    "max_length_seconds": (0, -1, "NaN", "Infinity", True),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_invalid_sampling_numbers(serving, name):
    """Each is refused as its own item's error, before it comes to the model."""
    model = Fake()
    client = serving(model, batch_size=16)
    values = [value if isinstance(value, str) else json.dumps(value) for value in NUMBERS[name]]
    items = [json.dumps(item(str(i), **{name: 77777})).replace("77777", value) for i, value in enumerate(values)]
    items = ", ".join([*items, json.dumps(item("good"))])
    content = f'{{"schema_version": "predictions_v1", "requests": [{items}]}}'
    response = client.post("/predict", content=content)
    assert response.status_code == 200, response.text
    *bad, good = response.json()["responses"]
    for responses in bad:
        assert f"generation_config.{name}: " in responses["error"]
        assert len(responses["error"]) < 400
    assert good["predictions"]
    assert model.batches == [["What?"]]


@pytest.mark.parametrize(
    "config",
    [{"top_k": 2**31 - 1}, {"seed": 2**32 - 1}, {"temperature": 1e6}, {"temperature": 5e-324}, {"top_p": 5e-324},
     {"repetition_penalty": 100.0}, {"max_tokens": 10**300}, {"max_length_seconds": 1e300}],
)  # fmt: skip
def test_numbers_at_the_bounds(served, config):
    client, *_ = served
    (response,) = predict(client, item(**config)).json()["responses"]
    assert response["predictions"]


def test_json_that_would_fill_the_memory(served):
    """Small in a body, large once parsed: it is not parsed."""
    client, model, _ = served
    for content in (b"[" + b"[]," * contract.VALUES + b"[]]", b'{"requests": [' + b"0," * contract.VALUES + b"0]}"):
        response = client.post("/predict", content=content)
        assert response.status_code == 413
        assert "values" in response.json()["error"]
    many = [{"payload_type": "base64_wav", "data": ""}] * 5000
    assert predict(client, item("i" * 1001)).status_code == 400
    assert predict(client, item("i" * 1000)).status_code == 200
    model.batches.clear()
    long = predict(client, item("a", "w" * 1_000_001)).json()["responses"][0]["error"]
    assert long == "messages: 1000001 characters, at most 1000000"
    assert "more than the 3" in predict(client, item(audio=many)).json()["responses"][0]["error"]
    assert not model.batches


def test_text_that_is_none(served):
    """Half a character pair, and names and values of any length come back short, and break nothing."""
    client, *_ = served
    assert client.post("/predict", content=b'{"schema_version": "\\ud800"}').status_code == 422
    responses = predict(client, item() | {"x" * 100_000: 1}, item("b", "\0 \u202e \U0001f989")).json()["responses"]
    assert len(responses[0]["error"]) < 600
    assert responses[1]["predictions"][0].startswith("\0 \u202e \U0001f989")


def test_concurrent_decoding_is_bounded(serving, monkeypatch):
    """And what is decoded takes its place in the queue first: more than fits is turned away before."""
    model = Fake()
    client = serving(model, batch_size=4, decoders=2, queue=4)
    inside, most, lock, go = 0, 0, threading.Lock(), threading.Event()
    load = contract.wave.load

    def counted(*args, **options):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        go.wait(20)
        with lock:
            inside -= 1
        return load(*args, **options)

    monkeypatch.setattr(contract.wave, "load", counted)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        requests = [pool.submit(predict, client, *(item(f"{i}{k}") for k in range(4))) for i in range(3)]
        concurrent.futures.wait(requests, 20, concurrent.futures.FIRST_COMPLETED)
        (refused,) = [a for a in requests if a.done()]
        assert refused.result().status_code == 503  # 4 + 4 places, and 12 questions
        go.set()
        assert sorted(a.result().status_code for a in requests) == [200, 200, 503]
    assert most == 2


def test_a_small_file_that_decodes_to_much_takes_little_memory(served):
    """64 channels at 192 kHz: 120 MB of samples as one array; decoded in blocks a part of that."""
    client, *_ = served
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 192_000, 64, format="OGG") as file:
        for _ in range(5):
            file.write(np.zeros((96_000, 64), np.float32))
    data = base64.b64encode(buffer.getvalue()).decode()
    assert len(data) < 200_000
    tracemalloc.start()
    try:
        (response,) = predict(client, item(audio=[clip(data)])).json()["responses"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "error" not in response
    assert peak < 60 << 20


def test_file_names_that_name_no_file(served):
    client, _, folder = served
    (folder / "bird.wav").write_bytes(base64.b64decode(wav()))
    (folder / "Wald").mkdir()

    def ask(path):
        (response,) = predict(client, item(audio=[{"payload_type": "file_path", "data": path}])).json()["responses"]
        return response.get("error")

    for path in ("bird.wav", "./bird.wav", "Wald/../bird.wav", ".//bird.wav"):
        assert ask(path) is None, path
    for path in ("bird.wav/", "bird.wav/.", "x/../bird.wav", "bird.wav/../bird.wav", "bird.wav//"):
        assert ask(path) == "audio_inputs[0]: no such file", path
