"""A server in this process with a fake model; a browser on the page of one, for all tests of the page together."""

import pytest

pytest.importorskip("fastapi", reason="the server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="the server needs the extra [serve]")

import numpy as np
import serve_tools
import soundfile
import soxr
from fastapi import testclient
from serve_tools import Fake

from nlm_jax.serve.app import make_app
from nlm_jax.serve.server import Settings
from nlm_jax.testing import NAMES, tone

SMALL = {"name": "test", "batch_size": 4, "wait": 0.02, "queue": 8, "max_tokens": 50, "max_clips": 3}


@pytest.fixture
def serving(tmp_path):
    """`serving(model, **settings)`: a client of a server around `model`."""
    open_ones = []

    def start(model, **settings):
        app = make_app(model.load, Settings(**(SMALL | {"audio_root": tmp_path} | settings)), model.failed)
        client = testclient.TestClient(app, base_url="http://localhost")
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


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """12 s at 22.05 kHz in stereo: 4 s hummer, 2 s piper, 2 s silence, 4 s piper."""
    rng = np.random.default_rng(0)
    parts = [tone(NAMES[0], 4, rng), tone(NAMES[1], 2, rng), np.zeros(32_000, np.float32), tone(NAMES[1], 4, rng)]
    samples = soxr.resample(np.concatenate(parts), 16_000, 22_050)
    file = tmp_path_factory.mktemp("recording") / 'dawn, "east" ö.wav'
    soundfile.write(file, np.stack([samples, samples], 1), 22_050)
    return file


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """The browser and its folder of downloads."""
    pytest.importorskip("selenium", reason="the page's tests need selenium, of the extra [test]")
    import browser

    if browser.find_browser() is None:
        pytest.skip("no Chromium with chromedriver; apt install chromium-driver")
    folder = tmp_path_factory.mktemp("chromium")
    with browser.opened(folder) as one:
        yield one, folder / "downloads"


@pytest.fixture(scope="session")
def model(chromium):
    """What answers on the page: it tells pitches apart."""
    from browser import Listener

    return Listener()


@pytest.fixture(scope="session")
def address(model):
    """The address of the server around `model`."""
    with serve_tools.serving(model, batch_size=4, max_clips=3) as where:
        yield where


@pytest.fixture
def modules(chromium, address):
    """The page in whatever state it is, for tests of its modules alone."""
    from browser import Page

    one = Page(*chromium)
    if not one.driver.current_url.startswith(address):
        one.driver.get(address)
    return one


@pytest.fixture
def page(chromium, address, model):
    """The page, freshly opened in a browser that remembers nothing. Its scripts must not have complained at the end."""
    from browser import Page

    one = Page(*chromium)
    one.driver.get(f"{address}/info")
    one.script(
        "sessionStorage.clear(); for (const { name } of await indexedDB.databases()) indexedDB.deleteDatabase(name);"
    )
    one.driver.get_log("browser")
    one.driver.set_window_size(1280, 1000)
    one.driver.get(address)
    one.until(lambda: one.text("status") == "ready")
    model.texts.clear()
    yield one
    model.gate.set()
    model.refuses = ""
    errors = [
        entry
        for entry in one.driver.get_log("browser")
        if entry["level"] == "SEVERE" and "/ask" not in entry["message"] and "ERR_BLOCKED" not in entry["message"]
    ]
    assert not errors
