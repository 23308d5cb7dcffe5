"""`nlm check`: does a model hear? Shapes and statistics of every stage, its vectors beside word embeddings, answers."""

import argparse
import functools
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nlm_jax.audio.config import AudioConfig
from nlm_jax.audio.fbank import fbank
from nlm_jax.convert.formats import audio_config
from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable
from nlm_jax.data.text import PLACEHOLDER
from nlm_jax.generate.audio_inputs import clips_of
from nlm_jax.generate.model_args import add_model_arguments, load_model
from nlm_jax.generate.options import check_flags
from nlm_jax.generate.recording_windows import all_recordings
from nlm_jax.generate.request import Unanswered

SUMMARY = "look into a model: what each stage makes of a recording, and the known ways to fail"
QUERY = "What is the common name for the focal species in the audio?"
STAGES = ("waveform", "filter bank", "BEATs", "Q-Former", "projected vectors")
CLIPS = 8
LIKELIEST = 5
"""First tokens of the answer that are shown."""
ALIKE = 0.999
"""Mean cosine above which vectors count as one and the same."""
SHORT, LONG = 0.05, 50.0
"""Size of the vectors, in word embeddings, below or above which the language model cannot have learnt to read them."""
UNSURE = 0.5
"""Entropy of the first token, as a share of that of pure chance, above which an answer is as good as drawn by lot: a
trained model knows a few likely first words among a hundred thousand."""
FEW = 3
"""Recordings per kind of answer from which the model has collapsed onto a few."""
CIRCLES = 4
"""Times a phrase stands in a row before an answer goes round in circles."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm check`."""
    add_model_arguments(parser)
    parser.add_argument(
        "--audio", required=True, nargs="+", type=remote.input_path, help="a recording, or different ones, or a folder"
    )
    parser.add_argument("--query", default=QUERY, help="what to ask")
    parser.set_defaults(dtype="float32")
    parser.add_argument("--max-new-tokens", type=int, default=40, help="longest answer, in tokens (default 40)")
    parser.add_argument("--json", type=remote.output_path, help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    """Prints the three experiments and what they point to; 0 whatever is found.

    Raises:
      UserError: no model or no recording there.
    """
    check_flags(args)
    waves = readable(all_recordings(args.audio), audio_config(args.model))
    model = load_model(args)
    found = examine(model, waves, args.query, args.max_new_tokens)
    show(found, args.query)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    return 0


def readable(files: Sequence[pathlib.Path], cfg: AudioConfig) -> dict[str, np.ndarray]:
    """The first recordings that can be read, as clips f32[T] of one length; others before them are named and left out.

    Raises:
      UserError: none can be read.
    """
    waves, reasons = {}, []
    for file in files:
        try:
            waves[printable(file)] = clips_of(file, cfg)[0].wave
        except UserError as error:
            reasons.append(error)
            print(f"left out: {remote.with_urls(error)}", file=sys.stderr)
        if len(waves) == CLIPS:
            break
    if not waves:
        raise reasons[0]
    return waves


def examine(model, waves: dict[str, np.ndarray], query: str, max_new_tokens: int) -> dict[str, Any]:
    """The three experiments on recordings f32[T] of one length: stages, vectors, answers; and the signs of failure.

    One recording says little: silence and noise are asked beside it, which should sound different.
    """
    heard, rng = np.stack(list(waves.values())), np.random.default_rng(0)
    noise = rng.normal(0, 0.1, heard.shape[1]).astype(np.float32)
    extra = {"(silence)": np.zeros_like(noise), "(noise)": noise} if len(waves) == 1 else {}
    asked = waves | extra
    try:
        texts = model.generate(list(asked.values()), [query] * len(asked), max_new_tokens=max_new_tokens)
    except Unanswered as error:  # what the stages and the signs below explain
        texts = [answer and answer.text for answer in error.answers]
    found = {
        "stages": stages(model, heard),
        "vectors": vectors(model, heard, extra.get("(noise)")),
        "first_token": first_token(model, query, heard[0]),
        "answers": dict(zip(asked, texts, strict=True)),
    }
    return found | {"signs": signs(found)}


def show(found: dict[str, Any], query: str) -> None:
    """Prints what was found."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    table = Table("stage", "shape", "mean", "deviation", "least", "largest", title="what each stage makes of it")
    for name, s in found["stages"].items():
        figures = (f"{s[key]:.4g}" for key in ("mean", "deviation", "least", "largest"))
        table.add_row(name, "x".join(map(str, s["shape"])), *figures)
    console.print(table)
    v, first = found["vectors"], found["first_token"]
    console.print(
        f"vectors: norm {v['norm']:.3g}, word embeddings {v['embedding_norm']:.3g}; cosine between windows "
        f"{v['cosine_windows']:.4f}, between recordings {v['cosine_clips']:.4f}; nearest tokens of the first "
        f"recording: {' '.join(map(repr, v['nearest'][:12]))} (cosine {v['nearest_cosine']:.3f})"
    )
    likely = ", ".join(f"{token!r} {share:.1%}" for token, share in first["likeliest"])
    console.print(f"asked {query!r}; first token: {likely}; entropy {first['entropy']:.0%} of chance")
    for name, text in found["answers"].items():
        console.print(f"{name}: {'no answer' if text is None else repr(text)}")
    for sign in found["signs"] or ["none of the known signs of failure"]:
        console.print(sign)


def stages(model, waves: np.ndarray) -> dict[str, dict[str, Any]]:
    """Shape and statistics of each stage's output for f32[B, T]."""
    made = _stages(model.graphdef, model.state, jnp.asarray(waves))
    return {name: statistics(np.asarray(x)) for name, x in zip(STAGES, made, strict=True)}


@functools.partial(jax.jit, static_argnums=0)
def _stages(graphdef, state, waves):
    whole = nnx.merge(graphdef, state)
    mel = fbank(waves)
    tokens = whole.beats.encode(mel)
    heard = whole.qformer(whole.ln_audio(tokens))
    return waves, mel, tokens, heard, whole.audio_proj(heard)


def statistics(x: np.ndarray) -> dict[str, Any]:
    """What is printed of an array."""
    finite = bool(np.isfinite(x).all())
    figures = {"mean": x.mean(), "deviation": x.std(), "least": x.min(), "largest": x.max()}
    return {"shape": list(x.shape), "finite": finite, **{name: float(value) for name, value in figures.items()}}


def vectors(model, waves: np.ndarray, other: np.ndarray | None = None) -> dict[str, Any]:
    """The projected vectors in the embedding space of the language model: sizes, likeness, nearest tokens.

    Args:
      other: a sound f32[T] that a lone recording is compared with.
    """
    heard = np.asarray(model.encode_audio(waves), np.float32)
    words = np.asarray(_embeddings(model.graphdef, model.state), np.float32)
    sizes = np.linalg.norm(words, axis=1)
    known = words / np.maximum(sizes, 1e-12)[:, None]
    first = heard[0] / np.maximum(np.linalg.norm(heard[0], axis=1), 1e-12)[:, None]
    close = first @ known.T
    clips = heard if other is None else np.concatenate([heard, np.asarray(model.encode_audio(other[None]))])
    return {
        "norm": float(np.linalg.norm(heard, axis=-1).mean()),
        "embedding_norm": float(np.median(sizes)),
        "cosine_windows": float(np.mean([likeness(clip) for clip in heard])),
        "cosine_clips": likeness(clips.reshape(len(clips), -1)),
        "nearest": [model.tokenizer.decode([int(token)]) for token in close.argmax(1)],
        "nearest_cosine": float(close.max(1).mean()),
    }


def first_token(model, query: str, audio: np.ndarray) -> dict[str, Any]:
    """What the model would begin its answer with: likeliest tokens, and their entropy as a share of pure chance."""
    prompt = query if PLACEHOLDER in query else f"<Audio>{PLACEHOLDER}</Audio> {query}"
    # The last position holds the end symbol of the empty answer; the one before it predicts the first token.
    logits = np.asarray(model.logits([prompt], [""], [[audio]]), np.float64)[0, -2]
    with np.errstate(invalid="ignore"):  # of damaged weights: the entropy is NaN then, which is a sign
        logits -= logits.max()
        shares = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-shares, kind="stable")[:LIKELIEST]
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum() / np.log(len(shares))
    likeliest = [(model.tokenizer.decode([int(token)]), float(shares[token])) for token in order]
    return {"entropy": float(entropy), "likeliest": likeliest}


@functools.partial(jax.jit, static_argnums=0)
def _embeddings(graphdef, state):
    return nnx.merge(graphdef, state).llama.embed_tokens.embedding[...]


def likeness(rows: np.ndarray) -> float:
    """Mean cosine between different rows; NaN of fewer than two."""
    if len(rows) < 2:
        return float("nan")
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)[:, None]
    together = unit @ unit.T
    return float((together.sum() - np.trace(together)) / (len(rows) * (len(rows) - 1)))


def signs(found: dict[str, Any]) -> list[str]:
    """The known ways to fail that the figures show, each with what to look at."""
    said = [
        f"{name} holds infinity or NaN: the weights or the recording are damaged"
        for name, s in found["stages"].items()
        if not s["finite"]
    ]
    v = found["vectors"]
    ratio = v["norm"] / max(v["embedding_norm"], 1e-12)
    if not SHORT <= ratio <= LONG:
        said.append(
            f"random outputs are likely: the vectors are {ratio:.3g} times as long as word embeddings; is the "
            "projection trained, and of this language model?"
        )
    if not found["first_token"]["entropy"] <= UNSURE:
        said.append(
            f"random outputs: the first token of the answer is as good as drawn by lot (entropy "
            f"{found['first_token']['entropy']:.0%} of chance); are the weights those of a trained model, all of them?"
        )
    if v["cosine_windows"] > ALIKE:
        said.append("mode collapse: all windows of a recording give the same vector; look at the Q-Former's training")
    if v["cosine_clips"] > ALIKE:
        said.append("mode collapse: different recordings give the same vectors; look at the encoder's training")
    answers = [text.strip() for text in found["answers"].values() if text is not None]
    if lacking := len(found["answers"]) - len(answers):
        said.append(
            f"{lacking} of {len(found['answers'])} answers are NaN or infinite: the weights of the language model are "
            "damaged, or the vectors it is given"
        )
    kinds = len(set(answers))
    if len(answers) > 1 and kinds == 1:
        said.append(f"constant answers: {answers[0]!r} whatever is heard; compare --merging-alpha and the prompts")
    elif answers and len(answers) >= FEW * kinds:
        said.append(f"mode collapse: {kinds} kinds of answers to {len(answers)} recordings")
    if circle := next((found for text in answers if (found := repeated(text))), ""):
        said.append(f"an answer goes round in circles: {circle!r} again and again; try a --merging-alpha nearer to 1")
    if answers and not any(answers):
        said.append("empty answers: the end symbol comes first; is the tokenizer that of this language model?")
    return said


def repeated(text: str) -> str:
    """A phrase of up to four words that stands `CIRCLES` times in a row; "" where there is none."""
    words = text.split()
    for size in range(1, 5):
        for start in range(len(words) - CIRCLES * size + 1):
            phrase = words[start : start + size]
            if words[start : start + CIRCLES * size] == CIRCLES * phrase:
                return " ".join(phrase)
    return ""
