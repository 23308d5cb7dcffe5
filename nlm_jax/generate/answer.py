"""Many questions to a model: grouped by clip length, batched, answered, put back in order."""

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Sequence as Seq

import jax
import numpy as np

from nlm_jax.convert.place import fetch
from nlm_jax.core.errors import UserError
from nlm_jax.data.text import Format, Tokenizer
from nlm_jax.generate.beam import beam_search
from nlm_jax.generate.decode import REFERENCE_STOP_ID, Decoding, Knobs, greedy
from nlm_jax.generate.prompts import Clip, item, prefill_rows
from nlm_jax.mesh.axes import ROWS
from nlm_jax.mesh.place import place_batch
from nlm_jax.models.config import NatureLMConfig

SLOTS = 32
"""Room for new tokens is rounded up to a multiple of this, so that few shapes are compiled."""


def text_format(cfg: NatureLMConfig, samples: int) -> Format:
    """How a model of `cfg` writes its sequences for clips of `samples` samples.

    Raises:
      UserError: the clips are too short for a single window.
    """
    vectors = cfg.qformer.vectors(samples)
    if not vectors:
        raise UserError(f"a clip of {samples / 16000:.2f} s is too short: the model needs about half a second of audio")
    return Format(vectors, cfg.prompt_template, cfg.end_sym, cfg.max_txt_len)


def answer_ids(
    graphdef,
    state,
    cfg: NatureLMConfig,
    tokenizer: Tokenizer,
    clips: Seq[Seq[Clip]],
    queries: Seq[str],
    *,
    max_new_tokens: int = 300,
    batch_size: int = 8,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    repetition_penalty: float = 1.0,
    right_pad: bool = False,
    stop_batch_at_id_2: bool = False,
    mesh: jax.sharding.Mesh | None = None,
    progress: Callable[[int], None] | None = None,
    read: Callable[[int], Seq[np.ndarray]] | None = None,
) -> list[list[int]]:
    """New token ids of each query, the end symbol included.

    Queries whose longest clips differ in length never share a batch: padding a clip to a longer neighbour would give it
    more windows, and an answer must not depend on what else was asked.

    Args:
      clips: per query, its clips in the order of their placeholders.
      queries: user texts.
      progress: called with the number of answers each time some are ready.
      read: gives the waveforms of query i in the place of those in `clips`, whose shapes they have. Each process asks
        for those of its own rows alone.
    """
    for name, value in (("max_new_tokens", max_new_tokens), ("num_beams", num_beams), ("batch_size", batch_size)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise UserError(f"{name}={value}: must be a whole number of at least 1")
    if not repetition_penalty > 0:
        raise UserError(f"repetition_penalty={repetition_penalty}: must be above 0; 1 penalizes nothing")
    how = Decoding(tokenizer.eos_ids, tokenizer.pad_id, -(-max_new_tokens // SLOTS) * SLOTS)
    stop_id = REFERENCE_STOP_ID if stop_batch_at_id_2 else -1
    knobs = Knobs(np.int32(max_new_tokens), np.float32(repetition_penalty), np.int32(stop_id))
    groups: dict[tuple[int, int], list] = {}
    for i, (mine, query) in enumerate(zip(clips, queries, strict=True)):
        samples = max((len(c.wave) for c in mine), default=16_000)
        one = item(tokenizer, mine, query, None, samples, text_format(cfg, samples))
        groups.setdefault((samples, len(mine)), []).append((i, one))
    parts = 1 if mesh is None else math.prod(mesh.shape[axis] for axis in ROWS)
    answers: list[list[int]] = [[] for _ in queries]
    for (samples, _), members in groups.items():
        members.sort(key=lambda member: len(member[1].sequence))
        for start in range(0, len(members), batch_size):
            chunk = members[start : start + batch_size]
            rows = len(chunk) if right_pad else min(batch_size, 1 << (len(chunk) - 1).bit_length())
            rows = -(-rows // parts) * parts
            share = rows // jax.process_count() if mesh is not None else rows
            own = slice(jax.process_index() * share, (jax.process_index() + 1) * share) if share < rows else slice(rows)
            items = [one for _, one in chunk]
            if read:
                items[own] = [dataclasses.replace(one, audio=tuple(read(i))) for i, one in chunk[own]]
            batch = prefill_rows(items, samples, text_format(cfg, samples), rows=rows, right=right_pad)
            order = np.arange(rows)
            if mesh is not None:
                batch, order = place_batch(jax.tree.map(lambda a, own=own: a[own], (batch, order)), mesh)
            if num_beams == 1:
                ids, steps = greedy(graphdef, state, batch, knobs, how=how)
                lengths = np.full(rows, int(steps))
            else:
                penalty = np.float32(length_penalty)
                ids, lengths, _ = beam_search(graphdef, state, batch, knobs, penalty, how=how, beams=num_beams)
            for k, row, length in zip(fetch(order), fetch(ids), fetch(lengths), strict=True):
                if k < len(chunk):
                    answers[chunk[k][0]] = _until_end(row[:length], how.eos_ids)
            if progress:
                progress(len(chunk))
    return answers


def _until_end(row: np.ndarray, eos_ids: Seq[int]) -> list[int]:
    """The row up to and with its first end symbol."""
    ends = np.flatnonzero(np.isin(row, eos_ids))
    return (row[: ends[0] + 1] if ends.size else row).tolist()
