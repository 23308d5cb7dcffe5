"""What tests of the server share: recordings, items of requests, and a model without weights."""

import base64
import contextlib
import dataclasses
import io
import threading
from typing import Any

import numpy as np
import soundfile

from nlm_jax.generate.schedule import Job, Scheduler


def wav(seconds=1.0, rate=16_000, value=0.5):
    """A recording of one value, base64."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(round(seconds * rate), value, np.float32), rate, format="WAV")
    return base64.b64encode(buffer.getvalue()).decode()


def clip(data=None, **changed):
    """An audio input."""
    return {"payload_type": "base64_wav", "data": wav() if data is None else data, "sample_rate": 16_000} | changed


def item(ident="a", text="What?", audio=None, **config):
    """A question of a request."""
    messages = [{"role": "user", "content": text}] if text else []
    audio = [clip()] if audio is None else audio
    return {"sample_id": ident, "messages": messages, "audio_inputs": audio, "generation_config": config}


def predict(client, *items, **extra):
    """The response to a request of `items`."""
    return client.post("/predict", json={"schema_version": "predictions_v1", "requests": list(items), **extra})


@dataclasses.dataclass(eq=False)
class FakeRequest(Job):
    """A question on its way through the fake's engine."""

    question: Any
    on_text: Any = None
    sent: bool = False

    def restart(self):
        """Whether it may be computed again."""
        return not self.sent

    def send(self, piece):
        """Sends a piece, if the client wants pieces."""
        if self.on_text is not None:
            self.sent = True
            self.on_text(piece)


class FakeEngine(Scheduler):
    """The real queue before a device that answers all requests of a step, in slot order; `answer` computes one."""

    def __init__(self, slots, admission, answer, batches, gate):
        super().__init__(slots, admission)
        self._answer, self._batches, self._gate = answer, batches, gate

    def prefill(self, group, slots, upcoming):
        """Nothing to do."""

    def decode(self):
        """Answers all that run; an exception of `answer` is one of the device."""
        assert self._gate.wait(20)
        batch = [job for job in self.running if job is not None and not job.future.cancelled()]
        if batch:
            self._batches.append([job.question.text for job in batch])
        if any("crash" in job.question.text for job in batch):
            raise RuntimeError("out of memory")
        for slot, job in enumerate(self.running):
            if job in batch:
                answer = self._answer(job.question, job.send)
                if job.future.set_running_or_notify_cancel():
                    job.future.set_result(answer)
            self.running[slot] = None


class Fake:
    """Answers with the question and the size of its audio, in two pieces, all running requests at a time.

    `batches` lists the texts of each step. If the text of one contains "crash", the step fails, as on a device that is
    out of memory.
    """

    revision = ""

    def __init__(self, slots=4):
        self.batches, self.gate, self.loaded = [], threading.Event(), threading.Event()
        self.gate.set()
        self.loaded.set()
        self.failure, self.failures = None, []
        self._slots, self.engine = slots, None

    def load(self, report_stage, admission):
        """A loader of the server's."""
        report_stage("loading weights")
        assert self.loaded.wait(20)
        if self.failure:
            raise self.failure
        self.engine = FakeEngine(self._slots, admission, self.answer, self.batches, self.gate)
        self.engine.start()
        return self

    def failed(self, error):
        """Called when loading fails."""
        self.failures.append(error)

    def request(self, question, on_text=None):
        """A request for the engine."""
        return FakeRequest(question, on_text)

    def close(self, error=None):
        """Ends the engine."""
        self.engine.close(error)

    def answer(self, question, send):
        """The answer to one question; calls `send` with each of its pieces."""
        from nlm_jax.generate.request import Answer

        audible = [int((clip != 0).sum()) for clip in question.clips]
        sizes, most = sorted({clip.size for clip in question.clips}), question.max_tokens
        pieces = (question.text, f" | heard {audible} of {sizes}, {most} tokens {question.sampling or ''}".rstrip())
        for piece in pieces:
            send(piece)
        return Answer([1] * min(most, 9), "".join(pieces), "length" if most < 5 else "end", prompt_tokens=40)


@contextlib.contextmanager
def serving(model, **settings):
    """The address of a server around `model`, in a thread of this process."""
    import uvicorn

    from nlm_jax.serve.app import make_app
    from nlm_jax.serve.server import Settings

    app = make_app(model.load, Settings(name="tiny-model", **settings), model.failed)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not come up"
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
