"""Names under which the server may be addressed, pages of other sites, and types of content."""

import json

import pytest
from serve_tools import Fake, item

from nlm_jax.serve.guard import Guard, split

BODY = json.dumps({"schema_version": "predictions_v1", "requests": [item()]})
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON, 200),
        ({}, 200),
        (JSON | {"Host": "127.0.0.1:8000"}, 200),
        (JSON | {"Host": "LOCALHOST"}, 200),
        (JSON | {"Host": "[::1]:8000"}, 200),
        (JSON | {"Host": "evil.example"}, 403),
        (JSON | {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}, 403),
        (JSON | {"Host": "localhost.evil.example"}, 403),
        (JSON | {"Host": "192.168.1.7"}, 403),
        (JSON | {"Host": "[::ffff:1.2.3.4]"}, 403),
        (JSON | {"Origin": "http://localhost"}, 200),
        (JSON | {"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
        (JSON | {"Host": "localhost:80", "Origin": "http://localhost"}, 200),
        (JSON | {"Host": "localhost:8000", "Origin": "http://localhost:3000"}, 403),
        (JSON | {"Host": "localhost:8000", "Origin": "http://127.0.0.1:8000"}, 403),
        (JSON | {"Origin": "https://evil.example"}, 403),
        (JSON | {"Origin": "null"}, 403),
        (JSON | {"Origin": ""}, 403),
        (JSON | {"Origin": "file://"}, 403),
        (JSON | {"Origin": "http://localhost:port"}, 403),
        (JSON | {"Origin": "http://[::1"}, 403),
        ({"Content-Type": "text/plain", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "text/plain; charset=utf-8"}, 415),
        ({"Content-Type": "Application/X-WWW-Form-Urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/ask"])
def test_allowed_origins(served, path, headers, status):
    client, model, _ = served
    body = BODY if path == "/predict" else json.dumps({k: v for k, v in item().items() if k != "sample_id"})
    response = client.post(path, content=body, headers=headers)
    assert response.status_code == status, response.text
    assert bool(model.batches) == (status == 200)
    if status != 200:
        assert response.json()["error"]
        assert "access-control-allow-origin" not in response.headers
        assert "nlm_refused_total 1.0" in client.get("/metrics").text


def test_pages_and_figures_may_be_read(served):
    """Reading changes nothing, and without CORS headers a page of another site does not see what comes."""
    client, *_ = served
    for path in ("/", "/favicon.ico", "/health", "/info", "/metrics", "/web/style.css"):
        response = client.get(path, headers={"Origin": "https://evil.example"})
        assert response.status_code == 200, path
        assert "access-control-allow-origin" not in response.headers
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 403
    for path in ("/", "/health"):
        response = client.head(path)
        assert response.status_code == 200
        assert not response.content
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert client.options("/predict", headers=preflight).status_code == 405


@pytest.mark.parametrize(
    ("hosts", "host", "origin", "fine"),
    [
        (("owl.local",), "owl.local:8000", "http://owl.local:8000", True),
        (("OWL.local.",), "owl.local", None, True),
        (("owl.local",), "127.0.0.1:8000", "https://owl.local", True),  # a proxy with TLS that names the server itself
        (("owl.local",), "elk.local", None, False),
        (("0.0.0.0",), "192.168.1.7:8000", "http://192.168.1.7:8000", True),
        (("0.0.0.0",), "192.168.1.7:8000", "http://192.168.1.8:8000", False),
        (("::",), "[fe80::1]:8000", None, True),
        (("0.0.0.0",), "evil.example", None, False),
        (("192.168.1.7",), "192.168.1.8", None, False),
        (("*",), "evil.example", "http://evil.example", True),
        (("*",), "owl.local", "http://evil.example", False),
    ],
)
def test_names_that_are_allowed(hosts, host, origin, fine):
    headers = {"host": host} | ({"origin": origin} if origin else {})
    assert (Guard(print, hosts).refusal("POST", headers) is None) == fine


def test_names_and_ports():
    cases = {"a": ("a", None), "A.:80": ("a", 80), "[::1]": ("::1", None), "[::1]:9": ("::1", 9), "a:x": ("a", 0),
             "": ("", None), "a:": ("a", None)}  # fmt: skip
    assert {host: split(host) for host in cases} == cases


def test_the_server_says_no_path(serving):
    client = serving(Fake(), name="run-7")
    assert client.get("/info").json()["model"] == "run-7"
