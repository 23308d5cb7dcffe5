"""Statistics of each stage of a model for recordings, and the symptoms of a broken model; for `nlm check`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nlm_jax.audio.fbank import fbank
from nlm_jax.data.text import PLACEHOLDER
from nlm_jax.generate.request import Unanswered

STAGES = ("waveform", "filter bank", "BEATs", "Q-Former", "projected vectors")
LIKELIEST = 5
"""Number of first tokens of the answer in the report."""
ALIKE = 0.999
"""Mean cosine above which vectors count as identical."""
SHORT, LONG = 0.05, 50.0
"""Norm of the audio vectors, relative to word embeddings, outside of which the language model cannot have learnt to use
them."""
UNSURE = 0.5
"""Entropy of the first token, relative to a uniform distribution, above which an answer is random: a trained model
expects one of a few first tokens out of a hundred thousand."""
MIN_ANSWERS_PER_DISTINCT = 3
"""Recordings per distinct answer from which the answers count as collapsed."""
REPEATS = 4
"""Consecutive repetitions of a phrase that count as a loop."""


def examine(model, waves: dict[str, np.ndarray], query: str, max_new_tokens: int) -> dict[str, Any]:
    """Runs three experiments on recordings: stages, vectors, answers.

    A single recording is compared with silence and noise, which should have different answers.

    Args:
      model: a `NatureLM`.
      waves: name -> f32[T] at 16 kHz, all of one length.
      query: the question about each.
      max_new_tokens: most tokens of an answer.

    Returns:
      the report: "stages", "vectors", "first_token", "answers", and "signs" of failure.
    """
    recordings, rng = np.stack(list(waves.values())), np.random.default_rng(0)
    noise = rng.normal(0, 0.1, recordings.shape[1]).astype(np.float32)
    controls = {"(silence)": np.zeros_like(noise), "(noise)": noise} if len(waves) == 1 else {}
    audios = waves | controls
    try:
        texts = model.generate(list(audios.values()), [query] * len(audios), max_new_tokens=max_new_tokens)
    except Unanswered as error:  # the stages and the signs below explain it
        texts = [answer and answer.text for answer in error.answers]
    report = {
        "stages": stages(model, recordings),
        "vectors": vectors(model, recordings, controls.get("(noise)")),
        "first_token": first_token(model, query, recordings[0]),
        "answers": dict(zip(audios, texts, strict=True)),
    }
    return report | {"signs": signs(report)}


def stages(model, waves: np.ndarray) -> dict[str, dict[str, Any]]:
    """`statistics` of each stage's output for waveforms f32[B, T]."""
    outputs = _stages(model.graphdef, model.state, jnp.asarray(waves))
    return {name: statistics(np.asarray(x)) for name, x in zip(STAGES, outputs, strict=True)}


@functools.partial(jax.jit, static_argnums=0)
def _stages(graphdef, state, waves):
    model = nnx.merge(graphdef, state)
    mel = fbank(waves)
    tokens = model.beats.encode(mel)
    windows = model.qformer(model.ln_audio(tokens))
    return waves, mel, tokens, windows, model.audio_proj(windows)


def statistics(x: np.ndarray) -> dict[str, Any]:
    """Shape, mean, standard deviation and range of an array, and whether it is finite."""
    finite = bool(np.isfinite(x).all())
    figures = {"mean": x.mean(), "deviation": x.std(), "least": x.min(), "largest": x.max()}
    return {"shape": list(x.shape), "finite": finite, **{name: float(value) for name, value in figures.items()}}


def vectors(model, waves: np.ndarray, control: np.ndarray | None = None) -> dict[str, Any]:
    """The audio vectors in the embedding space of the language model: norms, similarity, nearest tokens.

    Args:
      model: a `NatureLM`.
      waves: f32[B, T].
      control: a waveform f32[T] with which a single recording is compared.
    """
    audio = np.asarray(model.encode_audio(waves), np.float32)
    words = np.asarray(_embeddings(model.graphdef, model.state), np.float32)
    norms = np.linalg.norm(words, axis=1)
    unit_words = words / np.maximum(norms, 1e-12)[:, None]
    first = audio[0] / np.maximum(np.linalg.norm(audio[0], axis=1), 1e-12)[:, None]
    cosines = first @ unit_words.T
    clips = audio if control is None else np.concatenate([audio, np.asarray(model.encode_audio(control[None]))])
    return {
        "norm": float(np.linalg.norm(audio, axis=-1).mean()),
        "embedding_norm": float(np.median(norms)),
        "cosine_windows": float(np.mean([mean_cosine(clip) for clip in audio])),
        "cosine_clips": mean_cosine(clips.reshape(len(clips), -1)),
        "nearest": [model.tokenizer.decode([int(token)]) for token in cosines.argmax(1)],
        "nearest_cosine": float(cosines.max(1).mean()),
    }


@functools.partial(jax.jit, static_argnums=0)
def _embeddings(graphdef, state):
    return nnx.merge(graphdef, state).llama.embed_tokens.embedding[...]


def mean_cosine(rows: np.ndarray) -> float:
    """Mean cosine of all pairs of rows; NaN if there are fewer than two."""
    if len(rows) < 2:
        return float("nan")
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)[:, None]
    cosines = unit @ unit.T
    return float((cosines.sum() - np.trace(cosines)) / (len(rows) * (len(rows) - 1)))


def first_token(model, query: str, audio: np.ndarray) -> dict[str, Any]:
    """The distribution of the answer's first token: the likeliest tokens, and the entropy relative to a uniform one."""
    prompt = query if PLACEHOLDER in query else f"<Audio>{PLACEHOLDER}</Audio> {query}"
    # The last position holds the end symbol of the empty answer; the one before it predicts the first token.
    logits = np.asarray(model.logits([prompt], [""], [[audio]]), np.float64)[0, -2]
    with np.errstate(invalid="ignore"):  # damaged weights: the entropy is NaN then, which is a sign
        logits -= logits.max()
        probabilities = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-probabilities, kind="stable")[:LIKELIEST]
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum() / np.log(len(probabilities))
    likeliest = [(model.tokenizer.decode([int(token)]), float(probabilities[token])) for token in order]
    return {"entropy": float(entropy), "likeliest": likeliest}


def signs(report: dict[str, Any]) -> list[str]:
    """The known symptoms of failure in a report, each with what to look at."""
    signs = [
        f"{name} holds infinity or NaN: the weights or the recording are damaged"
        for name, figures in report["stages"].items()
        if not figures["finite"]
    ]
    v = report["vectors"]
    ratio = v["norm"] / max(v["embedding_norm"], 1e-12)
    if not SHORT <= ratio <= LONG:
        signs.append(
            f"random outputs are likely: the vectors are {ratio:.3g} times as long as word embeddings; is the "
            "projection trained, and of this language model?"
        )
    if not report["first_token"]["entropy"] <= UNSURE:
        signs.append(
            f"random outputs: the distribution of the first token is nearly uniform (entropy "
            f"{report['first_token']['entropy']:.0%} of chance); are the weights those of a trained model, all of them?"
        )
    if v["cosine_windows"] > ALIKE:
        signs.append("mode collapse: all windows of a recording give the same vector; look at the Q-Former's training")
    if v["cosine_clips"] > ALIKE:
        signs.append("mode collapse: different recordings give the same vectors; look at the encoder's training")
    return signs + _answer_signs(list(report["answers"].values()))


def _answer_signs(texts: list[str | None]) -> list[str]:
    """The symptoms in the answers; None = no answer, as the logits are not finite."""
    signs = []
    answers = [text.strip() for text in texts if text is not None]
    if missing := len(texts) - len(answers):
        signs.append(
            f"{missing} of {len(texts)} answers are NaN or infinite: the weights of the language model are damaged, or "
            "its input vectors"
        )
    distinct = len(set(answers))
    if len(answers) > 1 and distinct == 1:
        signs.append(f"constant answers: {answers[0]!r} for every recording; compare --merging-alpha and the prompts")
    elif answers and len(answers) >= MIN_ANSWERS_PER_DISTINCT * distinct:
        signs.append(f"mode collapse: {distinct} different answers to {len(answers)} recordings")
    if phrase := next((phrase for text in answers if (phrase := repeated(text))), ""):
        signs.append(f"an answer is in a loop: {phrase!r} again and again; try a --merging-alpha nearer to 1")
    if answers and not any(answers):
        signs.append("empty answers: the end symbol comes first; is the tokenizer that of this language model?")
    return signs


def repeated(text: str) -> str:
    """A phrase of up to four words that occurs `REPEATS` times in succession; "" if there is none."""
    words = text.split()
    for size in range(1, 5):
        for start in range(len(words) - REPEATS * size + 1):
            phrase = words[start : start + size]
            if words[start : start + REPEATS * size] == REPEATS * phrase:
                return " ".join(phrase)
    return ""
