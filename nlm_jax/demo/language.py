"""The tiny Llama of the demo: a tokenizer and a language model learnt from the corpus's text alone.

It plays the part Llama 3.1 plays in the real recipe: it can read and knows names and answer formats, but cannot hear.
In its texts a written description stands where a clip's vectors will stand later, so that it learns to answer from what
is between <Audio> and </Audio>. It is then frozen; what comes after must translate sound into something it can read.
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
"""Share of the rows of text that are read through fog."""
BLUR = 1.0
"""Largest noise on a description's embeddings in pre-training, in units of their own size."""
LOUDEST = 6.0
"""Largest factor on them: the projection's vectors start out larger than word embeddings."""

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
    """Weight of the tokens outside the answer in the loss."""
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    """How often a task is drawn; tasks without an entry count 1, whatever their number of questions."""
    seed: int = 0

    def llama(self, vocab: int) -> LlamaConfig:
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
    """One training text: ids, where the description stands in them, and the index of the first answer token."""

    ids: list[int]
    described: slice
    answer: int


def written(tokenizer: Tokenizer, prompt: str, answer: str, description: str) -> Text:
    """BOS ‖ template(<Audio> description </Audio> prompt) ‖ answer: the clip's vectors replaced by written words.

    The pieces are tokenized one by one, as around a real clip.
    """
    before, after = prompt_parts(tokenizer, f"{CLIP_MARK} {prompt}", DEFAULT_TEMPLATE)
    ids = [tokenizer.bos_id, *before, *tokenizer.encode(description)]
    described = slice(1 + len(before), len(ids))
    ids += after
    return Text(ids + tokenizer.encode(answer + DEFAULT_END_SYM), described, len(ids))


def pack(texts: Sequence[Text], order: np.ndarray, rows: int, row_tokens: int, outside: float) -> dict[str, np.ndarray]:
    """Rows filled in the given order with whole texts: tokens, positions, segments i32[B, S] and weights f32[B, S]."""
    out = {k: np.zeros((rows, row_tokens), np.int32) for k in ("tokens", "positions", "segments")}
    out["weights"] = np.zeros((rows, row_tokens), np.float32)
    out["described"] = np.zeros((rows, row_tokens), bool)
    row = at = 0
    segment = 1
    for index in order:
        text = texts[index]
        n = len(text.ids)
        if at + n > row_tokens:
            row, at, segment = row + 1, 0, 1
        if row == rows:
            break
        here = slice(at, at + n)
        out["tokens"][row, here] = text.ids
        out["positions"][row, here] = np.arange(n)
        out["segments"][row, here] = segment
        # The weight belongs to the position that predicts: one before the token.
        out["weights"][row, at : at + n - 1] = outside
        out["described"][row, at + text.described.start : at + text.described.stop] = True
        out["weights"][row, at + text.answer - 1 : at + n - 1] = 1.0
        at, segment = at + n, segment + 1
    return out


def blur(
    x: Float[Array, "B S D"], described: Bool[Array, "B S"], segments: Int[Array, "B S"], key
) -> Float[Array, "B S D"]:
    """Descriptions read through fog: at every place a mixture of the description's words, scaled and noised at random.

    A clip's vectors will never be one word each: every window of sound speaks of species, kind and number at once, and
    none lies exactly on word embeddings. A reader that only knows exact words gives no gradient to an encoder that is
    still far off.
    """
    mix, scale, noise, draw, rows = jax.random.split(key, 5)
    described = described & jax.random.bernoulli(rows, BLURRED, (len(x), 1))
    same = described[:, :, None] & described[:, None, :] & (segments[:, :, None] == segments[:, None, :])
    weights = jnp.where(same, jax.random.exponential(mix, same.shape), 0.0)
    weights /= jnp.maximum(jnp.linalg.norm(weights, axis=-1, keepdims=True), 1e-6)  # the size stays that of one word
    size = jax.lax.stop_gradient(jnp.sqrt(jnp.square(x).mean()))
    each = (x.shape[0], 1, 1)
    foggy = weights @ x + size * jax.random.uniform(noise, each, maxval=BLUR) * jax.random.normal(draw, x.shape)
    foggy = foggy * jnp.exp(jax.random.uniform(scale, each, maxval=math.log(LOUDEST)))
    return jnp.where(described[..., None], foggy, x)


def loss(model: LlamaModel, batch, key=None) -> jax.Array:
    """Weighted mean negative log-likelihood of the next token within each text; `key` switches `blur` on."""
    mask = packed_causal(batch["segments"])
    x = model.embed_tokens(batch["tokens"], jnp.float32)
    if key is not None:
        x = blur(x, batch["described"], batch["segments"], key)
    hidden, _ = model(x, batch["positions"], lambda cache, _layer, q, k, v: (attend(q, k, v, mask), cache))
    following = jnp.roll(batch["tokens"], -1, axis=1)
    nll = optax.softmax_cross_entropy_with_integer_labels(model.logits(hidden), following)
    return (nll * batch["weights"]).sum() / batch["weights"].sum()


def enlarged(state):
    """Llama's initial weights at the size a narrow model needs.

    They are drawn with standard deviation 0.02, which suits a width of 4096. At a fortieth of that width the layers
    start so far below the residual stream that a short schedule never wakes them: the reader then knows its formats
    and half of its names, however clear the text.
    """

    def scale(path, x: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path)
        return x * (1.0 if "norm" in name else EMBEDDING_SCALE if "embed" in name else KERNEL_SCALE)

    return jax.tree_util.tree_map_with_path(scale, state)


def pretrain(
    texts: Sequence[Text], share: np.ndarray, vocab: int, cfg: LanguageConfig, report=None
) -> tuple[LlamaModel, list[float]]:
    """A Llama trained on `texts` from scratch, and its loss at every step.

    `share` is how often each text is drawn (sums to 1). `report(step, loss)` is called now and then.
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
