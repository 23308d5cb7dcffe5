"""Encoded clips, cached by content: the encoder runs once for many queries about one clip."""

import collections
import functools
import threading
import weakref
from collections.abc import Hashable
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
from nlm_jax.generate.shapes import power_of_two, whole_rows
from nlm_jax.mesh.axes import ROWS
from nlm_jax.mesh.sharding import place_batch

LIMIT = 256 * 2**20
"""Bytes of cached vectors: about a thousand clips of 10 s at a width of 4096 in bfloat16."""
PARTS = ("beats", "ln_audio", "qformer", "audio_proj")
"""Parts of the model's state that the vectors depend on."""


class Encodings:
    """The vectors [W * Q, D] of recently used clips, valid as long as the weights of the audio pathway are the same.

    Every call compares the arrays by identity: jax arrays are immutable, so a state with the same array objects gives
    the same vectors, and any other state clears the cache. It holds weak references, which free old weights.
    """

    def __init__(self, limit: int = LIMIT):
        """An empty cache.

        Args:
          limit: bytes of vectors, beyond which the least recently used clips are dropped.
        """
        self._limit, self._bytes = limit, 0
        self._vectors: collections.OrderedDict[Hashable, Array] = collections.OrderedDict()
        self._weights: tuple = ()
        self._lock = threading.Lock()
        self.encoded = 0
        """Number of clips that the encoder has processed."""

    def __len__(self) -> int:
        return len(self._vectors)

    def __call__(
        self, graphdef, state, sounds: Seq[Sound], rows: int, mesh: jax.sharding.Mesh | None = None
    ) -> dict[Hashable, Float[Array, "WQ D"]]:
        """Vectors of `sounds` by key, from the cache or the encoder.

        All processes of a job must call this with the same sounds; each reads the waveforms of its own rows only.

        Args:
          graphdef, state: the model (`nnx.split`).
          sounds: clips; those of one length are encoded together.
          rows: maximum number of clips in one call of the encoder.
          mesh: the mesh that holds the weights, None for one device.
        """
        with self._lock:
            self._clear_if_changed(graphdef, state)
            vectors = {}
            for sound in sounds:
                if sound.key in self._vectors:
                    self._vectors.move_to_end(sound.key)
                    vectors[sound.key] = self._vectors[sound.key]
            new = list({s.key: s for s in sounds if s.key not in vectors}.values())
            for samples in dict.fromkeys(s.samples for s in new):
                same_length = [s for s in new if s.samples == samples]
                for start in range(0, len(same_length), rows):
                    part = same_length[start : start + rows]
                    encoded = dict(zip((s.key for s in part), encode(graphdef, state, part, mesh), strict=True))
                    self.encoded += len(part)
                    vectors |= encoded
                    for key, value in encoded.items():
                        self._add(key, value)
        return vectors

    def prompts(
        self,
        graphdef,
        state,
        prompts: Seq[Prompt],
        rows: int,
        mesh: jax.sharding.Mesh | None = None,
        *,
        ahead: Seq[Sound] = (),
        at_once: int = 0,
    ) -> Prompts:
        """`prompts` with their encoded clips, ready for prefill.

        Args:
          graphdef, state: the model (`nnx.split`).
          prompts: at most `rows` of them; the other rows are empty.
          rows: number of rows.
          mesh: the mesh that holds the weights, None for one device.
          ahead: sounds of the next prompts. If some of `prompts` must be encoded, these fill the encoder's batch up to
            `at_once`.
          at_once: size of the encoder's batch if `ahead` is given.
        """
        sounds = [s for p in prompts for s in p.sounds]
        with self._lock:
            self._clear_if_changed(graphdef, state)
            missing = {s.key for s in sounds if s.key not in self._vectors}
            more = list({s.key: s for s in ahead if s.key not in self._vectors and s.key not in missing}.values())
        if missing:
            sounds += more[: max(0, at_once - len(missing))]
        vectors = self(graphdef, state, sounds, max(rows, at_once), mesh)
        clips = [tuple(vectors[s.key] for s in p.sounds) for p in prompts]
        filler = next((v for row in clips for v in row), None)
        if filler is None:  # no clip in any prompt
            cfg = nnx.merge(graphdef, state).cfg
            filler = jnp.zeros((1, cfg.llama.width), jnp.float32)
        clips += [()] * (rows - len(clips))
        per_clip, count = max(len(v) for row in clips for v in (*row, filler)), max(1, *map(len, clips))
        return Prompts(**stacked(prompts, rows, per_clip), vectors=side_by_side(clips, filler, per_clip, count))

    def _add(self, key: Hashable, vectors: Float[Array, "WQ D"]) -> None:
        self._vectors[key] = vectors
        self._bytes += vectors.nbytes
        while self._bytes > self._limit:
            self._bytes -= self._vectors.popitem(last=False)[1].nbytes

    def _clear_if_changed(self, graphdef, state) -> None:
        leaves = [leaf for part in PARTS for leaf in jax.tree.leaves(state[part])]
        previous = [ref() for ref in self._weights[1:]]
        same = bool(self._weights) and self._weights[0] == graphdef and len(previous) == len(leaves)
        same = same and all(old is new for old, new in zip(previous, leaves, strict=True))
        if not same or not all(isinstance(leaf, jax.Array) for leaf in leaves):  # numpy arrays may change in place
            self._vectors.clear()
            self._bytes = 0
            self._weights = (graphdef, *map(weakref.ref, leaves))


def encode(graphdef, state, sounds: Seq[Sound], mesh: jax.sharding.Mesh | None = None) -> list[Float[Array, "WQ D"]]:
    """The vectors of each of `sounds`, which have one length; the batch is padded to a power of two, over the mesh."""
    rows = whole_rows(power_of_two(len(sounds)), mesh)
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
    vectors = _encode(graphdef, state, *batch[:2])
    by_index = {int(k): v for k, v in zip(fetch(batch[2]), vectors, strict=True)}
    return [by_index[i] for i in range(len(sounds))]


@functools.partial(jax.jit, static_argnums=0)
def _encode(graphdef, state, audio: Float[Array, "B T"], length: Int[Array, "B"]) -> tuple[Float[Array, "WQ D"], ...]:
    model = nnx.merge(graphdef, state)
    vectors = model.encode_audio(audio, jnp.arange(audio.shape[1]) >= length[:, None])
    if set(ROWS) <= set(jax.sharding.get_abstract_mesh().axis_names):
        vectors = jax.lax.with_sharding_constraint(vectors, PartitionSpec())
    return tuple(vectors)


def side_by_side(
    clips: Seq[Seq[Float[Array, "_ D"]]], filler: Float[Array, "_ D"], per_clip: int, count: int
) -> Float[Array, "B AWQ D"]:
    """The vectors of each row's clips in one array: `count` clips per row, each padded to `per_clip` vectors.

    The shapes do not tell how many clips each row has; otherwise every combination of queries would compile a program.

    Args:
      clips: per row, the vectors of its clips.
      filler: vectors for the places without a clip, to which no prompt refers.
      per_clip: vectors per clip.
      count: clips per row.
    """
    every = [v for row in clips for v in (*row, *[filler] * (count - len(row)))]
    return _concatenate([v if len(v) == per_clip else _pad(v, per_clip) for v in every], count)


@functools.partial(jax.jit, static_argnums=1)
def _pad(vectors: Float[Array, "WQ D"], per_clip: int) -> Float[Array, "per_clip D"]:
    return jnp.pad(vectors, [(0, per_clip - len(vectors)), (0, 0)])


@functools.partial(jax.jit, static_argnums=1)
def _concatenate(clips: list[Float[Array, "per_clip D"]], count: int) -> Float[Array, "B AWQ D"]:
    return jnp.concatenate(clips).reshape(-1, count * clips[0].shape[0], clips[0].shape[1])
