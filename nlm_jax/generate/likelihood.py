"""Log-likelihoods of given answers: which label fits best, and by how much.

The paper's classification by loss: every label is scored as the answer it would be. Prompt and clips are computed once
for a question; its candidates then stand side by side behind them, each seeing the prompt and itself.
"""

import functools
import math
from collections.abc import Sequence as Seq
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.convert.transfer import fetch
from nlm_jax.core.errors import UserError
from nlm_jax.core.precision import dtype
from nlm_jax.data.text import Tokenizer, answer_tokens
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.audio_inputs import Clip
from nlm_jax.generate.decode import prefill
from nlm_jax.generate.prompts import Prompts, prompt
from nlm_jax.generate.shapes import on_mesh, whole_rows
from nlm_jax.mesh.sharding import constrain_rows
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.model import LlamaModel
from nlm_jax.nn.cache import KVCache, attend_cached, extend

POSITIONS = 2048
"""Tokens of candidates that go through the language model at once."""
LOGITS = 64 * 2**20
"""Bytes of float32 logits that are computed at once."""
NORMALIZE = ("sum", "mean")


def log_likelihoods(
    graphdef,
    state,
    cfg: NatureLMConfig,
    tokenizer: Tokenizer,
    clips: Seq[Seq[Clip]],
    queries: Seq[str],
    candidates: Any,
    *,
    batch_size: int = 8,
    mesh: jax.sharding.Mesh | None = None,
    encodings: Encodings | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per query: log-likelihood f32[C] of each of its candidates as the answer, and their lengths in tokens i32[C].

    A candidate is its tokens and the end symbol, cut at `max_txt_len` as in training.

    Args:
      clips, queries: as for `answer.answer`.
      candidates: texts, for all queries or a list per query.

    Raises:
      UserError: no candidates, or something else than texts; what `prompts.prompt` raises.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise UserError(f"batch_size={batch_size!r}: must be at least 1")
    known: dict[str, list[int]] = {}
    for text in (t for mine in _per_query(candidates, len(queries)) for t in mine):
        if text not in known:
            known[text] = answer_tokens(tokenizer, text, cfg.end_sym, cfg.max_txt_len)
    labels = [[known[t] for t in mine] for mine in _per_query(candidates, len(queries))]
    prompts = [prompt(tokenizer, mine, query, cfg) for mine, query in zip(clips, queries, strict=True)]
    encodings = Encodings() if encodings is None else encodings
    rows = whole_rows(min(batch_size, _power(max(1, len(queries)))), mesh)
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), len(labels[i])))
    found: list[Any] = [None] * len(prompts)
    with on_mesh(mesh):
        for start in range(0, len(order), rows):
            batch = order[start : start + rows]
            placed = encodings.prompts(graphdef, state, [prompts[i] for i in batch], rows, mesh)
            logits, cache = _prefill(graphdef, state, placed)
            mine = [labels[i] for i in batch] + [[]] * (rows - len(batch))
            scores = _continue(graphdef, state, placed, logits, cache, mine, cfg.llama.vocab)
            for row, i in enumerate(batch):
                found[i] = scores[row], np.array([len(ids) for ids in labels[i]], np.int32)
    return found


def _per_query(candidates: Any, queries: int) -> list[list[str]]:
    """The texts of each query. Raises UserError where they are no texts."""
    if isinstance(candidates, str) or not isinstance(candidates, Seq) or not len(candidates):
        raise UserError(f"candidates={candidates!r}: give a list of texts, or a list of them per query")
    if all(isinstance(c, str) for c in candidates):
        return [list(candidates)] * queries
    if len(candidates) != queries:
        raise UserError(f"candidates: {len(candidates)} lists for {queries} queries; give one list per query")
    for i, mine in enumerate(candidates):
        if isinstance(mine, str) or not isinstance(mine, Seq) or not mine or not all(isinstance(c, str) for c in mine):
            raise UserError(f"candidates of query {i}: {mine!r}; give a list of texts, not empty")
    return [list(mine) for mine in candidates]


def _continue(graphdef, state, prompts: Prompts, logits, cache, labels: list[list[list[int]]], vocab: int):
    """Sum of the log-probabilities of every label's tokens, f32[C] per row; a few labels of all rows at a time.

    Those of like length go together, so that little is padding.
    """
    rows = len(labels)
    order = [sorted(range(len(mine)), key=lambda i, mine=mine: len(mine[i])) for mine in labels]
    scores = [np.zeros(len(mine), np.float32) for mine in labels]
    # Of the k-th shortest label of each row, the most tokens that are fed, as a power of two.
    lengths = [max(len(mine[ids[k]]) for mine, ids in zip(labels, order, strict=True) if k < len(ids))
               for k in range(max(map(len, labels)))]  # fmt: skip
    fed_at = [_power(max(1, n - 1)) for n in np.maximum.accumulate(lengths).tolist()]
    done = 0
    while done < len(fed_at):
        count = 1
        while done + count < len(fed_at) and rows * _power(count + 1) * fed_at[done + count] <= POSITIONS:
            count += 1
        part, fed, width = [ids[done : done + count] for ids in order], fed_at[done + count - 1], _power(count)
        tokens, length = np.zeros((rows, width, fed + 1), np.int32), np.zeros((rows, width), np.int32)
        for row, some in enumerate(part):
            for k, i in enumerate(some):
                ids = labels[row][i]
                tokens[row, k, : len(ids)], length[row, k] = ids, len(ids)
        block = max(1, LOGITS // (4 * rows * vocab))
        made = fetch(_labels(graphdef, state, prompts, logits, cache, tokens, length, block))
        for row, some in enumerate(part):
            scores[row][some] = made[row, : len(some)]
        done += count
    return scores


def _power(n: int) -> int:
    """The power of two that holds `n`."""
    return 1 << (n - 1).bit_length()


@functools.partial(jax.jit, static_argnums=0)
def _prefill(graphdef, state, prompts: Prompts) -> tuple[Float[Array, "B V"], KVCache]:
    """Of the first token of an answer its logits, and the cache of the prompts."""
    return prefill(nnx.merge(graphdef, state), prompts)


@functools.partial(jax.jit, static_argnums=(0, 7))
def _labels(
    graphdef,
    state,
    prompts: Prompts,
    logits: Float[Array, "B V"],
    cache: KVCache,
    tokens: Int[Array, "B C M"],
    length: Int[Array, "B C"],
    block: int,
) -> Float[Array, "B C"]:
    """Sum of the log-probabilities of `length` of the M tokens of C labels behind each prompt."""
    model = nnx.merge(graphdef, state)
    (b, c, m), s = tokens.shape, prompts.tokens.shape[1]
    first = jax.nn.log_softmax(logits)
    first = jnp.take_along_axis(first, tokens[:, :, 0], axis=1)

    fed = tokens[:, :, :-1].reshape(b, c * (m - 1))
    label, at = jnp.arange(c * (m - 1)) // (m - 1), jnp.arange(c * (m - 1)) % (m - 1)
    own = (label[:, None] == label) & (at[:, None] >= at)
    mask = jnp.concatenate([_wide(prompts.real, own), jnp.broadcast_to(own, (b, *own.shape))], axis=2)
    positions = prompts.real.sum(1, dtype=jnp.int32)[:, None] + at
    x = constrain_rows(model.llama.embed_tokens(fed, dtype(model.cfg.compute_dtype)))
    mix = attend_cached(jnp.full(b, s, jnp.int32), mask)
    hidden, _ = model.llama(x, positions, mix, extend(cache, s + c * (m - 1)))
    rest = _chosen(model.llama, hidden, tokens[:, :, 1:].reshape(b, -1), block).reshape(b, c, m - 1)
    counted = jnp.arange(1, m) < length[:, :, None]
    return first + jnp.where(counted, rest, 0).sum(-1)


def _wide(real: Bool[Array, "B S"], own: Bool[Array, "P P"]) -> Bool[Array, "B P S"]:
    return jnp.broadcast_to(real[:, None], (real.shape[0], own.shape[0], real.shape[1]))


def _chosen(
    llama: LlamaModel, hidden: Float[Array, "B P D"], tokens: Int[Array, "B P"], block: int
) -> Float[Array, "B P"]:
    """Log-probability of one token at every position; logits of `block` positions of a row exist at a time."""
    b, p, d = hidden.shape
    block = min(block, p)
    blocks = math.ceil(p / block)
    hidden = jnp.pad(hidden, [(0, 0), (0, blocks * block - p), (0, 0)]).reshape(b, blocks, block, d)
    tokens = jnp.pad(tokens, [(0, 0), (0, blocks * block - p)]).reshape(b, blocks, block)

    def some(given):
        hidden, tokens = given
        logits = llama.logits(hidden)
        picked = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
        return picked - jax.nn.logsumexp(logits, axis=-1)

    made = jax.lax.map(some, (hidden.swapaxes(0, 1), tokens.swapaxes(0, 1)))
    return made.swapaxes(0, 1).reshape(b, -1)[:, :p]
