"""`nlm embed`: vectors of recordings from a model, for other programs."""

import argparse
import dataclasses
import functools
import itertools
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.convert.formats import audio_config
from nlm_jax.core import remote
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable
from nlm_jax.core.frames import n_tokens, n_windows
from nlm_jax.generate.model_args import add_dtype_argument, add_model_arguments, load_model
from nlm_jax.generate.options import check_flags
from nlm_jax.generate.recording_windows import (
    Notices,
    all_recordings,
    duration,
    n_spans,
    read_windows,
    window_and_hop,
    windows_of,
)
from nlm_jax.generate.vector_files import SUFFIXES, Row, writer

SUMMARY = "vectors of recordings: of the encoder, the Q-Former, or in the language model's space"
LEVELS = ("encoder", "qformer", "llm")
"""BEATs' tokens, the Q-Former's outputs, and their projection into the language model's embedding space."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm embed`."""
    add_model_arguments(parser)
    parser.add_argument(
        "--audio", required=True, nargs="+", type=remote.input_path, help="recordings, or folders of them"
    )
    parser.add_argument("--out", required=True, type=remote.output_path, help="file.npz or file.parquet")
    parser.add_argument("--level", choices=LEVELS, default="encoder", help="(default encoder)")
    parser.add_argument("--pool", choices=("window", "file"), default="window", help="a vector each (default window)")
    parser.add_argument("--window", type=float, help="seconds per window (default: the model's clip length)")
    parser.add_argument("--hop", type=float, help="seconds from one window to the next (default: the window)")
    parser.add_argument("--batch-size", type=int, default=8, help="windows computed together (default 8)")
    add_dtype_argument(parser, default="float32")


def run(args: argparse.Namespace) -> int:
    """Writes the columns file, start, end and embedding; recordings that cannot be read are named and left out.

    Raises:
      UserError: invalid flags or paths, or no recording could be read.
    """
    from rich.console import Console

    from nlm_jax.core.progress import progress_bar

    if args.out.suffix not in SUFFIXES:
        raise UserError(f"--out {args.out}: give a file that ends in {' or '.join(SUFFIXES)}")
    check_flags(args)
    audio = audio_config(args.model)
    window, hop = window_and_hop(args.window, args.hop, audio.seconds)
    write = writer(args.out)
    console, lengths, notices = Console(stderr=True, markup=False, highlight=False), {}, Notices()
    for file in all_recordings(args.audio, notices.unread):
        try:
            lengths[file] = duration(file, notices)
        except UserError as error:
            console.print(f"left out: {error}")
    if not lengths:
        raise UserError(f"{args.audio[0]}: no recording could be read")
    model = load_model(args)
    with progress_bar(console) as bar:
        task = bar.add_task("windows", total=sum(n_spans(s, window, hop) for s in lengths.values()))

        def on_window(reason: str) -> None:
            bar.advance(task)
            if reason:
                console.print(f"left out: {reason}")

        sums = window_sums(model, lengths, window, hop, args.level, args.batch_size, on_window, notices)
        count, width = write(file_means(sums) if args.pool == "file" else window_means(sums))
    for sentence in notices.sentences():
        console.print(f"warning: {remote.with_urls(sentence)}")
    if not count:
        raise UserError(f"{args.audio[0]}: no window could be read")
    console.print(f"{args.out}: {count} vectors of {width}")
    return 0


@dataclasses.dataclass(frozen=True)
class WindowSum:
    """The sum f32[D] of `count` vectors of a window, which is in seconds from the start of its recording."""

    file: str
    start: float
    end: float
    sum: np.ndarray
    count: int


def window_sums(
    model,
    lengths: Mapping[pathlib.Path, float],
    window: float,
    hop: float,
    level: str,
    batch_size: int,
    on_window: Callable[[str], None],
    notices: Notices,
) -> Iterator[WindowSum]:
    """The sum of the vectors of each window; vectors of padding do not count.

    Args:
      model: a `NatureLM`.
      lengths: recording -> seconds.
      window, hop: in seconds.
      level: a name of `LEVELS`.
      batch_size: windows computed together.
      on_window: called after each window, with "" or the reason why its audio cannot be read.
      notices: collects warnings about the recordings.
    """
    recordings = (windows_of(file, window, hop, seconds) for file, seconds in lengths.items())
    windows = read_windows(recordings, model.config.audio.quality, notices)
    while group := list(itertools.islice(windows, batch_size)):
        readable = [(w, audio) for w, audio, _ in group if audio is not None]
        if readable:
            waves = np.zeros((batch_size, round(window * SAMPLE_RATE)), np.float32)
            waves[: len(readable)] = [audio for _, audio in readable]
            vectors = np.asarray(_vectors(model.graphdef, level, model.state, jnp.asarray(waves)))
            for (w, _), own in zip(readable, vectors, strict=False):
                samples = round((w.end - w.start) * SAMPLE_RATE)
                count = int(np.clip(n_vectors(model, level, samples), 1, len(own)))
                yield WindowSum(printable(w.file), w.start, w.end, own[:count].sum(0), count)
        for _, _, reason in group:
            on_window(reason)


def n_vectors(model, level: str, samples: int) -> int:
    """Number of vectors of `level` that depend on the first `samples` samples."""
    qformer = model.config.qformer
    if level == "encoder":
        return n_tokens(samples)
    return n_windows(samples, qformer.kernel, qformer.stride) * qformer.queries


def window_means(sums: Iterable[WindowSum]) -> Iterator[Row]:
    """The mean vector of each window."""
    for w in sums:
        yield w.file, w.start, w.end, (w.sum / w.count).astype(np.float32)


def file_means(sums: Iterable[WindowSum]) -> Iterator[Row]:
    """The mean vector of each recording; one window is in memory at a time."""
    for file, windows in itertools.groupby(sums, key=lambda w: w.file):
        total, count, start, end = np.float64(0.0), 0, math.inf, 0.0
        for w in windows:
            total, count = total + w.sum, count + w.count
            start, end = min(start, w.start), w.end
        yield file, start, end, (total / count).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _vectors(graphdef, level: str, state, waves: Float[Array, "B T"]) -> Float[Array, "B P D"]:
    model = nnx.merge(graphdef, state)
    if level == "llm":
        return model.encode_audio(waves).astype(jnp.float32)
    tokens = model.beats(waves, None, dtype=jnp.dtype(model.cfg.compute_dtype))
    return (tokens if level == "encoder" else model.qformer(model.ln_audio(tokens))).astype(jnp.float32)
