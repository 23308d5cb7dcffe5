"""`nlm embed`: what a model makes of recordings, as vectors for other programs."""

import argparse
import functools
import pathlib
import zipfile
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.audio import wave
from nlm_jax.core import remote
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.core.frames import n_tokens, n_windows
from nlm_jax.generate.windows import Window, recordings, spans, windows_of

SUMMARY = "vectors of recordings: of the encoder, the Q-Former, or as the language model hears them"
LEVELS = ("encoder", "qformer", "llm")
"""BEATs' tokens, the Q-Former's queries, and their projection into the language model's embedding space."""
SUFFIXES = (".npz", ".parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm embed`."""
    parser.add_argument("--model", required=True, help="official directory, export, or training run; or a hub id")
    parser.add_argument("--audio", required=True, type=remote.reads, help="a recording, or a folder of them")
    parser.add_argument("--out", required=True, type=remote.writes, help="file.npz or file.parquet")
    parser.add_argument("--level", choices=LEVELS, default="encoder", help="(default encoder)")
    parser.add_argument("--pool", choices=("window", "file"), default="window", help="a vector each (default window)")
    parser.add_argument("--window", type=float, default=10.0, help="seconds heard at a time (default 10)")
    parser.add_argument("--hop", type=float, default=10.0, help="seconds from one window to the next (default 10)")
    parser.add_argument("--batch-size", type=int, default=8, help="windows taken together (default 8)")
    parser.add_argument("--llm", help="Hugging Face Llama directory or hub id, where the model does not carry one")
    parser.add_argument("--qformer-config", help="Q-Former sizes (JSON), where they are not bert-base's")
    parser.add_argument("--dtype", default="float32", choices=("bfloat16", "float32"), help="of the computation")


def run(args: argparse.Namespace) -> int:
    """Writes columns file, start, end and embedding; a recording that cannot be read is named and left out.

    Raises:
      UserError: wrong flags or paths, or not one recording that could be read.
    """
    from rich.console import Console
    from rich.progress import track

    from nlm_jax.generate.api import NatureLM

    if args.out.suffix not in SUFFIXES:
        raise UserError(f"--out {args.out}: give a file that ends in {' or '.join(SUFFIXES)}")
    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: must be at least 1")
    spans(0.0, args.window, args.hop)
    console, todo = Console(stderr=True), []
    for file in recordings(args.audio):
        try:
            todo += windows_of(file, args.window, args.hop)
        except UserError as error:
            console.print(f"left out: {error}", highlight=False)
    if not todo:
        raise UserError(f"{args.audio}: no recording could be read")
    model = NatureLM.from_pretrained(args.model, llm=args.llm, dtype=args.dtype, qformer_config=args.qformer_config)
    batches = [todo[i : i + args.batch_size] for i in range(0, len(todo), args.batch_size)]
    sums, counts = [], []
    for batch in track(batches, "windows", console=console):
        total, count = pooled(model, batch, args.level, args.batch_size)
        sums.append(total)
        counts.append(count)
    rows = table(todo, np.concatenate(sums), np.concatenate(counts), args.pool)
    write(args.out, rows)
    console.print(f"{args.out}: {len(rows['file'])} vectors of {rows['embedding'].shape[1]}", highlight=False)
    return 0


def pooled(model, windows: Sequence[Window], level: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum over what is audio and not padding of each window, f32[B, D], and how many vectors that were, i32[B]."""
    samples = round((windows[0].end - windows[0].start) * SAMPLE_RATE)
    waves, lengths = np.zeros((size, samples), np.float32), np.full(size, samples)
    for i, window in enumerate(windows):
        waves[i] = window.wave()
        lengths[i] = min(samples, round((wave.info(window.file).seconds - window.start) * SAMPLE_RATE))
    made = np.asarray(_level(model.graphdef, level, model.state, jnp.asarray(waves)))[: len(windows)]
    qformer = model.config.qformer
    counts = np.zeros(len(windows), np.int32)
    for i in range(len(windows)):
        real = int(lengths[i])
        heard = n_tokens(real)
        if level != "encoder":
            heard = n_windows(real, qformer.kernel, qformer.stride) * qformer.queries
        counts[i] = np.clip(heard, 1, made.shape[1])
    inside = np.arange(made.shape[1])[None, :, None] < counts[:, None, None]
    return np.where(inside, made, 0).sum(1), counts


@functools.partial(jax.jit, static_argnums=(0, 1))
def _level(graphdef, level: str, state, waves) -> Float[Array, "B P D"]:
    whole = nnx.merge(graphdef, state)
    if level == "llm":
        return whole.encode_audio(waves).astype(jnp.float32)
    dtype = jnp.dtype(whole.cfg.compute_dtype)
    tokens = whole.beats(waves, None, dtype=dtype)
    return (tokens if level == "encoder" else whole.qformer(whole.ln_audio(tokens))).astype(jnp.float32)


def table(windows: Sequence[Window], sums: np.ndarray, counts: np.ndarray, pool: str) -> dict[str, np.ndarray]:
    """Columns file, start, end and embedding f32[N, D]: a row for each window, or for each recording."""
    groups = {}
    for i, window in enumerate(windows):
        groups.setdefault(window.file if pool == "file" else (window.file, i), []).append(i)
    rows = list(groups.values())
    return {
        "file": np.array([str(windows[g[0]].file) for g in rows]),
        "start": np.array([windows[g[0]].start for g in rows]),
        "end": np.array([windows[g[-1]].end for g in rows]),
        "embedding": np.stack([sums[g].sum(0) / counts[g].sum() for g in rows]).astype(np.float32),
    }


def write(file: pathlib.Path, columns: dict[str, np.ndarray]) -> None:
    """Writes a table as NPZ or Parquet, as the file is called."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npz":
        with zipfile.ZipFile(file, "w") as archive:  # as np.savez does, which has no room for a column called "file"
            for name, values in columns.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                    np.lib.format.write_array(out, values, allow_pickle=False)
        return
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("--out: Parquet is written with pyarrow; pip install 'nlm_jax[data]', or write .npz") from None
    cells = {name: list(values) if values.ndim > 1 else values for name, values in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(cells), file)
