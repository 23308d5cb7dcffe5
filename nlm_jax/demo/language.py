"""The tiny Llama of the demo: a language model pre-trained on the corpus's text alone.

It stands in for Llama 3.1 of the real recipe: it has learnt names and answer formats, but no audio. In its training
texts a written description takes the place of a clip's vectors, so that it learns to answer from the content between
<Audio> and </Audio>. It is then frozen; the training stages must map audio to embeddings that it understands.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.data.text import CLIP_MARK, DEFAULT_END_SYM, DEFAULT_TEMPLATE, Tokenizer, prompt_parts
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.models.llama.model import LlamaModel
from nlm_jax.nn.attention import attend
from nlm_jax.nn.masks import packed_causal

BLURRED = 0.75
"""Share of the rows whose descriptions are blurred, see `blur`."""
MAX_NOISE = 1.0
"""Maximum noise on a description's embeddings, relative to their own size."""
MAX_SCALE = 6.0
"""Maximum factor on a description's embeddings: vectors of the projection are initially larger than word embeddings."""

KERNEL_SCALE, EMBEDDING_SCALE = 5.0, 10.0
"""Factors on Llama's initial kernels and embedding (see `enlarged`): about 1 / sqrt(width), and twice that."""


@dataclasses.dataclass(frozen=True)
class LanguageConfig:
    """Sizes and schedule of text pre-training."""

    vocabulary: int = 1024
    width: int = 96
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 256
    steps: int = 270
    rows: int = 24
    row_tokens: int = 96
    learning_rate: float = 4e-3
    question_weight: float = 0.0
    """Loss weight of tokens outside the answer."""
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    """Sampling weight per task, independent of its number of questions; 1 for tasks without an entry."""
    seed: int = 0

    def llama(self, vocab: int) -> LlamaConfig:
        """The config of a Llama of these sizes."""
        return LlamaConfig(
            vocab=vocab,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.width // self.heads,
            mlp=self.mlp,
            rope_theta=10000.0,
            rope_scaling=None,
            tied=True,
            max_positions=2048,
        )


@dataclasses.dataclass(frozen=True)
class Text:
    """One training text: token ids, the slice of the description, and the index of the first answer token."""

    ids: list[int]
    described: slice
    answer: int


def make_text(tokenizer: Tokenizer, prompt: str, answer: str, description: str) -> Text:
    """BOS ‖ template(<Audio> description </Audio> prompt) ‖ answer: words in place of the clip's vectors.

    The parts are tokenized separately, as around a real clip.
    """
    before, after = prompt_parts(tokenizer, f"{CLIP_MARK} {prompt}", DEFAULT_TEMPLATE)
    ids = [tokenizer.bos_id, *before, *tokenizer.encode(description)]
    described = slice(1 + len(before), len(ids))
    ids += after
    return Text(ids + tokenizer.encode(answer + DEFAULT_END_SYM), described, len(ids))


def pack(texts: Sequence[Text], order: np.ndarray, rows: int, row_tokens: int, outside: float) -> dict[str, np.ndarray]:
    """Packs whole texts into rows, in the given order.

    Args:
      order: indices of texts.
      outside: loss weight of tokens outside the answer.

    Returns:
      tokens, positions, segments i32[B, S], weights f32[B, S] and described bool[B, S].
    """
    out = {k: np.zeros((rows, row_tokens), np.int32) for k in ("tokens", "positions", "segments")}
    out["weights"] = np.zeros((rows, row_tokens), np.float32)
    out["described"] = np.zeros((rows, row_tokens), bool)
    row = start = 0
    segment = 1
    for index in order:
        text = texts[index]
        n = len(text.ids)
        if start + n > row_tokens:
            row, start, segment = row + 1, 0, 1
        if row == rows:
            break
        span = slice(start, start + n)
        out["tokens"][row, span] = text.ids
        out["positions"][row, span] = np.arange(n)
        out["segments"][row, span] = segment
        # The weight is at the position that predicts the token: the one before it.
        out["weights"][row, start : start + n - 1] = outside
        out["described"][row, start + text.described.start : start + text.described.stop] = True
        out["weights"][row, start + text.answer - 1 : start + n - 1] = 1.0
        start, segment = start + n, segment + 1
    return out


def blur(
    x: Float[Array, "B S D"], described: Bool[Array, "B S"], segments: Int[Array, "B S"], key
) -> Float[Array, "B S D"]:
    """Replaces each embedding of a description by a random mixture of the description's embeddings, scaled, plus noise.

    A clip's vectors never equal single words: each window of audio mixes species, kind and number, and none is exactly
    a word embedding. A language model trained on exact words only would give no useful gradient to an encoder that is
    still far off.
    """
    mix, scale, noise, draw, rows = jax.random.split(key, 5)
    described = described & jax.random.bernoulli(rows, BLURRED, (len(x), 1))
    same = described[:, :, None] & described[:, None, :] & (segments[:, :, None] == segments[:, None, :])
    weights = jnp.where(same, jax.random.exponential(mix, same.shape), 0.0)
    weights /= jnp.maximum(jnp.linalg.norm(weights, axis=-1, keepdims=True), 1e-6)  # keeps the norm of one word
    size = jax.lax.stop_gradient(jnp.sqrt(jnp.square(x).mean()))
    per_row = (x.shape[0], 1, 1)
    mixed = weights @ x + size * jax.random.uniform(noise, per_row, maxval=MAX_NOISE) * jax.random.normal(draw, x.shape)
    mixed = mixed * jnp.exp(jax.random.uniform(scale, per_row, maxval=math.log(MAX_SCALE)))
    return jnp.where(described[..., None], mixed, x)


def loss(model: LlamaModel, batch, key=None) -> jax.Array:
    """Weighted mean negative log-likelihood of the next token within each text; blurs descriptions if `key` is set."""
    mask = packed_causal(batch["segments"])
    x = model.embed_tokens(batch["tokens"], jnp.float32)
    if key is not None:
        x = blur(x, batch["described"], batch["segments"], key)
    hidden, _ = model(x, batch["positions"], lambda cache, _layer, q, k, v: (attend(q, k, v, mask), cache))
    following = jnp.roll(batch["tokens"], -1, axis=1)
    nll = optax.softmax_cross_entropy_with_integer_labels(model.logits(hidden), following)
    return (nll * batch["weights"]).sum() / batch["weights"].sum()


def enlarged(state):
    """Scales Llama's initial weights for a narrow model.

    Their standard deviation of 0.02 suits a width of 4096. At a fortieth of that width the layers' outputs are so small
    relative to the residual stream that a short schedule hardly trains them: the model learns answer formats and only
    half of the names.
    """

    def scale(path, x: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path)
        return x * (1.0 if "norm" in name else EMBEDDING_SCALE if "embed" in name else KERNEL_SCALE)

    return jax.tree_util.tree_map_with_path(scale, state)


def pretrain(
    texts: Sequence[Text], share: np.ndarray, vocab: int, cfg: LanguageConfig, report=None
) -> tuple[LlamaModel, list[float]]:
    """Trains a Llama from scratch.

    Args:
      share: sampling probability of each text; sums to 1.
      vocab: rows of the vocabulary.
      report: called with (step, loss) every 20 steps.

    Returns:
      the model and its loss at every step.
    """
    model = LlamaModel(cfg.llama(vocab), rngs=nnx.Rngs(params=cfg.seed))
    graphdef, state = nnx.split(model)
    state = enlarged(state)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, cfg.learning_rate, cfg.steps // 20 + 1, cfg.steps, cfg.learning_rate / 20
    )
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.01))

    @jax.jit
    def step(state, opt, batch, key):
        value, grads = jax.value_and_grad(lambda s: loss(nnx.merge(graphdef, s), batch, key))(state)
        updates, opt = tx.update(grads, opt, state)
        return optax.apply_updates(state, updates), opt, value

    opt, rng, losses = tx.init(state), np.random.default_rng([cfg.seed, 5]), []
    for i in range(cfg.steps):
        batch = pack(
            texts,
            rng.choice(len(texts), cfg.rows * cfg.row_tokens // 16, p=share),
            cfg.rows,
            cfg.row_tokens,
            cfg.question_weight,
        )
        state, opt, value = step(state, opt, batch, jax.random.key(i))
        losses.append(float(value))
        if report and (i % 20 == 0 or i + 1 == cfg.steps):
            report(i, losses[-1])
    return nnx.merge(graphdef, state), losses
