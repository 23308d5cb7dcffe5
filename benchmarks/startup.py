"""Start-up: time and peak host memory to import a Hugging Face Llama directory, compared with `from_pretrained`.

    python benchmarks/startup.py                                # a directory of 1B's shapes, written, later removed
    python benchmarks/startup.py --preset=llama-3.1-8b          # 16 GB on disk
    python benchmarks/startup.py --dir=/path/to/Llama-3.1-8B    # one you have

Each side runs in its own process, so that its peak memory can be measured; files are read once before, so that they are
in the page cache. Peak memory beyond the weights is the overhead of a host that streams weights to accelerators.
"""

import argparse
import dataclasses
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import ml_dtypes
import numpy as np
from common import arguments, median, report

from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.formats import open_checkpoint, save
from nlm_jax.convert.leaves import abstract
from nlm_jax.convert.transfer import Lazy
from nlm_jax.data.text import embedded_directory
from nlm_jax.models.presets import preset


def write_weights(folder: pathlib.Path, name: str, layers: int) -> None:
    """A directory of bfloat16 weights in the layout of the hub, written tensor by tensor."""
    cfg = preset(f"{name}-no-pad")
    cfg = dataclasses.replace(cfg, llama=dataclasses.replace(cfg.llama, lora=None, layers=layers or cfg.llama.layers))
    dtype = np.dtype(ml_dtypes.bfloat16)
    noise = np.random.default_rng(0).normal(size=1 << 20).astype(dtype)
    leaves = {}
    for path, leaf in abstract(cfg).items():
        if path.startswith("llama/"):
            stacked = path.startswith("llama/layers/")
            shape = leaf.shape[1:] if stacked else leaf.shape
            leaves[path] = Lazy(leaf.shape, dtype, stacked, lambda _, shape=shape: np.resize(noise, shape))
    save(Checkpoint(cfg, leaves, tokenizer=embedded_directory()), folder / "made", "llama-merged")


def ours(folder: pathlib.Path) -> None:
    import jax

    jax.block_until_ready(dict(open_checkpoint(str(folder), kind="llama").load().leaves))


def theirs(folder: pathlib.Path) -> None:
    import torch
    import transformers

    transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--dir", type=pathlib.Path, help="a Llama directory")
    parser.add_argument("--preset", default="llama-3.2-1b", help="shapes of the directory written without --dir")
    parser.add_argument("--layers", type=int, default=0, help="fewer layers than the preset has")
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.side:
        started = time.perf_counter()
        {"ours": ours, "theirs": theirs}[args.side](args.dir)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": time.perf_counter() - started, "peak": peak}))
        return
    scratch = None if args.dir else pathlib.Path(tempfile.mkdtemp(prefix="startup_"))
    folder = args.dir or scratch / "made"
    try:
        if scratch:
            write_weights(scratch, args.preset, args.layers)
        size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
        for file in folder.glob("*.safetensors"):
            with file.open("rb") as opened:
                while opened.read(1 << 24):
                    pass
        measured: dict[str, list[dict]] = {"nlm_jax": [], "transformers": []}
        for _ in range(args.repeats):
            for name, side in (("nlm_jax", "ours"), ("transformers", "theirs")):
                command = [sys.executable, __file__, f"--dir={folder}", f"--side={side}"]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                measured[name].append(json.loads(done.stdout.splitlines()[-1]))
    finally:
        if scratch:
            shutil.rmtree(scratch)
    rates = {name: size / 2**30 / median([f["seconds"] for f in runs]) for name, runs in measured.items()}
    facts = {
        f"peak host memory, {name}": f"{max(f['peak'] for f in runs) / 2**30:.2f} GiB"
        for name, runs in measured.items()
    }
    facts = {"weights": f"{size / 2**30:.2f} GiB", **facts}
    report(
        "import of a Llama directory, imports of Python included", rates, "GiB/s", "transformers", args.json, **facts
    )


if __name__ == "__main__":
    main()
