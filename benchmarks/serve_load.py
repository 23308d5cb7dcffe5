"""Load test of the server: concurrent clients, valid and invalid requests, responses checked against the model.

python benchmarks/serve_load.py --clients=64 --minutes=10      # starts `nlm serve` with a tiny model on 127.0.0.1
"""

import argparse
import asyncio
import base64
import collections
import contextlib
import dataclasses
import io
import itertools
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

import common
import httpx
import numpy as np
import soundfile

QUESTIONS = (
    "What is the common name for the focal species in the audio?",
    "Caption the audio.",
    "Which of these, if any, are present in the audio recording? Low Hummer, Middle Piper, None.",
    "Is this <Audio><AudioHere></Audio> the animal of <Audio><AudioHere></Audio>?",
)
KINDS = {
    "good": 50, "several items": 12, "streamed": 10, "bad item among good": 8, "leaves at once": 6, "leaves later": 4,
    "no JSON": 4, "too many items": 3, "too large": 1, "wrong schema": 2,
}  # fmt: skip
"""Kind of request -> relative frequency."""
TOO_LARGE = 3 << 20
"""The server is started with a limit of 2 MiB."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A request item with the model's answer to it alone."""

    body: dict
    answer: str


def tiny_model(folder: pathlib.Path) -> pathlib.Path:
    """A directory with a model of random weights and one layer everywhere."""
    from flax import nnx

    from nlm_jax import testing
    from nlm_jax.convert.checkpoint import Checkpoint
    from nlm_jax.convert.formats import save
    from nlm_jax.core.tree import named_leaves
    from nlm_jax.data.text import embedded_directory
    from nlm_jax.models.naturelm import NatureLMModel

    cfg, rng, params = testing.tiny_config(), np.random.default_rng(0), {}
    leaves = named_leaves(nnx.state(nnx.eval_shape(lambda: NatureLMModel(cfg, rngs=nnx.Rngs(0)))))
    for name, leaf in leaves.items():  # drawn with numpy: initialising under jit takes long to compile
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        positive = name.rsplit("/", 1)[-1] in ("scale", "weight_g", "grep_a")
        params[name] = 1 + 0.1 * noise if positive else noise * 0.5 * leaf.shape[max(0, leaf.ndim - 2)] ** -0.5
    save(Checkpoint(cfg, params, tokenizer=embedded_directory()), folder / "model", "nlm")
    return folder / "model"


def cases(model: pathlib.Path, count: int, seed: int) -> list[Case]:
    """Different questions about different sounds, each answered by the model in this process."""
    from nlm_jax import NatureLM, testing
    from nlm_jax.audio import wave

    rng, items = np.random.default_rng(seed), []
    for i in range(count):
        question = QUESTIONS[i % len(QUESTIONS)]
        names = rng.choice(testing.NAMES, max(1, question.count("<AudioHere>")))
        clips = [testing.tone(name, float(rng.uniform(0.5, 2.0)), rng) for name in names]
        items.append((question, clips, int(rng.integers(4, 17))))
    answers = NatureLM.from_pretrained(model, dtype="float32").generate(
        [[wave.fit(encode(clip)[1], 160_000) for clip in clips] for _, clips, _ in items],
        [question for question, _, _ in items],
        max_new_tokens=[limit for _, _, limit in items],
    )
    return [Case(body(q, clips, limit), answer) for (q, clips, limit), answer in zip(items, answers, strict=True)]


def encode(clip: np.ndarray) -> tuple[str, np.ndarray]:
    """A clip as base64 WAV, and its samples after rounding to 16 bits."""
    buffer = io.BytesIO()
    soundfile.write(buffer, clip, 16_000, format="WAV", subtype="PCM_16")
    buffer.seek(0)
    decoded = soundfile.read(buffer, dtype="float32")[0]
    return base64.b64encode(buffer.getvalue()).decode(), decoded


def body(question: str, clips: list[np.ndarray], max_tokens: int) -> dict:
    """An item of `POST /predict`, without its id."""
    return {
        "messages": [{"role": "user", "content": question}],
        "audio_inputs": [{"payload_type": "base64_wav", "data": encode(c)[0], "sample_rate": 16_000} for c in clips],
        "generation_config": {"max_tokens": max_tokens, "temperature": 0.0},
    }


class Load:
    """Concurrent clients and the outcomes of their requests."""

    def __init__(self, address: str, cases: list[Case], max_items: int):
        self.address, self.cases, self.max_items = address, cases, max_items
        self.outcomes: collections.Counter = collections.Counter()
        self.seconds: list[float] = []
        self.wrong: list[str] = []

    async def client(self, number: int, until: float, requests: int | None = None) -> None:
        """One client: sequential requests over one connection, until `requests` are sent or the time is up."""
        rng = random.Random(number)
        async with httpx.AsyncClient(base_url=self.address, timeout=120) as http:
            for _ in range(requests) if requests else itertools.count():
                if time.monotonic() > until:
                    break
                (kind,) = rng.choices(list(KINDS), KINDS.values())
                started = time.perf_counter()
                try:
                    outcome = await self.request(http, kind, rng)
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
                    self.wrong.append(f"{kind}: {error!r}")
                self.outcomes[kind, outcome] += 1
                if outcome == "right":
                    self.seconds.append(time.perf_counter() - started)
                if outcome == "503":
                    await asyncio.sleep(1)

    async def request(self, http: httpx.AsyncClient, kind: str, rng: random.Random) -> str:
        """Sends one request of a kind and returns its outcome."""
        case = rng.choice(self.cases)
        if kind == "no JSON":
            return self.expect(await http.post("/predict", content=b'{"requests": [' * 99), 422)
        if kind == "wrong schema":
            return self.expect(await http.post("/predict", json={"schema_version": "v0", "requests": []}), 422)
        if kind == "too large":
            return self.expect(await http.post("/predict", content=b" " * TOO_LARGE), 413)
        if kind == "too many items":
            bad = {"messages": [], "audio_inputs": [], "generation_config": {}}
            return self.expect(await self.predict(http, [bad] * (self.max_items + 1)), 413)
        if kind == "streamed":
            return await self.streamed(http, case)
        if kind.startswith("leaves"):
            with contextlib.suppress(httpx.TimeoutException):
                wait = 0.001 if kind.endswith("once") else rng.uniform(0.05, 0.5)
                await http.post("/predict", json=envelope([case.body]), timeout=httpx.Timeout(wait, pool=None))
                return "answered before"
            return "left"
        chosen = [case] if kind == "good" else rng.choices(self.cases, k=rng.randint(2, self.max_items))
        bodies = [c.body for c in chosen]
        if kind == "bad item among good":
            noise = [{"payload_type": "base64_wav", "data": "bm8gc291bmQ=", "sample_rate": 16_000}]
            bodies[-1] = rng.choice([bodies[-1] | {"audio_inputs": noise}, bodies[-1] | {"messages": []}])
        return self.check(kind, chosen, await self.predict(http, bodies))

    async def predict(self, http: httpx.AsyncClient, bodies: list[dict]) -> httpx.Response:
        return await http.post("/predict", json=envelope(bodies))

    async def streamed(self, http: httpx.AsyncClient, case: Case) -> str:
        async with http.stream("POST", "/ask", json=case.body) as response:
            if response.status_code == 503:
                return "503"
            lines = [json.loads(line) async for line in response.aiter_lines()]
        pieces = "".join(line.get("text", "") for line in lines[:-1])
        if pieces == lines[-1].get("text") == case.answer:
            return "right"
        self.wrong.append(f"streamed: {case.answer!r} came as {pieces!r}, {lines[-1]}")
        return "wrong"

    def expect(self, response: httpx.Response, status: int) -> str:
        if response.status_code not in (status, 503):
            self.wrong.append(f"{response.status_code} instead of {status}: {response.text[:200]}")
        return str(response.status_code)

    def check(self, kind: str, chosen: list[Case], response: httpx.Response) -> str:
        """Checks by id that each response has the answer to its own question."""
        if response.status_code == 503:
            return "503"
        responses = {r["sample_id"]: r for r in response.json().get("responses", [])}
        good = chosen[:-1] if kind == "bad item among good" else chosen
        right = len(responses) == len(chosen) and all(
            responses[str(i)]["predictions"] == [case.answer] for i, case in enumerate(good)
        )
        if len(good) < len(chosen):
            right = right and bool(responses[str(len(good))].get("error"))
        if not right:
            self.wrong.append(f"{kind}: {[c.answer for c in good]} came as {response.text[:500]}")
        return "right" if right else "wrong"


def envelope(bodies: list[dict]) -> dict:
    """The body of a request; ids are the indices of its items."""
    return {"schema_version": "predictions_v1", "requests": [{"sample_id": str(i)} | b for i, b in enumerate(bodies)]}


@contextlib.contextmanager
def served(model: pathlib.Path, slots: int, log: pathlib.Path):
    """(address, process) of `nlm serve`; it must exit with status 0 on SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = (f"--port={port}", f"--max-batch-size={slots}", "--max-new-tokens=16", "--max-body-mb=2")
    command = [sys.executable, "-m", "nlm_jax.cli", "serve", f"--model={model}", "--dtype=float32", *flags]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            while not ready(address):
                if process.poll() is not None:
                    raise SystemExit(f"the server ended with {process.returncode}:\n{log.read_text()}")
                time.sleep(0.1)
            yield address, process
            process.send_signal(signal.SIGTERM)
            if process.wait(60):
                raise SystemExit(f"the server ended with {process.returncode}:\n{log.read_text()[-3000:]}")
        finally:
            process.kill()


def ready(address: str) -> bool:
    """Whether `/health` reports that the server is ready."""
    try:
        return httpx.get(f"{address}/health").status_code == 200
    except httpx.TransportError:
        return False


def resident(pid: int) -> float:
    """Resident memory of a process in MiB."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def watch(pid: int, memory: list[float], seconds: float) -> None:
    """Appends the resident memory of a process to `memory` nine times at equal intervals."""
    for _ in range(9):
        await asyncio.sleep(seconds / 10)
        memory.append(resident(pid))


async def run(load: Load, clients: int, seconds: float, *others) -> None:
    """Runs all clients concurrently, and `others` meanwhile."""
    until = time.monotonic() + seconds
    await asyncio.gather(*(load.client(i, until) for i in range(clients)), *others)


def main(argv: list[str] | None = None) -> None:
    """Runs the load test, prints the figures, and fails if any response was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64, help="concurrent clients (default 64)")
    parser.add_argument("--minutes", type=float, default=10.0, help="(default 10)")
    parser.add_argument("--slots", type=int, default=16, help="--max-batch-size of the server (default 16)")
    parser.add_argument("--cases", type=int, default=48, help="different questions (default 48)")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = tiny_model(folder)
        expected = cases(model, args.cases, seed=0)
        with served(model, args.slots, folder / "log") as (address, process):
            load = Load(address, expected, args.slots)
            asyncio.run(run(Load(address, expected, args.slots), args.clients, min(10.0, args.minutes * 6)))  # warm
            memory, began = [resident(process.pid)], time.monotonic()
            watched = watch(process.pid, memory, args.minutes * 60)
            asyncio.run(run(load, args.clients, args.minutes * 60, watched))
            took = time.monotonic() - began
            memory.append(resident(process.pid))
            figures = httpx.get(f"{address}/metrics").text
    report(args, load, took, memory, len({c.answer for c in expected}), figures)


def report(args, load: Load, took: float, memory: list[float], different: int, figures: str) -> None:
    """Prints the figures; exits with an error if any response was wrong."""
    p50, p95, p99 = np.percentile(load.seconds, (50, 95, 99)).round(3).tolist() if load.seconds else (0, 0, 0)
    total, host = sum(load.outcomes.values()), common.environment()
    gauges = ("nlm_queue_length", "nlm_running", "nlm_held_bytes")
    left = dict(line.split() for line in figures.splitlines() if line.startswith(gauges))
    print(f"{args.clients} clients, {took:.0f} s, {args.slots} slots")
    print(f"  {args.cases} different questions, {different} different answers")
    print(f"  {host['date']}, {host['device']}, {host['cores']} cores, {host['versions']}")
    print(f"  {total} requests, {total / took:.1f} per second; {len(load.seconds)} answered correctly")
    print(f"  latency of these: p50 {p50} s, p95 {p95} s, p99 {p99} s")
    print(f"  memory of the server in MiB, each tenth of the time: {', '.join(f'{m:.0f}' for m in memory)}")
    for (kind, outcome), count in sorted(load.outcomes.items()):
        print(f"  {kind:22s} {outcome:18s} {count}")
    if args.json:
        content = {"requests": total, "seconds": took, "right": len(load.seconds), "p50": p50, "p95": p95, "p99": p99}
        content |= {"outcomes": {f"{k}: {o}": n for (k, o), n in load.outcomes.items()}, "MiB": memory}
        content |= {"wrong": load.wrong[:20], "left over": left, "different": different, **host}
        args.json.write_text(json.dumps(content, indent=1))
    if load.wrong:
        raise SystemExit(f"{len(load.wrong)} were wrong; the first: {load.wrong[0]}")


if __name__ == "__main__":
    main()
