"""Log-likelihoods of candidate answers: which label fits best, and by how much.

The paper's classification by loss: every label is scored as if it were the answer. Prompt and clips are computed once
per query. Then many of its candidates are computed in one pass over the cache of the prompt: they follow it side by
side, and each attends to the prompt and to itself only.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from collections.abc import Sequence as Seq

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
from nlm_jax.generate.options import check_batch_size
from nlm_jax.generate.prompts import Prompts, prompt
from nlm_jax.generate.request import Unanswered
from nlm_jax.generate.shapes import on_mesh, power_of_two, whole_rows
from nlm_jax.mesh.sharding import constrain_rows
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.model import LlamaModel
from nlm_jax.nn.cache import KVCache, attend_cached, extend
from nlm_jax.nn.loss import token_nll

Candidates = Seq[str] | Seq[Seq[str]]
"""Texts for all queries, or a list of texts per query."""

POSITIONS = 2048
"""Candidate tokens in one pass through the language model."""
LOGITS = 64 * 2**20
"""Bytes of float32 logits that exist at a time."""
NORMALIZE = ("sum", "mean")


def score_candidates(
    graphdef,
    state,
    cfg: NatureLMConfig,
    tokenizer: Tokenizer,
    clips: Seq[Seq[Clip]],
    queries: Seq[str],
    candidates: Candidates,
    *,
    normalize: str = "sum",
    against: str | None = None,
    batch_size: int = 8,
    mesh: jax.sharding.Mesh | None = None,
    encodings: Encodings | None = None,
) -> list[Float[np.ndarray, "C"]]:
    """The scores of `NatureLM.score`, of clips that are read already; arguments and errors are the same."""
    if normalize not in NORMALIZE:
        raise UserError(f"normalize={normalize!r}: no such way; use one of {', '.join(NORMALIZE)}")

    def scores(texts: Candidates) -> list[np.ndarray]:
        results = log_likelihoods(
            graphdef,
            state,
            cfg,
            tokenizer,
            clips,
            queries,
            texts,
            batch_size=batch_size,
            mesh=mesh,
            encodings=encodings,
        )
        return [total / length if normalize == "mean" else total for total, length in results]

    per_query = scores(candidates)
    if against is not None:
        per_query = [own - baseline for own, baseline in zip(per_query, scores([against]), strict=True)]
    Unanswered.check_scores(per_query)
    return per_query


def log_likelihoods(
    graphdef,
    state,
    cfg: NatureLMConfig,
    tokenizer: Tokenizer,
    clips: Seq[Seq[Clip]],
    queries: Seq[str],
    candidates: Candidates,
    *,
    batch_size: int = 8,
    mesh: jax.sharding.Mesh | None = None,
    encodings: Encodings | None = None,
    positions: int = POSITIONS,
    logits_bytes: int = LOGITS,
) -> list[tuple[Float[np.ndarray, "C"], Int[np.ndarray, "C"]]]:
    """Per query: log-likelihood f32[C] of each of its candidates as the answer, and their lengths in tokens i32[C].

    A candidate is its tokens and the end symbol, cut at `max_txt_len` as in training.

    Args:
      graphdef, state: the model (`nnx.split`).
      clips, queries: as for `batch.generate_batch`.
      candidates: texts, for all queries or a list per query.
      batch_size: queries computed together.
      mesh: the mesh that holds the weights, None for one device.
      encodings: the cache of encoded clips; a new one if None.
      positions: candidate tokens in one pass through the language model.
      logits_bytes: bytes of float32 logits that exist at a time.

    Raises:
      UserError: no candidates, or candidates that are not strings; what `prompts.prompt` raises.
    """
    check_batch_size(batch_size)
    texts = _per_query(candidates, len(queries))
    tokens = {
        text: answer_tokens(tokenizer, text, cfg.end_sym, cfg.max_txt_len)
        for text in dict.fromkeys(text for row in texts for text in row)
    }
    labels = [[tokens[text] for text in row] for row in texts]
    prompts = [prompt(tokenizer, own, query, cfg) for own, query in zip(clips, queries, strict=True)]
    encodings = Encodings() if encodings is None else encodings
    rows = whole_rows(min(batch_size, power_of_two(max(1, len(queries)))), mesh)
    block = max(1, logits_bytes // (4 * rows * cfg.llama.vocab))
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), len(labels[i])))
    results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    with on_mesh(mesh):
        for start in range(0, len(order), rows):
            batch = order[start : start + rows]
            placed = encodings.prompts(graphdef, state, [prompts[i] for i in batch], rows, mesh)
            first, cache = _prefill(graphdef, state, placed)
            totals = [np.zeros(len(labels[i]), np.float32) for i in batch]
            for bucket in label_buckets([labels[i] for i in batch], rows, positions):
                sums = fetch(_label_sums(graphdef, state, placed, first, cache, bucket.tokens, bucket.lengths, block))
                for row, indices in enumerate(bucket.indices):
                    totals[row][indices] = sums[row, : len(indices)]
            for i, total in zip(batch, totals, strict=True):
                results[i] = total, np.array([len(ids) for ids in labels[i]], np.int32)
    return [results[i] for i in range(len(queries))]


@dataclasses.dataclass(frozen=True)
class LabelBucket:
    """A few labels of every row, computed in one pass."""

    indices: list[list[int]]
    """Per row, which of its labels these are."""
    tokens: Int[np.ndarray, "B C M"]
    """Padded with 0."""
    lengths: Int[np.ndarray, "B C"]
    """Tokens of each label, 0 = no label."""


def label_buckets(labels: Seq[Seq[list[int]]], rows: int, budget: int) -> Iterator[LabelBucket]:
    """Splits the labels of a batch into buckets, the shortest labels of every row first: little is padding.

    Sizes are rounded up to powers of two, so that few shapes are compiled: the labels C, and the inputs M - 1 (a
    label's last token is predicted but not fed).

    Args:
      labels: per row, the tokens of each of its labels.
      rows: rows of the arrays, at least one per entry of `labels`; the others are empty.
      budget: most inputs (B * C * (M - 1)) in a bucket, except in one that has a single label per row.
    """
    order = [sorted(range(len(row)), key=lambda i, row=row: len(row[i])) for row in labels]
    columns = max(map(len, labels))
    # The k-th shortest label of every row forms column k.
    longest = [
        max(len(row[indices[k]]) for row, indices in zip(labels, order, strict=True) if k < len(indices))
        for k in range(columns)
    ]
    inputs = [power_of_two(max(1, n - 1)) for n in np.maximum.accumulate(longest).tolist()]
    start = 0
    while start < columns:
        stop = start + 1
        while stop < columns and rows * power_of_two(stop + 1 - start) * inputs[stop] <= budget:
            stop += 1
        indices = [row[start:stop] for row in order]
        width, size = power_of_two(stop - start), inputs[stop - 1] + 1
        tokens, lengths = np.zeros((rows, width, size), np.int32), np.zeros((rows, width), np.int32)
        for row, (own, picked) in enumerate(zip(labels, indices, strict=True)):
            for column, i in enumerate(picked):
                tokens[row, column, : len(own[i])], lengths[row, column] = own[i], len(own[i])
        yield LabelBucket(indices, tokens, lengths)
        start = stop


def _per_query(candidates: Candidates, queries: int) -> list[list[str]]:
    """The candidates of each query. Raises UserError if they are not strings, or not one list per query."""
    if isinstance(candidates, str) or not isinstance(candidates, Seq) or not len(candidates):
        raise UserError(f"candidates={candidates!r}: give a list of texts, or a list of them per query")
    if all(isinstance(c, str) for c in candidates):
        return [list(candidates)] * queries
    if len(candidates) != queries:
        raise UserError(f"candidates: {len(candidates)} lists for {queries} queries; give one list per query")
    for i, row in enumerate(candidates):
        if isinstance(row, str) or not isinstance(row, Seq) or not row or not all(isinstance(c, str) for c in row):
            raise UserError(f"candidates of query {i}: {row!r}; give a list of texts, not empty")
    return [list(row) for row in candidates]


@functools.partial(jax.jit, static_argnums=0)
def _prefill(graphdef, state, prompts: Prompts) -> tuple[Float[Array, "B V"], KVCache]:
    """Logits of the first token of each answer, and the cache of the prompts."""
    return prefill(nnx.merge(graphdef, state), prompts)


@functools.partial(jax.jit, static_argnums=(0, 7))
def _label_sums(
    graphdef,
    state,
    prompts: Prompts,
    first_logits: Float[Array, "B V"],
    cache: KVCache,
    tokens: Int[Array, "B C M"],
    lengths: Int[Array, "B C"],
    block: int,
) -> Float[Array, "B C"]:
    """Sum of the log-probabilities of the first `lengths` of the M tokens of each of C labels per prompt.

    Args:
      block: positions of a row whose logits exist at a time.
    """
    model = nnx.merge(graphdef, state)
    (b, c, m), s = tokens.shape, prompts.tokens.shape[1]
    first = jax.nn.log_softmax(first_logits)
    first = jnp.take_along_axis(first, tokens[:, :, 0], axis=1)

    inputs = tokens[:, :, :-1].reshape(b, c * (m - 1))
    label, offset = jnp.arange(c * (m - 1)) // (m - 1), jnp.arange(c * (m - 1)) % (m - 1)
    own = (label[:, None] == label) & (offset[:, None] >= offset)
    mask = jnp.concatenate([_broadcast(prompts.real, own), jnp.broadcast_to(own, (b, *own.shape))], axis=2)
    positions = prompts.real.sum(1, dtype=jnp.int32)[:, None] + offset
    x = constrain_rows(model.llama.embed_tokens(inputs, dtype(model.cfg.compute_dtype)))
    mix = attend_cached(jnp.full(b, s, jnp.int32), mask)
    hidden, _ = model.llama(x, positions, mix, extend(cache, s + c * (m - 1)))
    rest = _log_probs(model.llama, hidden, tokens[:, :, 1:].reshape(b, -1), block).reshape(b, c, m - 1)
    counted = jnp.arange(1, m) < lengths[:, :, None]
    return first + jnp.where(counted, rest, 0).sum(-1)


def _broadcast(real: Bool[Array, "B S"], own: Bool[Array, "P P"]) -> Bool[Array, "B P S"]:
    return jnp.broadcast_to(real[:, None], (real.shape[0], own.shape[0], real.shape[1]))


def _log_probs(
    llama: LlamaModel, hidden: Float[Array, "B P D"], tokens: Int[Array, "B P"], block: int
) -> Float[Array, "B P"]:
    """Log-probability of one token at every position, `block` positions of each row at a time."""
    b, p, d = hidden.shape
    block = min(block, p)
    blocks = math.ceil(p / block)
    hidden = jnp.pad(hidden, [(0, 0), (0, blocks * block - p), (0, 0)]).reshape(b, blocks, block, d)
    tokens = jnp.pad(tokens, [(0, 0), (0, blocks * block - p)]).reshape(b, blocks, block)
    nll = jax.lax.map(lambda xs: token_nll(llama.logits(xs[0]), xs[1]), (hidden.swapaxes(0, 1), tokens.swapaxes(0, 1)))
    return -nll.swapaxes(0, 1).reshape(b, -1)[:, :p]
