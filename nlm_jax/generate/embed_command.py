"""`nlm embed`: what a model makes of recordings, as vectors for other programs."""

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import math
import pathlib
import shutil
import tempfile
import zipfile
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
from nlm_jax.generate.recording_windows import Noticed, all_recordings, chosen, n_spans, seconds_of, sounds, windows_of

SUMMARY = "vectors of recordings: of the encoder, the Q-Former, or as the language model hears them"
LEVELS = ("encoder", "qformer", "llm")
"""BEATs' tokens, the Q-Former's queries, and their projection into the language model's embedding space."""
SUFFIXES = (".npz", ".parquet")
COLUMNS = ("file", "start", "end", "embedding")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm embed`."""
    add_model_arguments(parser)
    parser.add_argument(
        "--audio", required=True, nargs="+", type=remote.input_path, help="recordings, or folders of them"
    )
    parser.add_argument("--out", required=True, type=remote.output_path, help="file.npz or file.parquet")
    parser.add_argument("--level", choices=LEVELS, default="encoder", help="(default encoder)")
    parser.add_argument("--pool", choices=("window", "file"), default="window", help="a vector each (default window)")
    parser.add_argument("--window", type=float, help="seconds heard at a time (default: the model's clip length)")
    parser.add_argument("--hop", type=float, help="seconds from one window to the next (default: the window)")
    parser.add_argument("--batch-size", type=int, default=8, help="windows taken together (default 8)")
    add_dtype_argument(parser, default="float32")


def run(args: argparse.Namespace) -> int:
    """Writes columns file, start, end and embedding; a recording that cannot be read is named and left out.

    Raises:
      UserError: wrong flags or paths, or not one recording that could be read.
    """
    from rich.console import Console

    from nlm_jax.core.progress import progress_bar

    if args.out.suffix not in SUFFIXES:
        raise UserError(f"--out {args.out}: give a file that ends in {' or '.join(SUFFIXES)}")
    check_flags(args)
    audio = audio_config(args.model)
    window, hop = chosen(args.window, args.hop, audio.seconds)
    write = writer(args.out)
    console, lengths, noticed = Console(stderr=True, markup=False, highlight=False), {}, Noticed()
    for file in all_recordings(args.audio, noticed.unread):
        try:
            lengths[file] = seconds_of(file, noticed)
        except UserError as error:
            console.print(f"left out: {error}")
    if not lengths:
        raise UserError(f"{args.audio[0]}: no recording could be read")
    model = load_model(args)
    with progress_bar(console) as bar:
        task = bar.add_task("windows", total=sum(n_spans(s, window, hop) for s in lengths.values()))

        def told(reason: str) -> None:
            bar.advance(task)
            if reason:
                console.print(f"left out: {reason}")

        made = vectors(model, lengths, window, hop, args.level, args.batch_size, told, noticed)
        count, width = write(pooled(made) if args.pool == "file" else mean(made))
    for sentence in noticed.sentences():
        console.print(f"warning: {remote.with_urls(sentence)}")
    if not count:
        raise UserError(f"{args.audio[0]}: no window could be read")
    console.print(f"{args.out}: {count} vectors of {width}")
    return 0


@dataclasses.dataclass(frozen=True)
class Vector:
    """What is heard in a stretch of a recording: the sum over `count` vectors, f32[D]."""

    file: str
    start: float
    end: float
    sum: np.ndarray
    count: int


def vectors(
    model,
    lengths: Mapping[pathlib.Path, float],
    window: float,
    hop: float,
    level: str,
    size: int,
    told: Callable[[str], None],
    noticed: Noticed,
) -> Iterator[Vector]:
    """One of each window of the recordings, `size` at a time; padding is left out of the sums.

    Args:
      lengths: recording -> seconds.
      told: called after each window, with the reason if its audio could not be read.
      noticed: collects what is to be said of the recordings.
    """
    windows = (windows_of(file, window, hop, seconds) for file, seconds in lengths.items())
    heard = sounds(windows, model.config.audio.quality, noticed)
    while group := list(itertools.islice(heard, size)):
        good = [(one, audio) for one, audio, _ in group if audio is not None]
        if good:
            waves = np.zeros((size, round(window * SAMPLE_RATE)), np.float32)
            waves[: len(good)] = [audio for _, audio in good]
            made = np.asarray(_level(model.graphdef, level, model.state, jnp.asarray(waves)))
            for (one, _), tokens in zip(good, made, strict=False):
                inside = round((one.end - one.start) * SAMPLE_RATE)
                count = int(np.clip(n_vectors(model, level, inside), 1, len(tokens)))
                yield Vector(printable(one.file), one.start, one.end, tokens[:count].sum(0), count)
        for _, _, reason in group:
            told(reason)


def n_vectors(model, level: str, samples: int) -> int:
    """Vectors of `level` that hear something of the first `samples` samples."""
    qformer = model.config.qformer
    if level == "encoder":
        return n_tokens(samples)
    return n_windows(samples, qformer.kernel, qformer.stride) * qformer.queries


def mean(made: Iterable[Vector]) -> Iterator[tuple[str, float, float, np.ndarray]]:
    """(file, start, end, embedding f32[D]) of each window."""
    for one in made:
        yield one.file, one.start, one.end, (one.sum / one.count).astype(np.float32)


def pooled(made: Iterable[Vector]) -> Iterator[tuple[str, float, float, np.ndarray]]:
    """The same of each recording: the mean over all that was heard of it, in no more room than one window takes."""
    for file, mine in itertools.groupby(made, key=lambda one: one.file):
        total, count, start, end = np.float64(0.0), 0, math.inf, 0.0
        for one in mine:
            total, count = total + one.sum, count + one.count
            start, end = min(start, one.start), one.end
        yield file, start, end, (total / count).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _level(graphdef, level: str, state, waves) -> Float[Array, "B P D"]:
    whole = nnx.merge(graphdef, state)
    if level == "llm":
        return whole.encode_audio(waves).astype(jnp.float32)
    dtype = jnp.dtype(whole.cfg.compute_dtype)
    tokens = whole.beats(waves, None, dtype=dtype)
    return (tokens if level == "encoder" else whole.qformer(whole.ln_audio(tokens))).astype(jnp.float32)


def writer(file: pathlib.Path) -> Callable[[Iterable[tuple]], tuple[int, int]]:
    """Writes rows of `mean` or `pooled` as NPZ or Parquet, as the file is called; how many of them, and their width.

    Both as the rows come: none of them stays in memory.

    Raises:
      UserError: pyarrow is not installed.
    """
    if file.suffix == ".npz":
        return functools.partial(write_npz, file)
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UserError("--out: Parquet is written with pyarrow; pip install 'nlm_jax[data]', or write .npz") from None
    return functools.partial(write_parquet, file)


def write_npz(file: pathlib.Path, rows: Iterable[tuple]) -> tuple[int, int]:
    """Columns file, start, end and embedding f32[N, D].

    An array says in front how long it is: until that is known, the columns lie in files of their own beside `file`,
    which is there once it is whole. Room for the vectors twice is needed on the disk.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
        spool = {name: pathlib.Path(folder, name) for name in COLUMNS}
        count, width, longest = _spool(spool, rows)
        if not count:
            return 0, 0
        whole = pathlib.Path(folder, "npz")
        with zipfile.ZipFile(whole, "w") as archive:  # as np.savez does, which has no room for a column called "file"
            for name, kind, shape in (
                ("file", np.dtype(f"<U{longest}"), (count,)),
                ("start", np.dtype("<f8"), (count,)),
                ("end", np.dtype("<f8"), (count,)),
                ("embedding", np.dtype("<f4"), (count, width)),
            ):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as out, spool[name].open("rb") as column:
                    head = {"descr": kind.str, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(out, head)
                    if name == "file":
                        out.writelines(np.array(json.loads(line), kind).tobytes() for line in column)
                    else:
                        shutil.copyfileobj(column, out)
        whole.replace(file)
    return count, width


def _spool(files: Mapping[str, pathlib.Path], rows: Iterable[tuple]) -> tuple[int, int, int]:
    """Writes each column of `rows` to its file; rows, width of a vector, letters of the longest name."""
    count = width = longest = 0
    with contextlib.ExitStack() as opened:
        out = {name: opened.enter_context(path.open("wb")) for name, path in files.items()}
        for name, start, end, embedding in rows:
            out["file"].write(json.dumps(name).encode() + b"\n")
            out["start"].write(np.array(start, "<f8").tobytes())
            out["end"].write(np.array(end, "<f8").tobytes())
            out["embedding"].write(np.asarray(embedding, "<f4").tobytes())
            count, width, longest = count + 1, len(embedding), max(longest, len(name))
    return count, width, longest


def write_parquet(file: pathlib.Path, rows: Iterable[tuple]) -> tuple[int, int]:
    """The same, a thousand rows at a time."""
    import pyarrow
    import pyarrow.parquet

    types = (pyarrow.string(), pyarrow.float64(), pyarrow.float64(), pyarrow.list_(pyarrow.float32()))
    schema, count, width, rows = pyarrow.schema(list(zip(COLUMNS, types, strict=True))), 0, 0, iter(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.parquet.ParquetWriter(file, schema) as out:
        while chunk := list(itertools.islice(rows, 1_000)):
            arrays = [
                pyarrow.array(list(values), kind) for values, kind in zip(zip(*chunk, strict=True), types, strict=True)
            ]
            out.write_batch(pyarrow.record_batch(arrays, schema=schema))
            count, width = count + len(chunk), len(chunk[0][-1])
    return count, width
