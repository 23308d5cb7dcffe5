"""What tests of the server share: recordings, items of requests, and a model that says what it heard."""

import base64
import concurrent.futures
import contextlib
import io
import threading
import time

import numpy as np
import soundfile


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


class Fake:
    """Answers with what it was asked and how much it heard, in two pieces, all it has at a time; remembers these.

    Where the text of one holds "crash", all of them fail, as on a device that is out of memory.
    """

    def __init__(self):
        self.batches, self.gate, self.loaded = [], threading.Event(), threading.Event()
        self.gate.set()
        self.loaded.set()
        self.failure, self.failures = None, []
        self._asked, self._came, self._closed = [], threading.Condition(), False

    def load(self, say):
        """A loader of the server's."""
        say("loading weights")
        assert self.loaded.wait(20)
        if self.failure:
            raise self.failure
        threading.Thread(target=self._work, daemon=True).start()
        return self

    def failed(self, error):
        """Told when loading fails."""
        self.failures.append(error)

    def submit(self, question, on_text):
        """A promise of the answer."""
        future = concurrent.futures.Future()
        with self._came:
            self._asked.append((question, on_text, future))
            self._came.notify()
        return future

    def close(self):
        """Ends its thread."""
        with self._came:
            self._closed = True
            self._came.notify()

    def _work(self):
        while True:
            with self._came:
                self._came.wait_for(lambda: self._asked or self._closed)
                if self._closed:
                    return
            time.sleep(0.02)  # so that what is sent together comes together
            assert self.gate.wait(20)
            with self._came:
                batch, self._asked = self._asked, []
            batch = [entry for entry in batch if entry[2].set_running_or_notify_cancel()]
            self.batches.append([question.text for question, *_ in batch])
            crash = any("crash" in question.text for question, *_ in batch)
            for question, tell, future in batch:
                if crash:
                    future.set_exception(RuntimeError("out of memory"))
                    continue
                try:
                    future.set_result(self.answer(question, tell))
                except Exception as error:
                    future.set_exception(error)

    def answer(self, question, tell):
        """What it says to one question."""
        from nlm_jax.serve.types import Answer

        heard = [int((clip != 0).sum()) for clip in question.clips]
        sizes, most = sorted({clip.size for clip in question.clips}), question.max_tokens
        pieces = (question.text, f" | heard {heard} of {sizes}, {most} tokens {question.sampling or ''}".rstrip())
        for piece in pieces:
            tell(piece)
        return Answer("".join(pieces), "length" if most < 5 else "stop", 40, min(most, 9))


@contextlib.contextmanager
def serving(model, **settings):
    """The address of a server around `model`, in a thread of this process."""
    import uvicorn

    from nlm_jax.serve.app import Settings, make_app

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
