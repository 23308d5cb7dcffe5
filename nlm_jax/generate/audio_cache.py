"""Encoded clips, kept by content: many questions about one clip hear it once."""

import collections
import functools
import threading
import weakref
from collections.abc import Sequence as Seq

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from nlm_jax.convert.transfer import fetch
from nlm_jax.generate.audio_inputs import Sound
from nlm_jax.generate.prompts import Prompt, Prompts, stacked
from nlm_jax.mesh.axes import ROWS
from nlm_jax.mesh.sharding import place_batch

LIMIT = 256 * 2**20
"""Bytes of vectors that are kept: about a thousand clips of 10 s at a width of 4096 in bfloat16."""
PARTS = ("beats", "ln_audio", "qformer", "audio_proj")
"""What the vectors depend on, of the model's state."""


class Encodings:
    """The vectors [W * Q, D] of the clips heard last, for as long as the weights of the audio side are the same ones.

    Whether they are is asked of the arrays themselves on every call: jax arrays cannot change, so a state that holds
    the very same arrays gives the same vectors, and any other state empties the cache. It keeps no old weights alive.
    """

    def __init__(self, limit: int = LIMIT):
        self._limit, self._bytes = limit, 0
        self._kept: collections.OrderedDict = collections.OrderedDict()
        self._made_with: tuple = ()
        self._lock = threading.Lock()
        self.encoded = 0
        """Clips that went through the encoder so far."""

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, graphdef, state, sounds: Seq[Sound], rows: int, mesh: jax.sharding.Mesh | None = None) -> dict:
        """Key -> vectors of `sounds`; those not kept are encoded, at most `rows` at once, those of one length together.

        All processes of a job must ask for the same sounds; each reads the waveforms of its own rows alone.
        """
        with self._lock:
            self._check(graphdef, state)
            found = {}
            for sound in sounds:
                if sound.key in self._kept:
                    self._kept.move_to_end(sound.key)
                    found[sound.key] = self._kept[sound.key]
            new = list({s.key: s for s in sounds if s.key not in found}.values())
            for samples in dict.fromkeys(s.samples for s in new):
                alike = [s for s in new if s.samples == samples]
                for start in range(0, len(alike), rows):
                    part = alike[start : start + rows]
                    made = dict(zip((s.key for s in part), encode(graphdef, state, part, mesh), strict=True))
                    self.encoded += len(part)
                    found |= made
                    for key, vectors in made.items():
                        self._keep(key, vectors)
        return found

    def prompts(
        self,
        graphdef,
        state,
        asked: Seq[Prompt],
        rows: int,
        mesh: jax.sharding.Mesh | None = None,
        *,
        ahead: Seq[Sound] = (),
        at_once: int = 0,
    ) -> Prompts:
        """`asked` as so many rows, ready for prefill; rows past them are empty.

        Args:
          ahead: sounds that will be asked for next. Where some of `asked` must be encoded, as many of these are encoded
            with them as make `at_once` together.
        """
        sounds = [s for p in asked for s in p.sounds]
        with self._lock:
            self._check(graphdef, state)
            lacking = {s.key for s in sounds if s.key not in self._kept}
            more = list({s.key: s for s in ahead if s.key not in self._kept and s.key not in lacking}.values())
        if lacking:
            sounds += more[: max(0, at_once - len(lacking))]
        vectors = self(graphdef, state, sounds, max(rows, at_once), mesh)
        clips = [tuple(vectors[s.key] for s in p.sounds) for p in asked]
        some = next((v for mine in clips for v in mine), None)
        if some is None:  # no clip in any prompt
            cfg = nnx.merge(graphdef, state).cfg
            some = jnp.zeros((1, cfg.llama.width), jnp.float32)
        clips += [()] * (rows - len(clips))
        per_clip, count = max(len(v) for mine in clips for v in (*mine, some)), max(1, *map(len, clips))
        return Prompts(**stacked(asked, rows, per_clip), vectors=side_by_side(clips, some, per_clip, count))

    def _keep(self, key, vectors) -> None:
        self._kept[key] = vectors
        self._bytes += vectors.nbytes
        while self._bytes > self._limit:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def _check(self, graphdef, state) -> None:
        leaves = [leaf for part in PARTS for leaf in jax.tree.leaves(state[part])]
        known = [ref() for ref in self._made_with[1:]]
        same = bool(self._made_with) and self._made_with[0] == graphdef and len(known) == len(leaves)
        same = same and all(old is new for old, new in zip(known, leaves, strict=True))
        if not same or not all(isinstance(leaf, jax.Array) for leaf in leaves):  # numpy arrays may change in place
            self._kept.clear()
            self._bytes = 0
            self._made_with = (graphdef, *map(weakref.ref, leaves))


def encode(graphdef, state, sounds: Seq[Sound], mesh: jax.sharding.Mesh | None = None) -> list[Array]:
    """Vectors [W * Q, D] of each of `sounds`, which have one length; the rows are a power of two, over the mesh."""
    parts = 1 if mesh is None else int(np.prod([mesh.shape[axis] for axis in ROWS]))
    rows = -(-(1 << (len(sounds) - 1).bit_length()) // parts) * parts
    share = rows // jax.process_count() if mesh is not None else rows
    first = jax.process_index() * share if share < rows else 0
    audio = np.zeros((share, sounds[0].samples), np.float32)
    length, order = np.full(share, sounds[0].samples, np.int32), np.arange(first, first + share, dtype=np.int32)
    for row, sound in enumerate(sounds[first : first + share]):
        wave = sound.read()
        audio[row, : len(wave)], length[row] = wave, sound.length
    batch = (audio, length, order)
    if mesh is not None:
        batch = place_batch(batch, mesh)
    made = _encode(graphdef, state, *batch[:2])
    of = {int(k): vectors for k, vectors in zip(fetch(batch[2]), made, strict=True)}
    return [of[i] for i in range(len(sounds))]


@functools.partial(jax.jit, static_argnums=0)
def _encode(graphdef, state, audio: Float[Array, "B T"], length: Int[Array, "B"]) -> tuple[Float[Array, "WQ D"], ...]:
    model = nnx.merge(graphdef, state)
    vectors = model.encode_audio(audio, jnp.arange(audio.shape[1]) >= length[:, None])
    if set(ROWS) <= set(jax.sharding.get_abstract_mesh().axis_names):
        vectors = jax.lax.with_sharding_constraint(vectors, PartitionSpec())
    return tuple(vectors)


def side_by_side(clips: Seq[Seq[Array]], any_other: Array, per_clip: int, count: int) -> Float[Array, "B AWQ D"]:
    """The clips of each row one after another, every one filled up to `per_clip` vectors, `count` of them a row.

    Places without a clip hold `any_other`, which no prompt points to. So the shapes do not say which row has how many
    clips: there would be a program to compile, and to keep, for each way in which questions can come together.
    """
    every = [v for mine in clips for v in (*mine, *[any_other] * (count - len(mine)))]
    return _joined([v if len(v) == per_clip else _filled(v, per_clip) for v in every], count)


@functools.partial(jax.jit, static_argnums=1)
def _filled(vectors: Float[Array, "WQ D"], per_clip: int) -> Float[Array, "per_clip D"]:
    return jnp.pad(vectors, [(0, per_clip - len(vectors)), (0, 0)])


@functools.partial(jax.jit, static_argnums=1)
def _joined(every: list[Float[Array, "per_clip D"]], count: int) -> Float[Array, "B AWQ D"]:
    return jnp.concatenate(every).reshape(-1, count * every[0].shape[0], every[0].shape[1])
