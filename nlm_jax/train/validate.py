"""During training: loss and accuracy on held-out examples by task and domain, and a few answers to read."""

import collections
import logging
from typing import Any

import jax
import numpy as np
from flax import nnx

from nlm_jax.convert.transfer import fetch
from nlm_jax.data.config import DataConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.eval_batches import EvalSet
from nlm_jax.data.text import Format, Tokenizer
from nlm_jax.generate.audio_inputs import Clip
from nlm_jax.generate.batch import generate_batch
from nlm_jax.generate.request import Unanswered
from nlm_jax.mesh.sharding import place_batch
from nlm_jax.train.program import Program
from nlm_jax.train.state import TrainState, merged
from nlm_jax.train.step import row_scores

log = logging.getLogger(__name__)


def validation(data: DataConfig, tokenizer: Tokenizer, fmt: Format, examples: int) -> EvalSet | None:
    """The stage's validation examples, `examples` of them spread evenly (0 = all); None if the config names none."""
    if not data.valid:
        return None
    corpus = Corpus(data.valid, data.valid_split, data.tasks, data.domains, data.cache_gb)
    if 0 < examples < len(corpus):
        chosen = np.zeros(len(corpus), bool)
        chosen[np.linspace(0, len(corpus) - 1, examples).round().astype(int)] = True
        corpus = corpus.subset(chosen)
    return EvalSet(corpus, tokenizer, fmt, data.rows, data.samples, jax.process_index(), jax.process_count())


def validate(program: Program, state: TrainState, evaluation: EvalSet) -> dict[str, Any]:
    """Loss and accuracy per answer token, and the share of examples that are right in every token.

    Returns:
      {"loss", "accuracy", "exact", "task": {name: the same three}, "domain": {name: ...}}.
    """
    corpus, sums = evaluation.corpus, collections.defaultdict(lambda: np.zeros(5))
    graphdef, whole = nnx.split(merged(program.graphdef, state))
    for batch in evaluation:
        placed = place_batch((batch.batch, np.array(batch.examples, np.int32)), program.mesh)
        scores, examples = map(fetch, row_scores(graphdef, whole, *placed))
        for example, (nll, hit, weight) in zip(examples, scores, strict=True):
            if not weight:  # filled up, or a damaged example
                continue
            names = (("task", corpus.tasks[corpus.task[example]]), ("domain", corpus.domains[corpus.domain[example]]))
            for name in (("all", ""), *names):
                sums[name] += (nll, hit, weight, hit == weight, 1)
    means = {
        name: {"loss": nll / weight, "accuracy": hit / weight, "exact": exact / count}
        for name, (nll, hit, weight, exact, count) in sums.items()
    }
    grouped = {kind: {n: m for (k, n), m in means.items() if k == kind} for kind in ("task", "domain")}
    return means.get(("all", ""), {}) | grouped


def _answer_ids(*args, **options) -> list[list[int]]:
    """Token ids of each answer; none if its logits are not finite: a run that diverges still writes its validation."""
    try:
        answers = generate_batch(*args, **options)
    except Unanswered as error:
        log.warning("validation: %s", error)
        answers = error.answers
    return [answer.ids if answer else [] for answer in answers]


def answers(
    program: Program,
    state: TrainState,
    evaluation: EvalSet,
    tokenizer: Tokenizer,
    per_task: int,
    max_new_tokens: int,
) -> list[dict[str, str]]:
    """Greedy answers to the first `per_task` validation examples of every task: task, prompt, expected, answer."""
    corpus = evaluation.corpus
    chosen = [int(e) for t in range(len(corpus.tasks)) for e in np.flatnonzero(corpus.task == t)[:per_task]]
    if not chosen:
        return []
    samples = evaluation.shape.samples
    entries = [corpus.entry(e) for e in chosen]
    silence = np.broadcast_to(np.float32(0), samples)  # of the right shape: `read` gives this host's own their sound
    clips = [[Clip(silence, samples)] * entry.n_clips for entry in entries]
    graphdef, whole = nnx.split(merged(program.graphdef, state))
    ids = _answer_ids(
        graphdef,
        whole,
        program.model,
        tokenizer,
        clips,
        [entry.prompt for entry in entries],
        max_new_tokens=max_new_tokens,
        batch_size=program.stage.data.rows,
        mesh=program.mesh,
        read=lambda i: corpus.audio(chosen[i], samples),
    )
    return [
        {"task": e.task, "prompt": e.prompt, "expected": e.text, "answer": tokenizer.decode(row).strip()}
        for e, row in zip(entries, ids, strict=True)
    ]
