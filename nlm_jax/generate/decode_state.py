"""The state of answers that are being decoded: one row each, whatever step it is at."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.core.precision import dtype
from nlm_jax.generate.options import MAX_STOP_IDS, GenerationOptions
from nlm_jax.mesh.sharding import constrain_rows
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.nn.cache import KVCache, empty, extend, shard

SAMPLING_FIELDS = (
    "limit",
    "minimum",
    "repetition_penalty",
    "length_penalty",
    "temperature",
    "top_k",
    "top_p",
    "seed",
    "ends",
    "stop_all_id",
)


@dataclasses.dataclass(frozen=True)
class DecodeConfig:
    """Static settings: programs are compiled for them."""

    eos_ids: tuple[int, ...]
    pad_id: int
    beams: int = 1


@functools.partial(jax.tree_util.register_dataclass, data_fields=SAMPLING_FIELDS, meta_fields=())
@dataclasses.dataclass(frozen=True)
class SamplingArrays:
    """`GenerationOptions` of every row, as arrays with the rows in front: they change without compiling again."""

    limit: Any
    """Maximum number of new tokens, the end symbol included."""
    minimum: Any
    """Number of new tokens before which no end symbol is allowed."""
    repetition_penalty: Any
    length_penalty: Any
    temperature: Any
    top_k: Any
    top_p: Any
    seed: Any
    ends: Any
    """i32[B, E]: ids that end the answer, padded with the size of the vocabulary, which is not an id."""
    stop_all_id: Any
    """Ends every row of the engine when this row produces it; -1 = none. See `batch.REFERENCE_STOP_ID`."""

    @staticmethod
    def concatenate(parts: "list[SamplingArrays]") -> "SamplingArrays":
        """The rows of all `parts`, which have numpy leaves."""
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    @classmethod
    def from_options(
        cls, options: list[GenerationOptions], eos_ids: tuple[int, ...], vocab: int, stop_all_id: list[int]
    ) -> "SamplingArrays":
        """numpy leaves with a row for each of `options`.

        Args:
          options: of each row.
          eos_ids: the model's end symbols, which end an answer besides the ids in `options`.
          vocab: size of the vocabulary.
          stop_all_id: of each row; see the field.
        """
        ends = np.full((len(options), len(eos_ids) + MAX_STOP_IDS), vocab, np.int32)
        for row, o in zip(ends, options, strict=True):
            ids = (*eos_ids, *o.stop_ids)
            row[: len(ids)] = ids

        def column(name: str, kind) -> np.ndarray:
            return np.array([getattr(o, name) for o in options], kind)

        return cls(
            limit=column("max_new_tokens", np.int32),
            minimum=column("min_length", np.int32),
            repetition_penalty=column("repetition_penalty", np.float32),
            length_penalty=column("length_penalty", np.float32),
            temperature=column("temperature", np.float32),
            top_k=column("top_k", np.int32),
            top_p=column("top_p", np.float32),
            seed=column("seed", np.uint32),
            ends=ends,
            stop_all_id=np.array(stop_all_id, np.int32),
        )


BEAM_FIELDS = ("score", "ended_ids", "ended_length", "ended_score", "done")


@functools.partial(jax.tree_util.register_dataclass, data_fields=BEAM_FIELDS, meta_fields=())
@dataclasses.dataclass(frozen=True)
class Beams:
    """Additional state of beam search."""

    score: Float[Array, "B beams"]
    """Sum of log-probabilities of every running beam."""
    ended_ids: Int[Array, "B beams T"]
    """The best finished answers, one per beam, without their end symbol."""
    ended_length: Int[Array, "B beams"]
    ended_score: Float[Array, "B beams"]
    """Sum over (length ** penalty), the end symbol counted; -inf if there is no finished answer yet."""
    done: Bool[Array, "B"]
    """No running beam can become better than the finished answers."""


STATE_FIELDS = ("cache", "visible", "end", "position", "ids", "step", "seen", "finished", "broken", "sampling", "beams")


@functools.partial(jax.tree_util.register_dataclass, data_fields=STATE_FIELDS, meta_fields=())
@dataclasses.dataclass(frozen=True)
class DecodeState:
    """State of B answers.

    The beams of a row share its cache: each attends to the prompt and the slots of its own past. So the prompt is
    stored once, and a beam that continues another one copies a row of `visible`, not of the cache.
    """

    cache: KVCache | None
    """None in functions that handle the cache separately from the small arrays."""
    visible: Bool[Array, "B beams Sk"]
    end: Int[Array, "B"]
    """Number of cache slots that are written."""
    position: Int[Array, "B"]
    """Position of the token that is fed next."""
    ids: Int[Array, "B beams T"]
    """New tokens, padded to the T that memory is allocated for."""
    step: Int[Array, "B"]
    """Number of new tokens."""
    seen: Bool[Array, "B beams V"]
    """Tokens the answer already contains. The prompt's do not count: the reference passes it as embeddings."""
    finished: Bool[Array, "B"]
    """This row does not change any more."""
    broken: Bool[Array, "B"]
    """The row's logits were not finite: it is finished without an answer."""
    sampling: SamplingArrays
    beams: Beams | None
    """None: there is a single beam, without scores."""

    @property
    def max_tokens(self) -> int:
        """New tokens per row that memory is allocated for."""
        return self.ids.shape[2]


NEVER = -1e9
"""Initial score of all beams but the first, so that the first step takes all its candidates from that one."""


def fresh(
    cfg: NatureLMConfig,
    config: DecodeConfig,
    cache: KVCache,
    real: Bool[Array, "B S"],
    sampling: SamplingArrays,
    max_tokens: int,
) -> DecodeState:
    """Rows with a prompt and no new tokens.

    Args:
      cfg: the model's.
      config: of the decoding.
      cache: holds the prompts.
      real: which of the first S slots of the cache are prompt, not padding.
      sampling: of each row.
      max_tokens: new tokens per row to allocate memory for.
    """
    b, k = real.shape[0], config.beams
    ids = jnp.full((b, k, max_tokens), config.pad_id, jnp.int32)
    beams = None
    if k > 1:
        beams = Beams(
            score=jnp.full((b, k), NEVER, jnp.float32).at[:, 0].set(0.0),
            ended_ids=ids,
            ended_length=jnp.zeros((b, k), jnp.int32),
            ended_score=jnp.full((b, k), -jnp.inf, jnp.float32),
            done=jnp.zeros(b, bool),
        )
    count = real.sum(1, dtype=jnp.int32)
    return DecodeState(
        cache=cache,
        visible=jnp.repeat(real[:, None], k, axis=1),
        end=count,  # padding follows the prompt, and its slots are overwritten
        position=count,
        ids=ids,
        step=jnp.zeros(b, jnp.int32),
        seen=jnp.zeros((b, k, cfg.llama.vocab), bool),
        finished=count == 0,
        broken=jnp.zeros(b, bool),
        sampling=sampling,
        beams=beams,
    )


def blank(cfg: NatureLMConfig, config: DecodeConfig, rows: int, slots: int, max_tokens: int) -> DecodeState:
    """Finished rows without a request.

    Args:
      cfg, config: of the model and of the decoding.
      rows: their number.
      slots: of the cache, per row.
      max_tokens: new tokens per row to allocate memory for.
    """
    llama = cfg.llama
    cache = empty(llama.layers, rows, slots, llama.kv_heads, llama.head_dim, dtype(cfg.compute_dtype))
    sampling = SamplingArrays.from_options([GenerationOptions()] * rows, config.eos_ids, llama.vocab, [-1] * rows)
    sampling = jax.tree.map(jnp.asarray, sampling)
    return constrained(fresh(cfg, config, cache, jnp.zeros((rows, slots), bool), sampling, max_tokens))


def insert(rows: DecodeState, new: DecodeState, at: Int[Array, "n"], pad_id: int) -> DecodeState:
    """Replaces row `at[i]` of `rows` by row i of `new`, for every `at[i]` that is the number of a row.

    The whole row of the cache is overwritten: nothing of the previous request remains after the prompt.
    """
    cache = jax.tree.map(lambda old, k: old.at[at].set(k, mode="drop"), rows.cache, extend(new.cache, rows.cache.slots))
    new = _pad(dataclasses.replace(new, cache=None), rows.cache.slots, rows.max_tokens, pad_id)
    old = dataclasses.replace(rows, cache=None)
    small = jax.tree.map(lambda a, b: a.at[at].set(b, mode="drop"), old, new)
    return constrained(dataclasses.replace(small, cache=cache))


def enlarge(rows: DecodeState, slots: int, max_tokens: int, pad_id: int) -> DecodeState:
    """The same rows with memory for `slots` of the cache and `max_tokens` new tokens each."""
    wider = _pad(rows, slots, max_tokens, pad_id)
    return constrained(dataclasses.replace(wider, cache=extend(rows.cache, slots)))


def _pad(rows: DecodeState, slots: int, max_tokens: int, pad_id: int) -> DecodeState:
    """Pads all arrays but the cache."""

    def last(x, size, value):
        return jnp.pad(x, [(0, 0), (0, 0), (0, size - x.shape[2])], constant_values=value)

    beams = rows.beams
    if beams is not None:
        beams = dataclasses.replace(beams, ended_ids=last(beams.ended_ids, max_tokens, pad_id))
    return dataclasses.replace(
        rows, visible=last(rows.visible, slots, False), ids=last(rows.ids, max_tokens, pad_id), beams=beams
    )


def frozen(rows: DecodeState, new: DecodeState) -> DecodeState:
    """`new`, but with the rows that are finished in `rows` as they are there. (Their cache is not used any more.)"""
    finished = rows.finished

    def choose(old, new):
        return jnp.where(finished.reshape(-1, *[1] * (new.ndim - 1)), old, new)

    old = dataclasses.replace(rows, cache=None)
    chosen = jax.tree.map(choose, old, dataclasses.replace(new, cache=None))
    return dataclasses.replace(chosen, cache=new.cache)


def constrained(rows: DecodeState) -> DecodeState:
    """On a mesh: every leaf sharded by its rows over (data, fsdp)."""
    small = jax.tree.map(constrain_rows, dataclasses.replace(rows, cache=None))
    return dataclasses.replace(small, cache=shard(rows.cache))


def restrained(scores: Float[Array, "B beams V"], rows: DecodeState) -> Float[Array, "B beams V"]:
    """Scores after the repetition penalty, with end symbols at -inf until the answer has its minimum length."""
    penalty = rows.sampling.repetition_penalty[:, None, None]
    scores = jnp.where(rows.seen, jnp.where(scores < 0, scores * penalty, scores / penalty), scores)
    early = rows.step < rows.sampling.minimum
    ends = jnp.where(early[:, None], rows.sampling.ends, scores.shape[-1])
    every = jnp.arange(len(ends))[:, None]
    return scores.at[every, :, ends].set(-jnp.inf, mode="drop")


def checked(rows: DecodeState, logits: Float[Array, "B beams V"]) -> DecodeState:
    """Marks unfinished rows whose logits are not all finite as broken and finished."""
    broken = ~rows.finished & ~jnp.isfinite(logits).all((1, 2))
    return dataclasses.replace(rows, finished=rows.finished | broken, broken=rows.broken | broken)


def is_end(tokens: Int[Array, "B n"], rows: DecodeState) -> Bool[Array, "B n"]:
    """Whether a token ends the answer of its row."""
    return (tokens[:, :, None] == rows.sampling.ends[:, None, :]).any(-1)


def appended(rows: DecodeState, tokens: Int[Array, "B beams"]) -> DecodeState:
    """Appends a token to every beam; rows that reach their limit are finished."""
    at = jnp.arange(rows.max_tokens) == rows.step[:, None, None]
    ids = jnp.where(at, tokens[:, :, None], rows.ids)
    b, k = tokens.shape
    seen = rows.seen.at[jnp.arange(b)[:, None], jnp.arange(k), tokens].set(True)
    stopped = (~rows.finished & (tokens[:, 0] == rows.sampling.stop_all_id)).any()
    step = rows.step + 1
    finished = rows.finished | (step >= rows.sampling.limit) | stopped
    return dataclasses.replace(rows, ids=ids, seen=seen, step=step, finished=finished)
