"""Questions answered by a `NatureLM`, with the counts that `predictions_v1` asks for."""

from collections.abc import Callable

from nlm_jax.core.errors import UserError
from nlm_jax.serve.batcher import Answerer, OnText
from nlm_jax.serve.question import Answer, Question

MOST_PROMPT_TOKENS = 8192
"""A longer prompt is refused: memory grows with the longest of a batch."""


def answerer(model, batch_size: int) -> Answerer:
    """Answers by `model.generate`, `batch_size` at a time."""

    def answer(questions: list[Question], tell: list[OnText]) -> list[Answer]:
        prompts = [prompt_tokens(model, q) for q in questions]
        limit = questions[0].max_tokens
        audios, texts = [list(q.clips) for q in questions], [q.text for q in questions]
        made = model.generate(audios, texts, limit, batch_size=batch_size, return_ids=True)
        found = []
        for ids, prompt, say in zip(made, prompts, tell, strict=True):
            ended = bool(ids) and ids[-1] in model.tokenizer.eos_ids
            text = model.tokenizer.decode(ids)
            say(text)
            found.append(Answer(text, "stop" if ended else "length", prompt, len(ids)))
        return found

    return answer


def prompt_tokens(model, question: Question) -> int:
    """Positions that the prompt of a question takes, the vectors of its clips included.

    Raises:
      UserError: more than `MOST_PROMPT_TOKENS`, or clips that do not fit the placeholders.
    """
    from nlm_jax.generate.answer import text_format
    from nlm_jax.generate.prompts import Clip, item

    samples = max(clip.size for clip in question.clips)
    clips = [Clip.of(clip) for clip in question.clips]
    one = item(model.tokenizer, clips, question.text, None, samples, text_format(model.config, samples))
    if len(one.sequence) > MOST_PROMPT_TOKENS:
        raise UserError(f"messages: {len(one.sequence)} tokens with the audio, at most {MOST_PROMPT_TOKENS}")
    return len(one.sequence)


def loader(load_model: Callable[[], object], batch_size: int) -> Callable[[Callable[[str], None]], Answerer]:
    """What `make_app` loads: the model, and one answer so that the programs are compiled before the first question."""
    import numpy as np

    from nlm_jax.core.dims import SAMPLE_RATE

    def load(say: Callable[[str], None]) -> Answerer:
        say("loading weights")
        answer = answerer(load_model(), batch_size)
        say("compiling")
        silence = np.zeros(10 * SAMPLE_RATE, np.float32)
        answer(
            [Question((silence,), "What is the common name for the focal species in the audio?", 1)], [lambda _: None]
        )
        return answer

    return load
