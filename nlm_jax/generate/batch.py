"""Responses to a list of queries, decoded together and returned in order."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any

import jax
import numpy as np

from nlm_jax.core.errors import NotFinite
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.audio_inputs import Clip, Sound
from nlm_jax.generate.engine import Engine
from nlm_jax.generate.options import GenerationOptions, check_batch_size, each
from nlm_jax.generate.prompts import prompt, right_padded
from nlm_jax.generate.request import Answer, Request, Unanswered
from nlm_jax.generate.shapes import power_of_two
from nlm_jax.models.config import NatureLMConfig

REFERENCE_STOP_ID = 2
"""The reference stops a whole batch once the first row's token is this one. Here it is an ordinary token by default."""


def generate_batch(
    graphdef,
    state,
    cfg: NatureLMConfig,
    tokenizer: Tokenizer,
    clips: Seq[Seq[Clip]],
    queries: Seq[str],
    *,
    batch_size: int = 8,
    num_beams: int = 1,
    right_pad: bool = False,
    stop_batch_at_id_2: bool = False,
    mesh: jax.sharding.Mesh | None = None,
    progress: Callable[[int], None] | None = None,
    read: Callable[[int], Seq[np.ndarray]] | None = None,
    encodings: Encodings | None = None,
    options: GenerationOptions | None = None,
    **fields: Any,
) -> list[Answer]:
    """The response to each query.

    The clips of a query are padded to the longest of that query, not of the batch: padding adds encoder windows, and a
    response must not depend on the other queries. On a mesh of several processes all must call this with the same
    queries.

    Args:
      graphdef, state: the model (`nnx.split`).
      clips: per query, its clips in the order of their placeholders.
      queries: user texts.
      batch_size: queries decoded together; see `engine.Engine`.
      num_beams: beams of the search; 1 = greedy or sampling.
      right_pad, stop_batch_at_id_2: defects of the reference; see `prompts.right_padded` and `REFERENCE_STOP_ID`.
        Batches are then those of the reference: queries in order, each batch finished before the next one starts.
      mesh: the mesh that holds the weights, None for one device.
      progress: called with the number of new responses whenever some are ready.
      read: returns the waveforms of query i; they replace those in `clips`, which then only give the shapes. A process
        reads only the waveforms of its own rows.
      encodings: the cache of encoded clips; a new one if None.
      options, fields: see `options.each`.

    Raises:
      UserError: invalid options, placeholders that do not match the clips, clips that are too short.
      Unanswered: logits that are not finite; it holds the answers to the other queries.
    """
    check_batch_size(batch_size)
    per_query = [o.check(num_beams) for o in each(len(queries), options, **fields)]
    prompts = [prompt(tokenizer, own, query, cfg) for own, query in zip(clips, queries, strict=True)]
    if read:
        prompts = [dataclasses.replace(p, sounds=_deferred(i, p.sounds, read)) for i, p in enumerate(prompts)]
    encodings = Encodings() if encodings is None else encodings
    order = list(range(len(prompts)))
    if right_pad or stop_batch_at_id_2:
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    else:
        batches = [sorted(order, key=lambda i: len(prompts[i]))]
    answers: list[Answer | None] = [None] * len(prompts)
    reasons: list[str] = []
    for batch in batches:
        rows = [prompts[i] for i in batch]
        if right_pad:
            rows = right_padded(rows)
        slots = min(batch_size, power_of_two(max(1, len(batch))))
        engine = Engine(
            graphdef, state, cfg, tokenizer, slots=slots, num_beams=num_beams, mesh=mesh, encodings=encodings
        )
        futures = []
        for row, (i, row_prompt) in enumerate(zip(batch, rows, strict=True)):
            stop = REFERENCE_STOP_ID if stop_batch_at_id_2 and row == 0 else -1
            future = engine.enqueue(Request(row_prompt, per_query[i], tokenizer, stop_all_id=stop))
            if progress:
                future.add_done_callback(lambda _: progress(1))
            futures.append(future)
        engine.run()
        for i, future in zip(batch, futures, strict=True):
            try:
                answers[i] = future.result()
            except NotFinite as error:
                reasons.append(str(error))
    if reasons:
        raise Unanswered(answers, reasons[0])
    return answers


def _deferred(query: int, sounds: Seq[Sound], read: Callable[[int], Seq[np.ndarray]]) -> tuple[Sound, ...]:
    """The sounds of a query whose waveforms are read only when they are encoded; keyed by position, not by content."""
    return tuple(
        dataclasses.replace(s, key=(query, clip), read=lambda clip=clip: read(query)[clip])
        for clip, s in enumerate(sounds)
    )
