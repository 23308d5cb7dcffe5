"""What tests of the server share: recordings, items of requests, and a model that says what it heard."""

import base64
import io
import threading

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
    """Answers with what it was asked and how much it heard, in two pieces; remembers its batches."""

    def __init__(self):
        self.batches, self.gate, self.loaded = [], threading.Event(), threading.Event()
        self.gate.set()
        self.loaded.set()
        self.failure, self.failures = None, []

    def load(self, say):
        """A loader of the server's."""
        say("loading weights")
        assert self.loaded.wait(20)
        if self.failure:
            raise self.failure
        return self.answer

    def failed(self, error):
        """Told when loading fails."""
        self.failures.append(error)

    def answer(self, questions, tell):
        """Every question whose text holds "crash" is too much for it."""
        from nlm_jax.serve.question import Answer

        assert self.gate.wait(20)
        self.batches.append([q.text for q in questions])
        if any("crash" in q.text for q in questions):
            raise RuntimeError("out of memory")
        answers = []
        for q, say in zip(questions, tell, strict=True):
            heard = [int((clip != 0).sum()) for clip in q.clips]
            sizes = sorted({clip.size for clip in q.clips})
            pieces = (q.text, f" | heard {heard} of {sizes}, {q.max_tokens} tokens")
            for piece in pieces:
                say(piece)
            answers.append(Answer("".join(pieces), "length" if q.max_tokens < 5 else "stop", 40, min(q.max_tokens, 9)))
        return answers
