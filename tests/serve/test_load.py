"""The load test of benchmarks/serve_load.py, at a few requests; with a tiny model among the slow tests."""

import asyncio
import importlib
import json
import pathlib
import sys

import pytest

pytest.importorskip("uvicorn", reason="the server needs the extra [serve]")
pytest.importorskip("httpx", reason="the load test needs httpx, of the extra [test]")

from serve_tools import Fake, item, serving

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def loading(monkeypatch):
    """The script, as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for module in ("common", "serve_load"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return importlib.import_module("serve_load")


def answered(loading, count):
    """Questions with what the fake answers."""

    def case(i):
        text = f"What is {i}?"
        body = {key: value for key, value in item(text=text, max_tokens=10 + i).items() if key != "sample_id"}
        return loading.Case(body, f"{text} | heard [16000] of [160000], {10 + i} tokens")

    return [case(i) for i in range(count)]


async def asking(load, clients, requests):
    """Each client asks so often, however long that takes."""
    await asyncio.gather(*(load.client(i, float("inf"), requests) for i in range(clients)))


def test_some_requests(loading, monkeypatch):
    monkeypatch.setitem(loading.KINDS, "too large", 8)  # one in a hundred may not come up in so few
    with serving(Fake(), batch_size=4, max_body=2 << 20) as address:
        load = loading.Load(address, answered(loading, 20), 4)
        asyncio.run(asking(load, clients=12, requests=12))
    assert not load.wrong
    assert sum(load.outcomes.values()) == 144
    assert len(load.seconds) == sum(n for (_, outcome), n in load.outcomes.items() if outcome == "right") > 50
    assert {kind for kind, _ in load.outcomes} == set(loading.KINDS)
    assert load.outcomes["no JSON", "422"] > 0
    assert load.outcomes["too large", "413"] > 0


def test_it_sees_a_wrong_answer(loading):
    with serving(Fake(), batch_size=4) as address:
        cases = [loading.Case(case.body, "something else") for case in answered(loading, 3)]
        load = loading.Load(address, cases, 4)
        asyncio.run(asking(load, clients=2, requests=6))
    assert any("something else" in wrong for wrong in load.wrong)


@pytest.mark.slow
def test_a_model_and_its_server(loading, tmp_path):
    file = tmp_path / "figures.json"
    loading.main(["--clients=16", "--minutes=0.3", "--slots=4", "--cases=12", f"--json={file}"])
    content = json.loads(file.read_text())
    assert content["different"] > 3
    assert content["right"] > 10
    assert not content["wrong"]
