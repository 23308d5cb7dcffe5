"""`predictions_v1` over HTTP: the contract, errors of single items, batching across clients, and a bounded queue."""

import base64
import concurrent.futures
import io
import socket
import threading

import numpy as np
import pytest
import soundfile

fastapi = pytest.importorskip("fastapi", reason="the server needs the extra [serve]")
testclient = pytest.importorskip("fastapi.testclient")

from nlm_jax.serve.app import Settings, make_app  # noqa: E402
from nlm_jax.serve.batcher import Batcher, Full, Question  # noqa: E402


class Model:
    """Answers with what it was asked and how much it heard; remembers its batches."""

    def __init__(self):
        self.batches, self.gate = [], threading.Event()
        self.gate.set()

    def generate(self, audios, queries, max_new_tokens, *, batch_size):
        self.gate.wait(10)
        self.batches.append(len(queries))
        if any("crash" in q for q in queries):
            raise RuntimeError("out of memory")
        return [
            f"{q} | {len(a)} clips of {a[0].size}, {int((a[0] != 0).sum())} not silent, {max_new_tokens} tokens"
            for a, q in zip(audios, queries, strict=True)
        ]


def wav(seconds=1.0, rate=16_000, value=0.5):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(round(seconds * rate), value, np.float32), rate, format="WAV")
    return base64.b64encode(buffer.getvalue()).decode()


def item(ident="a", text="What?", audio=None, **config):
    audio = [{"payload_type": "base64_wav", "data": wav(), "sample_rate": 16_000}] if audio is None else audio
    messages = [{"role": "user", "content": text}] if text else []
    return {"sample_id": ident, "messages": messages, "audio_inputs": audio, "generation_config": config}


@pytest.fixture
def served(tmp_path):
    """A client, the model behind it, and the folder it may read."""
    model = Model()
    settings = Settings(name="test", batch_size=4, wait=0.05, queue=8, max_tokens=50, audio_root=tmp_path)
    with testclient.TestClient(make_app(model, settings)) as client:
        yield client, model, tmp_path
        model.gate.set()


def predict(client, *items, **extra):
    return client.post("/predict", json={"schema_version": "predictions_v1", "requests": list(items), **extra})


def test_health_and_info(served):
    client, *_ = served
    assert client.get("/health").status_code == 200
    info = client.get("/info").json()
    assert {"name", "model", "model_revision", "audio_payload_types"} <= set(info)
    assert isinstance(info["model_revision"], str)
    assert info["model_revision"]
    assert info["max_batch_size"] == 4
    assert info["supports_batching"] is True
    assert "predictions_v1" in info["schema_versions"]


def test_an_answer_for_each_item(served):
    client, *_ = served
    found = predict(client, item("x"), item("y", "And now?", max_tokens=7)).json()
    assert found["schema_version"] == "predictions_v1"
    assert [r["sample_id"] for r in found["responses"]] == ["x", "y"]
    assert found["responses"][0]["predictions"] == ["What? | 1 clips of 160000, 16000 not silent, 50 tokens"]
    assert found["responses"][1]["predictions"][0].endswith("7 tokens")


def test_a_short_silent_clip(served):
    client, *_ = served
    audio = [{"payload_type": "base64_wav", "data": wav(0.001, value=0.0), "sample_rate": 16_000}]
    assert "error" not in predict(client, item(audio=audio)).json()["responses"][0]


def test_several_clips_and_length(served):
    client, *_ = served
    audio = [{"payload_type": "base64_wav", "data": wav(3.0, 48_000)} for _ in range(2)]
    text = "<Audio><AudioHere></Audio> or <Audio><AudioHere></Audio>?"
    (found,) = predict(client, item(text=text, audio=audio, max_length_seconds=0.5)).json()["responses"]
    assert "2 clips of 160000, 8000 not silent" in found["predictions"][0]


def test_files_below_the_folder_only(served):
    client, _, folder = served
    soundfile.write(folder / "owl.wav", np.full(8000, 0.5, np.float32), 16_000)
    given = [{"payload_type": "file_path", "data": path} for path in
             ("owl.wav", str(folder / "owl.wav"), "../secret.wav", "/etc/passwd")]  # fmt: skip
    found = predict(client, *(item(str(i), audio=[a]) for i, a in enumerate(given))).json()["responses"]
    assert ["error" in r for r in found] == [False, False, True, True]
    assert "not below the folder" in found[2]["error"]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (item(text=""), "no user message"),
        (item(audio=[]), "give at least one"),
        (item(audio=[{"payload_type": "base64_wav", "data": "%%"}]), "data is not base64"),
        (item(audio=[{"payload_type": "base64_wav", "data": "AAAA"}]), "not readable audio"),
        (item(audio=[{"payload_type": "file_url", "data": "http://x"}]), "'file_url' is not supported"),
        (item(text="<AudioHere> and <AudioHere>"), "2 times <AudioHere> but 1 audio inputs"),
        (item(temperature=0.7), "answers greedily"),
        (item(text="crash"), "RuntimeError: out of memory"),
    ],
)
def test_one_bad_item_is_its_own(served, bad, says):
    client, *_ = served
    response = predict(client, bad | {"sample_id": "bad"}, item("good", max_tokens=9))
    assert response.status_code == 200
    one, two = response.json()["responses"]
    assert says in one["error"]
    assert one["predictions"] == []
    assert two["predictions"]


def test_too_many_at_once_is_said_before_decoding(served):
    client, model, _ = served
    audio = [{"payload_type": "base64_wav", "data": "AA=="}]
    assert predict(client, *(item(str(i), audio=audio) for i in range(5))).status_code == 413
    assert not model.batches


def test_requests_that_are_none(served):
    client, *_ = served
    assert predict(client, item("x"), item("x")).status_code == 400
    assert predict(client, item(), more=1).status_code == 422
    assert client.post("/predict", json={"schema_version": "v0", "requests": []}).status_code == 422
    assert client.post("/predict", content=b"{").status_code == 422


def test_clients_share_batches_and_the_queue_is_bounded(served):
    client, model, _ = served
    model.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(predict, client, item(str(i))) for i in range(24)]
        done, _ = concurrent.futures.wait(asked, timeout=2, return_when=concurrent.futures.FIRST_COMPLETED)
        assert {d.result().status_code for d in done} <= {503}
        model.gate.set()
        statuses = [a.result().status_code for a in asked]
    assert set(statuses) == {200, 503}
    assert max(model.batches) > 1
    figures = client.get("/metrics").text
    assert "nlm_requests_total 24" in figures
    assert f"nlm_answers_total {statuses.count(200)}" in figures
    assert "nlm_queue_length 0" in figures


def test_questions_of_different_shapes_are_not_mixed():
    seen = []

    def answer(questions):
        seen.append({q.shape for q in questions})
        return [q.text for q in questions]

    batcher = Batcher(answer, 4, 0.05, 100)
    questions = [Question((np.zeros(8 + 8 * (i % 2)),), str(i), 5) for i in range(10)]
    futures = [batcher.ask(q) for q in questions]
    assert [f.result(10) for f in futures] == [str(i) for i in range(10)]
    assert all(len(shapes) == 1 for shapes in seen)
    assert len(seen) < 10
    batcher.close()


def test_a_full_queue():
    gate = threading.Event()
    batcher = Batcher(lambda qs: gate.wait(10) and [""] * len(qs), 1, 0.0, 2)
    question = Question((np.zeros(8),), "", 5)
    with pytest.raises(Full):
        [batcher.ask(question) for _ in range(6)]
    gate.set()
    batcher.close()


def test_mistakes(nlm, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = busy.getsockname()[1]
        for flags, says in ((("--port=0",), "--port 0: must be at least 1"), (("--port=70000",), "at most 65535"),
                            (("--audio-root=nowhere",), "no such folder"), ((f"--port={taken}",), "already in use"),
                            (("--host=192.0.2.1",), "cannot listen there"), (("--max-wait-ms=nan",), "ms nan: must"),
                            (("--max-new-tokens=0",), "at least 1")):  # fmt: skip
            status, _, err = nlm("serve", f"--model={tmp_path / 'none'}", *flags)
            assert status == 2
            assert says in err
    status, _, err = nlm("serve", f"--model={tmp_path / 'none'}", f"--port={taken}")
    assert status == 2
    assert "no such file or directory" in err
