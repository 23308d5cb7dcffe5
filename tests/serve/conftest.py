"""A server in this process with a fake model."""

import pytest

pytest.importorskip("fastapi", reason="the server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="the server needs the extra [serve]")

from fastapi import testclient
from serve_tools import Fake

from nlm_jax.serve.app import Settings, make_app

SMALL = {"name": "test", "batch_size": 4, "wait": 0.02, "queue": 8, "max_tokens": 50, "max_clips": 3}


@pytest.fixture
def serving(tmp_path):
    """`serving(model, **settings)`: a client of a server around `model`."""
    open_ones = []

    def start(model, **settings):
        app = make_app(model.load, Settings(**(SMALL | {"audio_root": tmp_path} | settings)), model.failed)
        client = testclient.TestClient(app)
        client.__enter__()
        open_ones.append((client, model))
        return client

    yield start
    for client, model in open_ones:
        model.gate.set()
        model.loaded.set()
        client.__exit__(None, None, None)


@pytest.fixture
def served(serving, tmp_path):
    """A client, the model behind it, and the folder it may read."""
    model = Fake()
    return serving(model), model, tmp_path
