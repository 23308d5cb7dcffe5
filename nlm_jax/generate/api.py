"""`NatureLM`: a model with its tokenizer, for people. Load it, ask it, score with it, save it in any format."""

import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.formats import save
from nlm_jax.core.batch import Batch
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import NotFinite, UserError
from nlm_jax.core.files import printable
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.audio_inputs import Clip, array, clips_of
from nlm_jax.generate.batch import answer
from nlm_jax.generate.engine import Engine
from nlm_jax.generate.forward import all_logits, encode, mean_loss
from nlm_jax.generate.likelihood import NORMALIZE, log_likelihoods
from nlm_jax.generate.load import load_checkpoint
from nlm_jax.generate.options import Floats, GenerationOptions, Ints, Stop
from nlm_jax.generate.prompts import check_pairs, check_texts, item, teacher_forced, text_format, waveforms_of
from nlm_jax.generate.recording_windows import chosen, sounds, windows_of
from nlm_jax.generate.request import Unanswered

WINDOWS = 8
"""Batches of windows that are read at once, so that rows that are finished have successors."""
STREAM_STEPS = 4
"""Tokens decoded before `stream` tells them."""


class NatureLM:
    """A model with its tokenizer: paths, arrays and texts in; vectors, logits and answers out.

    Example:
      from nlm_jax import NatureLM

      model = NatureLM.from_pretrained("NatureLM-audio")
      print(model.generate(["owl.wav"], ["Which species is it?"]))
    """

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer, mesh: jax.sharding.Mesh | None = None):
        """`checkpoint` must hold a whole model; `mesh` is where its weights lie, None for one device."""
        self.checkpoint, self.tokenizer, self.mesh = checkpoint, tokenizer, mesh
        self.config = checkpoint.config
        self.graphdef, self.state = nnx.split(checkpoint.model())
        self.encodings = Encodings()
        """Clips heard before, by content; see `encodings.Encodings`."""

    @classmethod
    def from_pretrained(
        cls,
        src: str | pathlib.Path,
        llm: str | pathlib.Path | None = None,
        dtype: str = "bfloat16",
        merging_alpha: float = 1.0,
        qformer_config: str | pathlib.Path | Mapping[str, Any] | None = None,
        mesh: jax.sharding.Mesh | None = None,
        **options: Any,
    ) -> "NatureLM":
        """Loads an official directory or checkpoint, one of our exports, or a training run of ours.

        Args:
          src: directory, `.pth` file, or hub id.
          llm: Hugging Face Llama directory or hub id, where `src` does not carry the language model.
          dtype: of the computation, "bfloat16" or "float32" (parity). Weights keep the dtype of the file.
          merging_alpha: 0 = the base language model, 1 = the trained one, between: interpolated (arXiv 2511.05171).
          qformer_config: path or dict with the Q-Former's sizes, which official configs lack; bert-base-uncased's with
            2 layers by default.
          mesh: streams every weight to its place on this mesh.
          options: `config` (official config.json, for a bare `.pth`), `base` (a complete official checkpoint under a
            partial one), `which` ("best" or "last" of a training run); see `convert.formats.open_checkpoint`.

        Raises:
          UserError: what is missing or does not fit, by name.
        """
        checkpoint, tokenizer = load_checkpoint(
            src, dtype, merging_alpha, mesh, llm=llm, qformer_config=qformer_config, **options
        )
        return cls(checkpoint, tokenizer, mesh)

    def encode_audio(
        self,
        waveforms: Any,
        padding_mask: Any = None,
    ) -> Float[Array, "B WQ D"]:
        """Vectors f32[B, W, D] in the LLM's embedding space of clips; another shape is a sentence, not a type error.

        Args:
          waveforms: f32[B, T] at 16 kHz, of numpy, jax, or a list of rows.
          padding_mask: bool[B, T], True = padding.

        Raises:
          UserError: other shapes, no floats, NaN, or clips too short for one window.
        """
        audio, padding = waveforms_of(waveforms, padding_mask)
        text_format(self.config, audio.shape[1])  # says so when the clips are too short
        return encode(self.graphdef, self.state, audio, padding)

    def logits(self, prompts: Sequence[str], texts: Sequence[str], audios: Sequence[Any]) -> Float[Array, "B S V"]:
        """Teacher forcing: f32[B, S, V] of BOS ‖ prompt ‖ text, one example a row, padded on the right.

        Args:
          prompts: user texts with their `<AudioHere>`; the chat template is applied here.
          texts: the answers.
          audios: per prompt a list of f32[T] at 16 kHz. Clips of different length are zero-padded to the longest with a
            true padding mask, as in the reference.

        Raises:
          UserError: no prompt, lists of different length, a clip that is no f32[T], placeholders that do not match.
        """
        return all_logits(self.graphdef, self.state, self._examples(prompts, texts, audios))

    def loss(self, prompts: Sequence[str], texts: Sequence[str], audios: Sequence[Any]) -> float:
        """Mean negative log-likelihood over the answer tokens of the whole batch, in evaluation mode."""
        return float(mean_loss(self.graphdef, self.state, self._examples(prompts, texts, audios)))

    def generate(
        self,
        audios: Sequence[Any],
        queries: Sequence[str],
        max_new_tokens: Ints | None = None,
        num_beams: int = 1,
        *,
        options: GenerationOptions | None = None,
        batch_size: int = 8,
        temperature: Floats | None = None,
        top_k: Ints | None = None,
        top_p: Floats | None = None,
        seed: Ints | None = None,
        min_length: Ints | None = None,
        stop: Stop | None = None,
        length_penalty: Floats | None = None,
        repetition_penalty: Floats | None = None,
        right_pad: bool = False,
        stop_batch_at_id_2: bool = False,
        return_ids: bool = False,
    ) -> list[str] | list[list[int]]:
        """An answer to each query.

        A field of `GenerationOptions` that is given by name counts instead of that of `options`. It may be one value
        for all queries or a list with one per query, `stop` excepted.

        Args:
          audios: per query a path, an array f32[T] at 16 kHz, or a list of them. Files are cut or zero-padded to
            the clip length of the checkpoint (`config.audio.seconds`), arrays are taken as they are and cut at it.
          queries: user texts; where `<AudioHere>` is missing it is put in front, once per clip.
          max_new_tokens: of each answer at most, the end symbol included; 300 by default.
          num_beams: 1 = no beam search; the paper decodes with 2.
          options: how answers are decoded; the defaults of `GenerationOptions` if None.
          batch_size: queries decoded together; a finished one is replaced at once. Answers do not depend on it, but
            for rounding: in bfloat16 two tokens that are nearly equally likely may change places.
          temperature: 0 (the default) = the most likely token, always; above, tokens are drawn.
          top_k: draws from this many most likely tokens; 0 (the default) = all.
          top_p: draws from the fewest tokens that hold this much probability; 1 (the default) = all.
          seed: seed for sampling, 0 by default; results do not depend on the other queries.
          min_length: tokens before the end symbol may come, 0 by default.
          stop: texts or token ids that end an answer, beside the end symbols; they are left out of its text.
          length_penalty: for beams: exponent of the length a score is divided by; above 0 favours long answers.
          repetition_penalty: above 1 makes tokens the answer already holds less likely.
          right_pad, stop_batch_at_id_2: two defects of the reference, for comparisons with it.
          return_ids: token ids instead of texts, the end symbol (or what completed a stop text) included.

        Returns:
          a text per query, or with `return_ids` its token ids.

        Raises:
          UserError: a clip that cannot be read or is too short, placeholders that do not match the clips, a value that
            means nothing.
        """
        check_pairs(audios, queries)
        fields = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "seed": seed,
            "min_length": min_length,
            "stop": stop,
            "length_penalty": length_penalty,
            "repetition_penalty": repetition_penalty,
        }
        answers = answer(
            self.graphdef,
            self.state,
            self.config,
            self.tokenizer,
            [clips_of(audio, self.config.audio) for audio in audios],
            list(queries),
            batch_size=batch_size,
            num_beams=num_beams,
            right_pad=right_pad,
            stop_batch_at_id_2=stop_batch_at_id_2,
            mesh=self.mesh,
            encodings=self.encodings,
            options=options,
            **{name: value for name, value in fields.items() if value is not None},
        )
        return [a.ids if return_ids else a.text for a in answers]

    def engine(self, slots: int = 8, num_beams: int = 1, steps: int = 8, reserve: int = 0) -> Engine:
        """Answers questions as they come; for servers. See `engine.Engine`: `submit`, `stream`, a thread of its own.

        It decodes with the weights the model has now.
        """
        return Engine(
            self.graphdef,
            self.state,
            self.config,
            self.tokenizer,
            slots=slots,
            num_beams=num_beams,
            steps=steps,
            reserve=reserve,
            mesh=self.mesh,
            encodings=self.encodings,
        )

    def stream(self, audio: Any, query: str, options: GenerationOptions | None = None, **fields: Any) -> Iterator[str]:
        """The answer to one query in pieces, as they are decoded; joined they are what `generate` answers.

        Args:
          audio, query: one entry of `generate`'s.
          options: how the answer is decoded; the defaults of `GenerationOptions` if None.
          fields: fields of `GenerationOptions` by name, in the place of those of `options`.

        Returns:
          pieces of text.
        """
        return self.engine(slots=1, steps=STREAM_STEPS).stream(audio, query, options, **fields)

    def score(
        self,
        audios: Sequence[Any],
        queries: Sequence[str],
        candidates: Any,
        normalize: str = "sum",
        *,
        against: str | None = None,
        batch_size: int = 8,
    ) -> list[Float[np.ndarray, "C"]]:
        """How likely each candidate is as the answer: per query its log-likelihoods f32[C], in the candidates' order.

        The candidate with the highest is the model's choice among them. Detection scores that are real numbers are the
        log-likelihoods of the labels, `against="None"` those relative to hearing none of them.

        Args:
          audios, queries: as for `generate`.
          candidates: texts for all queries, or per query a list of texts. Each is scored with the end symbol behind it,
            cut at the config's max_txt_len as in training.
          normalize: "sum" of the log-probabilities of a candidate's tokens, or their "mean", which does not favour
            short labels.
          against: a text whose log-likelihood, normalized likewise, is subtracted.
          batch_size: queries computed together. Scores do not depend on it.

        Raises:
          UserError: no candidates or no texts, an unknown `normalize`, and what `generate` raises about clips.
          Unanswered: scores that are not finite; those of the other queries are in it.
        """
        if normalize not in NORMALIZE:
            raise UserError(f"normalize={normalize!r}: no such way; use one of {', '.join(NORMALIZE)}")
        check_pairs(audios, queries)
        found = []
        for texts in (candidates,) if against is None else (candidates, [against]):
            made = log_likelihoods(
                self.graphdef,
                self.state,
                self.config,
                self.tokenizer,
                [clips_of(audio, self.config.audio) for audio in audios],
                list(queries),
                texts,
                batch_size=batch_size,
                mesh=self.mesh,
                encodings=self.encodings,
            )
            found.append([total / length if normalize == "mean" else total for total, length in made])
        scores = found[0] if against is None else [a - b for a, b in zip(*found, strict=True)]
        Unanswered.check_scores(scores)
        return scores

    def generate_windows(
        self,
        audio: str | pathlib.Path,
        query: str,
        window: float | None = None,
        hop: float | None = None,
        **options: Any,
    ) -> list[tuple[float, float, str]]:
        """(start, end, answer) of every window of a recording of any length, in seconds; `options` as of `generate`.

        Only a few batches of windows are in memory at a time. `window` is by default the clip length of the checkpoint,
        which it must not exceed, and `hop` the window.

        Raises:
          UserError: what is wrong with the recording, one of its windows, or the options.
        """
        window, hop = chosen(window, hop, self.config.audio.seconds)
        heard = sounds([windows_of(pathlib.Path(audio), window, hop)], self.config.audio.quality)
        size, answered = WINDOWS * max(1, options.get("batch_size", 8)), []  # `generate` says what is wrong with 0
        while part := list(itertools.islice(heard, size)):
            if reason := next((reason for _, wave, reason in part if wave is None), ""):
                raise UserError(reason)
            try:
                answers = self.generate([wave for _, wave, _ in part], [query] * len(part), **options)
            except Unanswered as error:
                raise NotFinite(f"{printable(audio)} at {part[error.query][0].start:g} s: {error.reason}") from error
            answered += [(w.start, w.end, answer) for (w, _, _), answer in zip(part, answers, strict=True)]
        return answered

    def save_pretrained(self, out: str | pathlib.Path, format: str = "naturelm", **options: Any) -> None:
        """Writes the weights to the directory `out`: "naturelm", "peft", "llama-merged", "beats" or "nlm".

        `options` are those of `convert.formats.save`. Needs no torch.
        """
        save(self.checkpoint, out, format, **options)

    def _examples(self, prompts, texts, audios) -> Batch:
        check_pairs(audios, prompts)
        check_texts("texts", texts)
        if len(texts) != len(prompts) or not prompts:
            raise UserError(f"{len(texts)} texts for {len(prompts)} prompts; give one or more prompts with a text each")
        clips = [[Clip.of(array(a)) for a in ([mine] if getattr(mine, "ndim", 0) == 1 else mine)] for mine in audios]
        samples = max((len(c.wave) for mine in clips for c in mine), default=SAMPLE_RATE)
        fmt = text_format(self.config, samples)
        items = [
            item(self.tokenizer, mine, prompt, text, samples, fmt)
            for mine, prompt, text in zip(clips, prompts, texts, strict=True)
        ]
        return jax.tree.map(jnp.asarray, teacher_forced(items, samples, fmt))
