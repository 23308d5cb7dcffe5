"""`predictions_v1` over HTTP: what a request may hold, errors of single items, and what refuses a whole request."""

import base64
import io
import json
import os

import numpy as np
import pytest
import soundfile
from serve_tools import Fake, clip, item, predict, wav

from nlm_jax.audio.config import AudioConfig

TWO = "<Audio><AudioHere></Audio> or <Audio><AudioHere></Audio>?"


def test_health_and_info(served):
    client, *_ = served
    predict(client, item())  # answered once the model is there
    assert client.get("/health").status_code == 200
    info = client.get("/info").json()
    assert {"name", "model", "model_revision", "audio_payload_types"} <= set(info)
    assert isinstance(info["model_revision"], str)
    assert info["model_revision"]
    assert info["max_batch_size"] == 4
    assert info["supports_batching"] is True
    assert "predictions_v1" in info["schema_versions"]
    assert info["audio_payload_types"] == ["base64_wav", "file_path"]
    assert info["load_status"] == "ready"
    assert (info["audio_clip_seconds"], info["audio_resampling"]) == (10.0, "HQ")


def test_an_answer_for_each_item(served):
    client, *_ = served
    responses = predict(client, item("x"), item("y", "And now?", max_tokens=3, temperature=0.0, top_x=[1])).json()
    assert set(responses) == {"schema_version", "responses"}
    assert responses["schema_version"] == "predictions_v1"
    one, two = responses["responses"]
    assert one.pop("latency_sec") > 0
    usage = {"prompt_tokens": 40, "completion_tokens": 9}
    text = "What? | heard [16000] of [160000], 50 tokens"
    assert one == {"sample_id": "x", "predictions": [text], "finish_reason": "stop", "usage": usage}
    assert two["predictions"][0].endswith("3 tokens {'temperature': 0.0}")
    assert two["finish_reason"] == "length"
    assert two["usage"]["completion_tokens"] == 3


def test_sampling_is_handed_on(served):
    client, *_ = served
    config = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "seed": 3, "repetition_penalty": 1.1}
    (response,) = predict(client, item(**config)).json()["responses"]
    assert response["predictions"][0].endswith(str(config))


def test_no_items(served):
    client, *_ = served
    assert predict(client).json() == {"schema_version": "predictions_v1", "responses": []}


def test_a_short_silent_clip(served):
    client, *_ = served
    assert "error" not in predict(client, item(audio=[clip(wav(0.001, value=0.0))])).json()["responses"][0]


def test_clips_stay_in_the_order_of_their_placeholders(served):
    client, *_ = served
    audio = [clip(wav(seconds)) for seconds in (0.5, 0.25)]
    (response,) = predict(client, item(text=TWO, audio=audio)).json()["responses"]
    assert "heard [8000, 4000]" in response["predictions"][0]


def test_length_and_the_rate_of_the_header(served):
    """`sample_rate` is nominal: a recording at 48 kHz that is said to be at 16 kHz is still three seconds long."""
    client, *_ = served
    audio = [clip(wav(3.0, 48_000), sample_rate=16_000), clip(wav(12.0, 8_000), sample_rate=44_100)]
    one, two = predict(client, item("a", TWO, audio), item("b", TWO, audio, max_length_seconds=0.5)).json()["responses"]
    assert "heard [48000, 160000] of [160000]" in one["predictions"][0]
    assert "heard [8000, 8000] of [8000]" in two["predictions"][0]


def test_the_clips_of_the_checkpoint(serving):
    """Its own length where nothing is said, never a longer one, a shorter one on request."""
    client = serving(Fake(), audio=lambda: AudioConfig(2.0, "kaiser_best"))
    audio = [clip(wav(3.0, 48_000))]
    requests = [item("a", "A?", audio), item("b", "B?", audio, max_length_seconds=10), item("c", "C?", audio)]
    requests[2]["generation_config"] = {"max_length_seconds": 1.5}
    texts = [one["predictions"][0] for one in predict(client, *requests).json()["responses"]]
    for text, samples in zip(texts, (32_000, 32_000, 24_000), strict=True):
        assert f"of [{samples}]" in text
    info = client.get("/info").json()
    assert (info["audio_clip_seconds"], info["audio_resampling"]) == (2.0, "kaiser_best")


def test_empty_data_is_reported(served):
    client, *_ = served
    (response,) = predict(client, item(audio=[clip("")])).json()["responses"]
    assert "audio_inputs[0]: not readable audio (there is no content)" in response["error"]


def test_base64_in_lines(served):
    client, *_ = served
    data = base64.encodebytes(base64.b64decode(wav())).decode()
    assert "\n" in data
    assert "error" not in predict(client, item(audio=[clip(data)])).json()["responses"][0]


def test_files_below_the_folder_only(served, tmp_path_factory):
    client, _, folder = served
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.wav"
    for file in (folder / "owl.wav", folder / "Wald" / "Käuze 1.wav", secret):
        file.parent.mkdir(exist_ok=True)
        soundfile.write(file, np.full(8000, 0.5, np.float32), 16_000)
    (folder / "inside.wav").symlink_to(folder / "owl.wav")
    (folder / "outside.wav").symlink_to(secret)
    (folder / "up").symlink_to(secret.parent, target_is_directory=True)
    (folder / "round").symlink_to(folder / "round")
    os.mkfifo(folder / "pipe.wav")

    def ask(path):
        (response,) = predict(client, item(audio=[{"payload_type": "file_path", "data": path}])).json()["responses"]
        return response.get("error")

    for path in ("owl.wav", "./Wald/../owl.wav", str(folder / "owl.wav"), "Wald/Käuze 1.wav", "inside.wav"):
        assert ask(path) is None, path
    for path in (
        "../" + secret.parent.name + "/secret.wav",
        str(secret),
        "/etc/passwd",
        "outside.wav",
        "up/secret.wav",
    ):
        assert "not below the folder" in ask(path), path
    for path, says in {"none.wav": "no such file", "Wald": "not a file", "pipe.wav": "not a file", "": "not a file",
                       "a\0b": "no path", "x" * 5000: "no path", "round": "no"}.items():  # fmt: skip
        assert says in ask(path), path
    for path in ("none.wav", "../secret.wav", "Wald"):
        assert str(folder) not in ask(path), "the error tells where the folder lies"


def test_no_files_without_a_folder(serving, tmp_path):
    client = serving(Fake(), audio_root=None)
    assert client.get("/info").json()["audio_payload_types"] == ["base64_wav"]
    (response,) = predict(client, item(audio=[clip("owl.wav", payload_type="file_path")])).json()["responses"]
    assert "reads no files" in response["error"]


def without(name, **changed):
    """An item that lacks a field."""
    return {key: value for key, value in item(**changed).items() if key != name}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (item(text=""), "no user message"),
        (item(text="  \n"), "no user message"),
        (item() | {"messages": [{"role": "system", "content": "Be brief."}]}, "no user message"),
        (item() | {"messages": [{"role": "tool", "content": "x"}]}, "role 'tool' is unknown"),
        (item() | {"messages": [{"role": r, "content": "x"} for r in ("user", "assistant")]}, "is the assistant's"),
        (item() | {"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        (item() | {"messages": "What?"}, "messages: "),
        (item() | {"more": 1}, "more: Extra inputs are not permitted"),
        (without("messages"), "messages: Field required"),
        (without("audio_inputs"), "audio_inputs: Field required"),
        (item() | {"audio_inputs": None}, "audio_inputs: "),
        (item() | {"generation_config": []}, "generation_config: "),
        (item(audio=[]), "give at least one"),
        (item(audio=[clip()] * 4), "4 are more than the 3"),
        (item(audio=["AAAA"]), "audio_inputs.0: "),
        (item(audio=[clip("%%")]), "audio_inputs[0]: data is not base64"),
        (item(audio=[clip("data:audio/wav;base64," + wav())]), "data is not base64"),
        (item(audio=[clip("")]), "audio_inputs[0]: "),
        (item(audio=[clip("AAAA")]), "not readable audio"),
        (item(audio=[clip(base64.b64encode(b"hello, world" * 99).decode())]), "not readable audio"),
        (item(audio=[clip(wav(0.0))]), "holds no audio samples"),
        (item(text=TWO, audio=[clip(), clip("AAAA")]), "audio_inputs[1]: not readable audio"),
        (item(audio=[clip(payload_type="file_url", data="http://x")]), "'file_url' is not supported"),
        (item(audio=[clip(data=7)]), "audio_inputs.0.data: "),
        (item(audio=[clip(sample_rate=0)]), "audio_inputs.0.sample_rate: "),
        (item(audio=[clip(sample_rate=-16_000)]), "audio_inputs.0.sample_rate: "),
        (item(audio=[clip(sample_rate=True)]), "audio_inputs.0.sample_rate: "),
        (item(audio=[clip(sample_rate="16000")]), "audio_inputs.0.sample_rate: "),
        (item(text="<AudioHere> and <AudioHere>"), "2 times <AudioHere> but 1 audio inputs"),
        (item(text="<AudioHere>", audio=[clip()] * 2), "1 times <AudioHere> but 2 audio inputs"),
        (item(max_tokens=0), "generation_config.max_tokens: "),
        (item(max_tokens=-1), "generation_config.max_tokens: "),
        (item(max_tokens=True), "generation_config.max_tokens: "),
        (item(max_tokens=2.5), "generation_config.max_tokens: "),
        (item(temperature=-0.1), "generation_config.temperature: "),
        (item(temperature=False), "generation_config.temperature: "),
        (item(top_p=0), "generation_config.top_p: "),
        (item(top_k=True), "generation_config.top_k: "),
        (item(seed=-1), "generation_config.seed: "),
        (item(max_length_seconds=0), "generation_config.max_length_seconds: "),
        (item(max_length_seconds=True), "generation_config.max_length_seconds: "),
        (item(text="crash"), "RuntimeError: out of memory"),
    ],
)  # fmt: skip
def test_one_bad_item_is_its_own(served, bad, says):
    client, *_ = served
    response = predict(client, bad | {"sample_id": "bad"}, item("good"))
    assert response.status_code == 200
    one, two = response.json()["responses"]
    assert one["sample_id"] == "bad"
    assert says in one["error"]
    assert one["predictions"] == []
    assert "finish_reason" not in one
    assert two["predictions"]
    assert "error" not in two


def test_numbers_that_are_none(served):
    """NaN is no JSON, but many writers make it."""
    client, *_ = served
    for name in ("temperature", "max_length_seconds"):
        body = '{"schema_version": "predictions_v1", "requests": [%s]}'
        one = str(item(**{name: 1.0})).replace("'", '"').replace(f'"{name}": 1.0', f'"{name}": NaN')
        response = client.post("/predict", content=body % one)
        assert response.status_code == 200
        assert f"generation_config.{name}" in response.json()["responses"][0]["error"]


def test_turns_of_a_conversation(served):
    client, *_ = served
    turns = [("system", "Be brief."), ("user", "Who?"), ("assistant", "An owl."), ("user", "Where?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    (response,) = predict(client, item() | {"messages": messages}).json()["responses"]
    assert response["predictions"][0].startswith(
        "Be brief.\nWho?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nAn owl.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhere? |"
    )


def test_too_many_recordings_are_refused_before_decoding(served):
    client, model, _ = served
    response = predict(client, *(item(str(i), audio=[clip("AA==")]) for i in range(5)))
    assert response.status_code == 413
    assert "5 requests, at most 4" in response.json()["error"]
    assert not model.batches


def test_requests_that_are_none(served):
    client, model, _ = served
    assert predict(client, item("x"), item("x")).status_code == 400
    for ident in ("", None, 7, ["x"]):
        assert predict(client, item("x") | {"sample_id": ident}).status_code == 400
    assert predict(client, "x").status_code == 400
    assert predict(client, item(), more=1).status_code == 422
    for body in ({"schema_version": "v0", "requests": []}, {"requests": []}, {"schema_version": "predictions_v1"},
                 {"schema_version": "predictions_v1", "requests": {}}, [], "x", None):  # fmt: skip
        assert client.post("/predict", json=body).status_code == 422, body
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000):
        response = client.post("/predict", content=content)
        assert response.status_code == 422
        assert "JSON" in response.json()["error"]
    assert client.get("/predict").status_code == 405
    assert not model.batches


def test_bodies_have_a_limit(serving):
    client = serving(Fake(), max_body=100_000)
    large = {"schema_version": "predictions_v1", "requests": [item(audio=[clip("A" * 200_000)])]}
    response = client.post("/predict", json=large)
    assert response.status_code == 413
    assert "MiB" in response.json()["error"]
    parts = (b"A" * 1000 for _ in range(300))  # without Content-Length
    assert client.post("/predict", content=parts).status_code == 413
    assert client.post("/ask", json=large).status_code == 413
    assert predict(client, item()).status_code == 200
    assert "nlm_held_bytes 0.0" in client.get("/metrics").text


@pytest.mark.parametrize("length", ["known", "unknown"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_flac_is_as_good(served, length, rate, channels):
    """Also if its header does not know how long it is, as after `ffmpeg -i x -f flac - | ...`; on both roads."""
    client, _, folder = served
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full((rate, channels), 0.5, np.float32), rate, format="FLAC")
    flac = buffer.getvalue()
    if length == "unknown":
        flac = flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]
    (folder / "streamed.flac").write_bytes(flac)
    roads = [clip(base64.b64encode(flac).decode()), {"payload_type": "file_path", "data": "streamed.flac"}]
    for responses in predict(client, *(item(str(i), audio=[road]) for i, road in enumerate(roads))).json()["responses"]:
        assert "heard [16000]" in responses["predictions"][0]
    requests = item(audio=roads[:1])
    del requests["sample_id"]
    *_, last = client.post("/ask", json=requests).iter_lines()
    assert "heard [16000]" in json.loads(last)["text"]
