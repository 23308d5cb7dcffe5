"""The data pipeline on large corpora: memory of its processes, start-up time with millions of examples.

    python benchmarks/scale.py                              # everything; some minutes, 2 GB of disk, Linux for memory
    python benchmarks/scale.py --clips=5000 --examples=1000000 --recordings=200

Three parts, each in a temporary folder that is removed:

- memory: clips of 0.25 to 0.75 s as `nlm prepare` stores them, in shards of 64 (so that there are more shards than a
  process may hold open files on many systems), streamed by two worker processes and by threads. RSS, PSS and private
  memory of each process, at the start and at regular intervals: they must level off. RSS counts pages of the index and
  of batches on their way between processes in each process that has them, private memory does not. `growth` is private
  memory at the end minus that at the half: what another epoch would add.
- start-up: an index of as many examples as the NatureLM-audio training set has (no shard is needed before the first
  row), opened by a process of its own: seconds and peak memory until the first rows are planned, for a plain shuffle
  and for a mixture with shares, temperature, species in balance and a cap. The mapped index counts in the peak as far
  as it was read; `anonymous` is memory not backed by a file.
- prepare: the same recordings converted by threads and by processes, as many as there are cores.
"""

import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
from common import arguments, cores, median, report

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.config import DataConfig, MixtureConfig
from nlm_jax.data.pipeline import train_set
from nlm_jax.data.text import Format, Tokenizer, text_digest
from nlm_jax.prepare import write_clips
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare

TRAINING_SET = 26_440_512
"""Examples of the NatureLM-audio training set."""
FORMAT = Format(vectors_per_clip=8)
TASKS, SPECIES = 24, 10_000
FULL = MixtureConfig(
    domain={"bioacoustics": 0.6, "speech": 0.1, "music": 0.1, "sound": 0.2},
    task={"task-1*": 2.0},
    temperature=1.5,
    balance="sqrt",
    species_cap=20_000,
)
Memory = dict[str, float]


def memory(pid: int) -> Memory:
    """MiB of a process by kind.

    Raises:
      UserError: the system has no /proc/<pid>/smaps_rollup.
    """
    file = pathlib.Path(f"/proc/{pid}/smaps_rollup")
    if not file.is_file():
        raise UserError("--part=memory reads /proc/<pid>/smaps_rollup, which Linux has; choose other parts")
    fields = {}
    for line in file.read_text().splitlines()[1:]:
        name, kb = line.split()[:2]
        fields[name.rstrip(":")] = int(kb) / 1024
    private = fields["Private_Clean"] + fields["Private_Dirty"]
    return {"RSS": fields["Rss"], "PSS": fields["Pss"], "private": private, "anonymous": fields["Anonymous"]}


def short_clips(folder: pathlib.Path, count: int) -> pathlib.Path:
    """A prepared corpus of `count` clips of 0.25 to 0.75 s, written by `prepare` with synthetic samples."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-3000, 3000, 16_000, np.int16)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for number in range(count):
            row = {"path": f"{number}.wav", "prompt": "Which species is this?", "text": f"species {number % 999}"}
            file.write(json.dumps({**row, "task": f"task-{number % 7}"}) + "\n")

    def clip(name: str) -> write_clips.Conversion:
        pcm = np.roll(noise, int(rng.integers(16_000)))[: int(rng.integers(4000, 12_000))]
        record, header = shards.encode_clip(pcm.astype(np.float32) / 32768, name, "pcm16")
        entry = {**header, "cut": False, "source_rate": SAMPLE_RATE}
        return write_clips.Conversion(record, entry, np.zeros(0, np.uint64))

    def write(recipe, out, jobs, advance) -> None:
        for number, names in jobs:
            write_clips.write_shard(out, number, map(clip, names))

    options = PrepareOptions(folder / "rows.jsonl", folder / "made", encoding="pcm16", shard_size=64, duplicates="none")
    prepare(options, write=write)
    return folder / "made"


def streaming(corpus: pathlib.Path, workers: int, batches: int, interval: int) -> dict[str, list[Memory]]:
    """Memory of each process over `batches` batches, after the second of them, then every `interval`."""
    config = DataConfig(
        train=(str(corpus),), seconds=0.5, row_tokens=512, row_clips=8, rows=8, threads=2, workers=workers
    )
    stream = train_set(config, Tokenizer.from_pretrained("embedded"), FORMAT).batches()
    measured: dict[str, list[Memory]] = {}
    try:
        for batch in range(batches + 1):
            next(stream)
            if batch % interval == 1 or batch == batches:
                pids = sorted(child.pid for child in multiprocessing.active_children())
                for number, pid in enumerate([os.getpid(), *pids]):
                    measured.setdefault(f"worker {number}" if number else "main", []).append(memory(pid))
    finally:
        stream.close()
    if stream.damaged:
        raise RuntimeError(f"the corpus is intact, but {len(stream.damaged)} examples were not read")
    return measured


def measure_memory(folder: pathlib.Path, count: int, batches: int, processes: int) -> dict[str, Any]:
    """Streams a corpus of `count` clips by processes, then by threads of this one."""
    started = time.perf_counter()
    corpus = short_clips(folder, count)
    facts: dict[str, Any] = {"memory: corpus": f"{count} clips, written in {time.perf_counter() - started:.0f} s"}
    for workers in (processes, 0):
        measured = streaming(corpus, workers, batches, max(2, batches // 8))
        for name, steps in measured.items():
            key = f"memory: {'processes' if workers else 'threads'}, {name}"
            series = {kind: [round(step[kind]) for step in steps] for kind in ("RSS", "PSS", "private")}
            growth = steps[-1]["private"] - steps[len(steps) // 2]["private"]
            facts[key] = ", ".join(f"{kind} {' '.join(map(str, v))}" for kind, v in series.items())
            facts[key] += f" MiB; growth {growth:.1f} MiB"
    return facts


def index(folder: pathlib.Path, count: int) -> pathlib.Path:
    """An index and a manifest of `count` examples of a clip each, without shards."""
    (folder / "index").mkdir(parents=True)
    rng = np.random.default_rng(0)
    columns = {
        "task": lambda n: rng.integers(0, TASKS, n),
        "domain": lambda n: rng.choice(len(FULL.domain), n, p=[0.7, 0.1, 0.1, 0.1]),
        "taxon": lambda n: (SPECIES * rng.random(n) ** 3).astype(np.int32),  # few species have most recordings
        "text_tokens": lambda n: rng.integers(30, 90, n),
        "answer_tokens": lambda n: rng.integers(3, 60, n),
        "clip_samples": lambda n: rng.integers(16_000, 480_000, n),
        "licence": np.zeros,
        "split": np.zeros,
    }
    for name, draw in columns.items():
        np.save(folder / "index" / f"{name}.npy", draw(count).astype(np.int32))
    order = np.arange(count, dtype=np.int32)
    np.save(folder / "index" / "clips.npy", order)
    np.save(folder / "index" / "clip_shard.npy", order // 512)
    np.save(folder / "index" / "clip_record.npy", order % 512)
    np.save(folder / "index" / "clip_end.npy", np.arange(1, count + 1, dtype=np.int64))
    taxa = [f"Animalia; Chordata; class {k % 7}; order {k % 40}; genus {k // 3}; species {k}" for k in range(SPECIES)]
    (folder / "index" / "taxa.json").write_text(json.dumps(taxa))
    names = {"tasks": [f"task-{k}" for k in range(TASKS)], "domains": list(FULL.domain)}
    names |= {"splits": ["train"], "licences": [""]}
    digest = text_digest(Tokenizer.from_pretrained("embedded"), FORMAT.template, FORMAT.end_sym)
    manifest = {key: dict.fromkeys(values, 0) for key, values in names.items()}
    manifest |= {"examples": count, "files": {}, "text": {"digest": digest}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def planning(corpus: pathlib.Path, mixture: MixtureConfig) -> dict[str, Any]:
    """Opens a corpus and plans its first rows."""
    tokenizer, config = Tokenizer.from_pretrained("embedded"), DataConfig(train=(str(corpus),), mixture=mixture)
    before, started = memory(os.getpid()), time.perf_counter()
    data = train_set(config, tokenizer, FORMAT)
    opened = time.perf_counter() - started
    rows = [data.planner.row(r) for r in range(8)]
    seconds, after = time.perf_counter() - started, memory(os.getpid())
    status = pathlib.Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
    return {
        "opened": opened,
        "planned": seconds,
        "peak": peak,
        "before": before["RSS"],
        "anonymous": after["anonymous"],
        "rows": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }


def measure_startup(folder: pathlib.Path, count: int, repeats: int) -> dict[str, Any]:
    """Seconds and memory until rows are planned, of a plain stream and of a mixture with everything."""
    corpus, facts = index(folder, count), {"start-up: index": f"{count} examples"}
    for name, mixture in (("plain", MixtureConfig()), ("full mixture", FULL)):
        results = [_in_new_process(planning, corpus, mixture) for _ in range(repeats)]
        if len({one["rows"] for one in results}) > 1:
            raise RuntimeError("the same seed planned different rows")
        middle = {key: median([one[key] for one in results]) for key in results[0] if key != "rows"}
        facts[f"start-up: {name}"] = (
            f"opened in {middle['opened']:.2f} s, first rows planned after {middle['planned']:.2f} s; "
            f"peak {middle['peak'] / 1024:.2f} GiB (of which {middle['before'] / 1024:.2f} before), "
            f"anonymous {middle['anonymous'] / 1024:.2f} GiB afterwards"
        )
    return facts


def measure_prepare(folder: pathlib.Path, count: int, repeats: int) -> dict[str, float]:
    """Clips per second of `nlm prepare` by threads and by processes."""
    from data import write_files  # imports the model too, which processes that stream need not

    write_files(folder, count, "flac", 44_100)
    measured: dict[str, list[float]] = {"nlm prepare, threads": [], "nlm prepare, processes": []}
    for number in range(repeats):
        for name, threshold in zip(measured, (count + 1, 0), strict=True):
            options = PrepareOptions(folder / "rows.jsonl", folder / f"prepared-{number}-{threshold}")
            with mock.patch.object(write_clips, "PROCESSES_FROM", threshold):
                started = time.perf_counter()
                prepare(options, workers=max(2, cores()))
            measured[name].append(count / (time.perf_counter() - started))
    return {name: median(rates) for name, rates in measured.items()}


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100_000, help="clips of the streamed corpus")
    parser.add_argument("--batches", type=int, default=1600, help="batches to stream (1600: an epoch of 100,000 clips)")
    parser.add_argument("--workers", type=int, default=2, help="processes that stream")
    parser.add_argument("--examples", type=int, default=TRAINING_SET, help="examples of the opened index")
    parser.add_argument("--recordings", type=int, default=1500, help="recordings to prepare; 10 to 12 s each")
    parser.add_argument("--part", choices=("memory", "startup", "prepare"), action="append", help="default: all")
    args = parser.parse_args(argv)
    parts, rates, facts = args.part or ("memory", "startup", "prepare"), {}, {}
    with tempfile.TemporaryDirectory(prefix="scale_") as name:
        folder = pathlib.Path(name)
        for part in parts:
            (folder / part).mkdir()
        if "memory" in parts:
            facts |= measure_memory(folder / "memory", args.clips, args.batches, args.workers)
        if "startup" in parts:
            facts |= measure_startup(folder / "startup", args.examples, args.repeats)
        if "prepare" in parts:
            facts["prepare"] = f"{args.recordings} of FLAC at 44.1 kHz, {max(2, cores())} workers"
            rates = measure_prepare(folder / "prepare", args.recordings, args.repeats)
    report("data at scale", rates, "clips/s", "nlm prepare, threads", args.json, **facts)


def _in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a new process, so that its memory can be measured."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    main()
