"""What is known of the answers that are being decoded: one row each, whatever stage it is at."""

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

KNOBS = (
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
class Decoding:
    """What is fixed at compile time."""

    eos_ids: tuple[int, ...]
    pad_id: int
    beams: int = 1


@functools.partial(jax.tree_util.register_dataclass, data_fields=KNOBS, meta_fields=())
@dataclasses.dataclass(frozen=True)
class Knobs:
    """`GenerationOptions` of every row, as arrays with the rows in front: they change without compiling again."""

    limit: Any
    """Tokens to make at most, the end symbol included."""
    minimum: Any
    """Tokens to make before an end symbol may come."""
    repetition_penalty: Any
    length_penalty: Any
    temperature: Any
    top_k: Any
    top_p: Any
    seed: Any
    ends: Any
    """i32[B, E]: ids that end the answer; filled up with the size of the vocabulary, which is no id."""
    stop_all_id: Any
    """Ends every row of the engine when this row makes it; -1 = none. See `batch.REFERENCE_STOP_ID`."""

    @staticmethod
    def joined(parts: "list[Knobs]") -> "Knobs":
        """The rows of all `parts`, numpy leaves as theirs."""
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    @classmethod
    def of(
        cls, options: list[GenerationOptions], eos_ids: tuple[int, ...], vocab: int, stop_all_id: list[int]
    ) -> "Knobs":
        """numpy leaves for these rows."""
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


BEAMS = ("score", "ended_ids", "ended_length", "ended_score", "done")


@functools.partial(jax.tree_util.register_dataclass, data_fields=BEAMS, meta_fields=())
@dataclasses.dataclass(frozen=True)
class Beams:
    """What beam search keeps besides."""

    score: Float[Array, "B beams"]
    """Sum of log-probabilities of every running beam."""
    ended_ids: Int[Array, "B beams room"]
    """The best finished answers, as many as there are beams, without their end symbol."""
    ended_length: Int[Array, "B beams"]
    ended_score: Float[Array, "B beams"]
    """Sum over (length ** penalty), the end symbol counted; -inf where there is none yet."""
    done: Bool[Array, "B"]
    """No running beam can become better than the finished ones."""


ROW = ("cache", "visible", "end", "position", "ids", "step", "seen", "finished", "broken", "knobs", "beams")


@functools.partial(jax.tree_util.register_dataclass, data_fields=ROW, meta_fields=())
@dataclasses.dataclass(frozen=True)
class Rows:
    """State of B answers. The beams of a row share its cache: each sees the prompt and the slots of its own past, so
    that the prompt is there once and a beam that goes on from another one copies a row of `visible`, not of the cache.
    """

    cache: KVCache | None
    """None where the rest of the rows is worked on alone."""
    visible: Bool[Array, "B beams Sk"]
    end: Int[Array, "B"]
    """Slots of the cache that are written."""
    position: Int[Array, "B"]
    """Of the token that is fed next."""
    ids: Int[Array, "B beams room"]
    """New tokens."""
    step: Int[Array, "B"]
    """How many there are."""
    seen: Bool[Array, "B beams V"]
    """Tokens the answer already holds. Those of the prompt do not count: the reference hands it over as embeddings."""
    finished: Bool[Array, "B"]
    """Nothing changes in this row any more."""
    broken: Bool[Array, "B"]
    """Its logits were not finite: it is finished, and has no answer."""
    knobs: Knobs
    beams: Beams | None
    """None: there is one beam and it is never compared with others."""

    @property
    def room(self) -> int:
        return self.ids.shape[2]


NEVER = -1e9
"""Score of the beams that start out empty, so that the first step takes all its candidates from the first beam."""


def fresh(
    cfg: NatureLMConfig, how: Decoding, cache: KVCache, real: Bool[Array, "B S"], knobs: Knobs, room: int
) -> Rows:
    """Rows that have a prompt and no answer yet. `real`: which of the first S slots of the cache are prompt."""
    b, k = real.shape[0], how.beams
    ids = jnp.full((b, k, room), how.pad_id, jnp.int32)
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
    return Rows(
        cache=cache,
        visible=jnp.repeat(real[:, None], k, axis=1),
        end=count,  # padding is behind the prompt, and its slots are written again
        position=count,
        ids=ids,
        step=jnp.zeros(b, jnp.int32),
        seen=jnp.zeros((b, k, cfg.llama.vocab), bool),
        finished=count == 0,
        broken=jnp.zeros(b, bool),
        knobs=knobs,
        beams=beams,
    )


def blank(cfg: NatureLMConfig, how: Decoding, rows: int, slots: int, room: int) -> Rows:
    """Rows without a request, all of them finished, with `slots` of cache and `room` for new tokens each."""
    llama = cfg.llama
    cache = empty(llama.layers, rows, slots, llama.kv_heads, llama.head_dim, dtype(cfg.compute_dtype))
    knobs = jax.tree.map(jnp.asarray, Knobs.of([GenerationOptions()] * rows, how.eos_ids, llama.vocab, [-1] * rows))
    return constrained(fresh(cfg, how, cache, jnp.zeros((rows, slots), bool), knobs, room))


def put(rows: Rows, new: Rows, at: Int[Array, "n"], pad_id: int) -> Rows:
    """`rows` with row i of `new` in the place of row `at[i]`; none where that is no row.

    The whole row of the cache is written: nothing of the request before stays behind the prompt.
    """
    cache = jax.tree.map(lambda old, k: old.at[at].set(k, mode="drop"), rows.cache, extend(new.cache, rows.cache.slots))
    new = _padded(dataclasses.replace(new, cache=None), rows.cache.slots, rows.room, pad_id)
    old = dataclasses.replace(rows, cache=None)
    small = jax.tree.map(lambda a, b: a.at[at].set(b, mode="drop"), old, new)
    return constrained(dataclasses.replace(small, cache=cache))


def enlarged(rows: Rows, slots: int, room: int, pad_id: int) -> Rows:
    """The same rows with `slots` of cache and `room` for new tokens each."""
    wider = _padded(rows, slots, room, pad_id)
    return constrained(dataclasses.replace(wider, cache=extend(rows.cache, slots)))


def _padded(rows: Rows, slots: int, room: int, pad_id: int) -> Rows:
    """All but the cache."""

    def last(x, size, value):
        return jnp.pad(x, [(0, 0), (0, 0), (0, size - x.shape[2])], constant_values=value)

    beams = rows.beams
    if beams is not None:
        beams = dataclasses.replace(beams, ended_ids=last(beams.ended_ids, room, pad_id))
    return dataclasses.replace(
        rows, visible=last(rows.visible, slots, False), ids=last(rows.ids, room, pad_id), beams=beams
    )


def frozen(rows: Rows, new: Rows) -> Rows:
    """`new`, with what is finished in `rows` left as it is there. (Its cache is not looked at any more.)"""
    keep = rows.finished

    def choose(old, new):
        return jnp.where(keep.reshape(-1, *[1] * (new.ndim - 1)), old, new)

    old = dataclasses.replace(rows, cache=None)
    chosen = jax.tree.map(choose, old, dataclasses.replace(new, cache=None))
    return dataclasses.replace(chosen, cache=new.cache)


def constrained(rows: Rows) -> Rows:
    """Every leaf over (data, fsdp) by its rows, on a mesh."""
    small = jax.tree.map(constrain_rows, dataclasses.replace(rows, cache=None))
    return dataclasses.replace(small, cache=shard(rows.cache))


def restrained(scores: Float[Array, "B beams V"], rows: Rows) -> Float[Array, "B beams V"]:
    """Scores after the repetition penalty, and with no end symbol before the answer's least length."""
    penalty = rows.knobs.repetition_penalty[:, None, None]
    scores = jnp.where(rows.seen, jnp.where(scores < 0, scores * penalty, scores / penalty), scores)
    early = rows.step < rows.knobs.minimum
    ends = jnp.where(early[:, None], rows.knobs.ends, scores.shape[-1])
    every = jnp.arange(len(ends))[:, None]
    return scores.at[every, :, ends].set(-jnp.inf, mode="drop")


def checked(rows: Rows, logits: Float[Array, "B beams V"]) -> Rows:
    """`rows`, of which those are finished and broken that go on and whose logits are not all finite."""
    broken = ~rows.finished & ~jnp.isfinite(logits).all((1, 2))
    return dataclasses.replace(rows, finished=rows.finished | broken, broken=rows.broken | broken)


def is_end(tokens: Int[Array, "B n"], rows: Rows) -> Bool[Array, "B n"]:
    """Whether a token ends the answer of its row."""
    return (tokens[:, :, None] == rows.knobs.ends[:, None, :]).any(-1)


def appended(rows: Rows, tokens: Int[Array, "B beams"]) -> Rows:
    """Every beam one token longer; rows that reach their limit are finished."""
    at = jnp.arange(rows.room) == rows.step[:, None, None]
    ids = jnp.where(at, tokens[:, :, None], rows.ids)
    b, k = tokens.shape
    seen = rows.seen.at[jnp.arange(b)[:, None], jnp.arange(k), tokens].set(True)
    stopped = (~rows.finished & (tokens[:, 0] == rows.knobs.stop_all_id)).any()
    step = rows.step + 1
    finished = rows.finished | (step >= rows.knobs.limit) | stopped
    return dataclasses.replace(rows, ids=ids, seen=seen, step=step, finished=finished)
