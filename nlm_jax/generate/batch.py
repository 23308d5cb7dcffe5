"""Many questions to a model, answered together and given back in order."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any

import jax
import numpy as np

from nlm_jax.core.errors import NotFinite, UserError
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.audio_inputs import Clip, Sound
from nlm_jax.generate.engine import Engine
from nlm_jax.generate.options import GenerationOptions, each
from nlm_jax.generate.prompts import prompt, right_padded
from nlm_jax.generate.request import Answer, Request, Unanswered
from nlm_jax.models.config import NatureLMConfig

REFERENCE_STOP_ID = 2
"""The reference stops a whole batch once the first row's token is this one. Here it is an ordinary token by default."""


def answer(
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
    """The answer to each query.

    A query's clips are padded to its own longest one, never to a neighbour's: that would give them more windows, and an
    answer must not depend on what else was asked. On a mesh of several processes all of them ask the same.

    Args:
      clips: per query, its clips in the order of their placeholders.
      queries: user texts.
      batch_size: queries decoded together; see `engine.Engine`.
      right_pad, stop_batch_at_id_2: defects of the reference; see `prompts.right_padded` and `REFERENCE_STOP_ID`.
        Batches are then those of the reference: queries in their order, none begun before all of a batch are done.
      progress: called with the number of answers each time some are ready.
      read: gives the waveforms of query i in the place of those in `clips`, whose shapes they have. Each process asks
        for those of its own rows alone.
      encodings: the cache of encoded clips; one for this call by default.
      options, fields: see `options.each`.

    Raises:
      UserError: options that mean nothing, placeholders that do not match the clips, clips that are too short.
      Unanswered: logits that are not finite; the answers of the other queries are in it.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise UserError(f"batch_size={batch_size!r}: must be at least 1")
    chosen = [o.check(num_beams) for o in each(len(queries), options, **fields)]
    prompts = [prompt(tokenizer, mine, query, cfg) for mine, query in zip(clips, queries, strict=True)]
    if read:
        prompts = [dataclasses.replace(p, sounds=_read_later(i, p.sounds, read)) for i, p in enumerate(prompts)]
    encodings = Encodings() if encodings is None else encodings
    order = list(range(len(prompts)))
    if right_pad or stop_batch_at_id_2:
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    else:
        batches = [sorted(order, key=lambda i: len(prompts[i]))]
    answers: list[Any] = [None] * len(prompts)
    reasons: list[str] = []
    for batch in batches:
        asked = [prompts[i] for i in batch]
        if right_pad:
            asked = right_padded(asked)
        slots = min(batch_size, 1 << max(0, len(batch) - 1).bit_length())
        engine = Engine(
            graphdef, state, cfg, tokenizer, slots=slots, num_beams=num_beams, mesh=mesh, encodings=encodings
        )
        futures = []
        for row, (i, one) in enumerate(zip(batch, asked, strict=True)):
            stop = REFERENCE_STOP_ID if stop_batch_at_id_2 and row == 0 else -1
            future = engine.enqueue(Request(one, chosen[i], tokenizer, stop_all_id=stop))
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


def answer_ids(*args: Any, **options: Any) -> list[list[int]]:
    """New token ids of each query, the end symbol included; arguments as of `answer`."""
    return [a.ids for a in answer(*args, **options)]


def _read_later(query: int, sounds: Seq[Sound], read: Callable[[int], Seq[np.ndarray]]) -> tuple[Sound, ...]:
    """The sounds of a query with their waveforms still to be read; known by their place, not their content."""
    return tuple(
        dataclasses.replace(s, key=(query, clip), read=lambda clip=clip: read(query)[clip])
        for clip, s in enumerate(sounds)
    )
