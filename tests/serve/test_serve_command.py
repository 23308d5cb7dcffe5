"""`nlm serve`: flags that cannot be, a port that is taken, a model that is none, and a quiet end."""

import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from serve_tools import item

TESTS = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--port=0",), "--port 0: must be at least 1"),
        (("--port=70000",), "--port 70000: must be at most 65535"),
        (("--max-batch-size=0",), "--max-batch-size 0: must be at least 1"),
        (("--queue=4",), "--queue 4: must hold a whole request; give at least 16"),
        (("--timeout=0",), "--timeout 0: must be above 0"),
        (("--max-body-mb=nan",), "--max-body-mb nan: must be above 0"),
        (("--max-wait-ms=-1",), "--max-wait-ms -1: must be between"),
        (("--max-clips=0",), "--max-clips 0: must be at least 1"),
        (("--audio-root=nowhere",), "no such folder"),
        (("--host=256.1.1.1.invalid",), "cannot listen there"),
        (("--max-new-tokens=99999999999999999999",), "--max-new-tokens 99999999999999999999: must be at most 131072"),
        (("--max-batch-size=1000000",), "must be at most 1024"),
        (("--timeout=1e300",), "must be above 0 and below 1e9"),
        (("--upload-timeout=0",), "--upload-timeout 0: must be above 0"),
        (("--upload-rate=nan",), "--upload-rate nan: must be above 0"),
        (("--header-timeout=-1",), "--header-timeout -1: must be above 0"),
        (("--decoders=0",), "--decoders 0: must be at least 1"),
        (("--allow-host", "http://owl.local/"), "give a name or an address"),
    ],
)
def test_flags_that_cannot_be(nlm, tmp_path, flags, says):
    status, _, err = nlm("serve", f"--model={tmp_path / 'none'}", *flags)
    assert status == 2
    assert says in err
    assert "Traceback" not in err


@pytest.fixture
def port():
    """One that is free a moment later."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        yield free.getsockname()[1]


def test_a_port_in_use(nlm, tmp_path, port):
    status, _, err = nlm("serve", f"--model={tmp_path}", f"--port={port}")
    assert status == 2
    assert f"--port {port}: cannot listen there" in err


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_a_model_that_is_none(nlm, tmp_path):
    """It is loaded in the background; that it cannot be ends the server, and is said in one sentence."""
    status, _, err = nlm("serve", f"--model={tmp_path / 'none'}", f"--port={free_port()}")
    assert status == 2
    assert err.strip().splitlines()[-1].startswith("nlm serve: error: ")
    assert "no such file or directory" in err.splitlines()[-1]
    assert "Traceback" not in err


SERVER = """
import sys, serve_tools
from nlm_jax import cli
from nlm_jax.serve import engine_backend
model = serve_tools.Fake()
model.answer = lambda question, send, answer=model.answer: (__import__("time").sleep(1.5), answer(question, send))[1]
engine_backend.loader = lambda *_: model.load
import logging
logging.getLogger().addHandler(logging.StreamHandler())  # as some libraries do
sys.exit(cli.main(["serve", f"--model={sys.argv[2]}", f"--port={sys.argv[1]}", "--header-timeout=0.5"]))
"""


def check_what_strangers_see(address, port):
    """Headers that never end close the connection, a page of another site gets nothing; a request goes through."""
    with socket.create_connection(("127.0.0.1", port)) as half, socket.create_connection(("127.0.0.1", port)) as none:
        half.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n")
        for one in (half, none):
            one.settimeout(20)
            assert one.recv(100) == b""
    assert httpx.get(f"{address}/info").json()["model_revision"]
    assert httpx.post(f"{address}/predict", headers={"Host": "evil.example"}).status_code == 403
    with socket.create_connection(("127.0.0.1", port)) as slow:  # a request in pieces, within the limit, is answered
        for piece in (b"GET /health HTTP/1.1\r\n", b"Host: localhost\r\n", b"\r\n"):
            slow.sendall(piece)
        assert slow.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_what_is_under_way_is_answered_before_the_end(tmp_path, number):
    (tmp_path / "config.json").write_text('{"llama_path": "llama"}')
    port = free_port()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port), str(tmp_path)], stderr=subprocess.PIPE, env=environment
    )
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            assert time.monotonic() < end
            try:
                if httpx.get(f"{address}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            body = {"schema_version": "predictions_v1", "requests": [item()]}
            response = pool.submit(httpx.post, f"{address}/predict", content=json.dumps(body), timeout=30)
            check_what_strangers_see(address, port)
            while "nlm_running 1.0" not in httpx.get(f"{address}/metrics").text:
                assert time.monotonic() < end
            process.send_signal(number)
            assert response.result().json()["responses"][0]["predictions"]
        assert process.wait(30) == 0
        logged = process.stderr.read().decode()
        assert "Traceback" not in logged
        assert logged.count("GET /info") == 1, "every line is there twice"
    finally:
        process.kill()
        process.stderr.close()


def test_the_page_is_installed():
    """Every file of the page is package data."""
    import runpy

    import setuptools

    logged = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", logged.update)
        runpy.run_path(str(TESTS.parent / "setup.py"))
    package = TESTS.parent / "nlm_jax"
    installed = {file for pattern in logged["package_data"]["nlm_jax"] for file in package.glob(pattern)}
    page = set((package / "serve" / "web").iterdir())
    assert len(page) > 5
    assert page <= installed
