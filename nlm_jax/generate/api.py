"""`NatureLM`: a model with its tokenizer. Load it, ask it about recordings, score candidates, export it."""

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Unpack

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.formats import save
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.audio_inputs import check_waveforms, clips_of
from nlm_jax.generate.batch import generate_batch
from nlm_jax.generate.engine import Engine
from nlm_jax.generate.forward import all_logits, encode, mean_loss
from nlm_jax.generate.likelihood import Candidates, score_candidates
from nlm_jax.generate.load import load_checkpoint
from nlm_jax.generate.options import GenerationOptions, Ints, OptionFields
from nlm_jax.generate.prompts import check_pairs, text_format
from nlm_jax.generate.schedule import Admission
from nlm_jax.generate.teacher_forcing import example_batch
from nlm_jax.generate.window_answers import answer_windows

STREAM_STEPS = 4
"""Tokens decoded before `stream` yields their text."""


class NatureLM:
    """A model with its tokenizer: paths, arrays and texts in; vectors, logits and answers out.

    Example:
      from nlm_jax import NatureLM

      model = NatureLM.from_pretrained("NatureLM-audio")
      print(model.generate(["owl.wav"], ["Which species is it?"]))
    """

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer, mesh: jax.sharding.Mesh | None = None):
        """Use `from_pretrained`, or pass a checkpoint of a whole model.

        Args:
          checkpoint: all weights and the config.
          tokenizer: the one that belongs to the weights.
          mesh: the mesh that holds the weights, None for one device.
        """
        self.checkpoint, self.tokenizer, self.mesh = checkpoint, tokenizer, mesh
        self.config = checkpoint.config
        self.graphdef, self.state = nnx.split(checkpoint.model())
        self.encodings = Encodings()
        """The cache of encoded clips."""

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
        """Loads an official directory or checkpoint, an export of this package, or a training run.

        Example:
          model = NatureLM.from_pretrained("NatureLM-audio", llm="Meta-Llama-3.1-8B-Instruct", merging_alpha=0.8)

        Args:
          src: directory, `.pth` file, or hub id.
          llm: Hugging Face Llama directory or hub id, if `src` does not include the language model.
          dtype: of the computation, "bfloat16" or "float32" (parity). Weights keep the dtype of the file.
          merging_alpha: 0 = the base language model, 1 = the trained one, between: interpolated (arXiv 2511.05171).
          qformer_config: path or dict with the Q-Former's sizes, which official configs lack; bert-base-uncased's with
            2 layers by default.
          mesh: loads every weight directly onto this mesh; None for one device.
          options: `config` (official config.json, for a bare `.pth`), `base` (a complete official checkpoint under a
            partial one), `which` ("best" or "last" of a training run); see `convert.formats.open_checkpoint`.

        Raises:
          UserError: what is missing or does not fit, by name.
        """
        checkpoint, tokenizer = load_checkpoint(
            src, dtype, merging_alpha, mesh, llm=llm, qformer_config=qformer_config, **options
        )
        return cls(checkpoint, tokenizer, mesh)

    def save_pretrained(self, out: str | pathlib.Path, format: str = "naturelm", **options: Any) -> None:
        """Exports the weights. Needs no torch.

        Example:
          model.save_pretrained("exported", "llama-merged")

        Args:
          out: the directory to write.
          format: "naturelm", "peft", "llama-merged", "beats" or "nlm".
          options: those of `convert.formats.save`.

        Raises:
          UserError: an unknown format, or a directory that cannot be written.
        """
        save(self.checkpoint, out, format, **options)

    # --- Answers ------------------------------------------------------------------------------------------------------

    def generate(
        self,
        audios: Sequence[Any],
        queries: Sequence[str],
        max_new_tokens: Ints | None = None,
        num_beams: int = 1,
        *,
        options: GenerationOptions | None = None,
        batch_size: int = 8,
        right_pad: bool = False,
        stop_batch_at_id_2: bool = False,
        return_ids: bool = False,
        **fields: Unpack[OptionFields],
    ) -> list[str] | list[list[int]]:
        """The answer to each query.

        Example:
          texts = model.generate(["owl.wav", "wren.wav"], ["Which species?"] * 2, temperature=0.7, seed=[0, 1])

        Args:
          audios: per query a path, an array f32[T] at 16 kHz, or a list of them. Files are cut or zero-padded to the
            clip length of the checkpoint (`config.audio.seconds`); arrays are cut at it, but not padded.
          queries: user texts; one without `<AudioHere>` gets one per clip in front.
          max_new_tokens: most tokens of an answer, or a list with one per query; 300 by default.
          num_beams: 1 = no beam search; the paper decodes with 2.
          options: the defaults of `GenerationOptions` if None.
          batch_size: queries decoded together; a finished one is replaced immediately. Answers do not depend on it
            except for rounding: in bfloat16 two tokens that are nearly equally likely may swap.
          right_pad, stop_batch_at_id_2: two defects of the reference, for comparisons with it.
          return_ids: return token ids, with the end symbol or the tokens that completed a stop text.
          fields: `temperature`, `top_k`, `top_p`, `seed`, `min_length`, `stop`, `length_penalty`, `repetition_penalty`:
            fields of `GenerationOptions`, which replace those of `options`; all but `stop` may be a list with one per
            query.

        Returns:
          a text per query, or with `return_ids` its token ids.

        Raises:
          UserError: a clip that cannot be read or is too short, placeholders that do not match the clips, an invalid
            option.
          Unanswered: logits that are not finite; it holds the answers to the other queries.
        """
        check_pairs(audios, queries)
        clips = [clips_of(audio, self.config.audio) for audio in audios]
        settings = {"right_pad": right_pad, "stop_batch_at_id_2": stop_batch_at_id_2, "options": options}
        settings |= {k: v for k, v in {"max_new_tokens": max_new_tokens, **fields}.items() if v is not None}
        answers = self._run(generate_batch, clips, queries, batch_size=batch_size, num_beams=num_beams, **settings)
        return [a.ids if return_ids else a.text for a in answers]

    def generate_windows(
        self,
        audio: str | pathlib.Path,
        query: str,
        window: float | None = None,
        hop: float | None = None,
        **options: Any,
    ) -> list[tuple[float, float, str]]:
        """The answer for every window of a recording of any length; only a few batches of windows are in memory.

        Example:
          for start, end, text in model.generate_windows("night.flac", "Which species is it?", hop=5.0):
            print(f"{start:.1f}-{end:.1f} s: {text}")

        Args:
          audio: path of the recording.
          query: the question about each window.
          window: seconds per window, by default the clip length of the checkpoint and at most that.
          hop: seconds from one window to the next; by default the window.
          options: keyword arguments of `generate`.

        Returns:
          (start, end, answer) of each window, in seconds.

        Raises:
          UserError: what is wrong with the recording, one of its windows, or the options.
          NotFinite: logits of a window that are not finite.
        """
        return answer_windows(self.generate, self.config.audio, pathlib.Path(audio), query, window, hop, **options)

    def stream(self, audio: Any, query: str, options: GenerationOptions | None = None, **fields: Any) -> Iterator[str]:
        """The answer to one query in pieces of text, as they are decoded; joined they equal the answer of `generate`.

        Example:
          for piece in model.stream("owl.wav", "Describe the sound."):
            print(piece, end="", flush=True)

        Args:
          audio, query: one entry of those of `generate`.
          options: the defaults of `GenerationOptions` if None.
          fields: fields of `GenerationOptions` by name, which replace those of `options`.

        Raises:
          UserError: as `generate`.
        """
        return self.engine(slots=1, steps=STREAM_STEPS).stream(audio, query, options, **fields)

    def engine(
        self,
        slots: int = 8,
        num_beams: int = 1,
        steps: int = 8,
        reserve: int = 0,
        admission: Admission | None = None,
    ) -> Engine:
        """An engine that answers queries as they arrive, for servers. It uses the weights the model has now.

        Example:
          with model.engine(slots=16) as engine:
            print(engine.submit("owl.wav", "Which species is it?").result().text)

        Args:
          slots, num_beams, steps, reserve, admission: see `engine.Engine`.

        Raises:
          UserError: a number below 1.
        """
        options = {"slots": slots, "num_beams": num_beams, "steps": steps, "reserve": reserve, "admission": admission}
        return self._run(Engine, **options)

    # --- Scores and activations ---------------------------------------------------------------------------------------

    def score(
        self,
        audios: Sequence[Any],
        queries: Sequence[str],
        candidates: Candidates,
        normalize: str = "sum",
        *,
        against: str | None = None,
        batch_size: int = 8,
    ) -> list[Float[np.ndarray, "C"]]:
        """The log-likelihood of each candidate as the answer; the highest is the model's choice.

        Example:
          labels = ["barn owl", "tawny owl", "None"]
          scores = model.score(["owl.wav"], ["Which species is it?"], labels)[0]
          print(labels[scores.argmax()])

        Args:
          audios, queries: as for `generate`.
          candidates: texts for all queries, or per query a list of texts. Each is scored with the end symbol after it,
            cut at the config's max_txt_len as in training.
          normalize: "sum" of the log-probabilities of a candidate's tokens, or their "mean", which does not favour
            short labels.
          against: a text whose log-likelihood, normalized the same way, is subtracted. With "None" the scores of a
            detection are relative to the absence of every label.
          batch_size: queries computed together. Scores do not depend on it.

        Returns:
          per query f32[C], in the order of its candidates.

        Raises:
          UserError: no candidates, candidates that are not strings, an unknown `normalize`, and what `generate` raises
            about clips.
          Unanswered: scores that are not finite; it holds those of the other queries.
        """
        check_pairs(audios, queries)
        clips = [clips_of(audio, self.config.audio) for audio in audios]
        settings = {"normalize": normalize, "against": against, "batch_size": batch_size}
        return self._run(score_candidates, clips, queries, candidates, **settings)

    def encode_audio(self, waveforms: Any, padding_mask: Any = None) -> Float[Array, "B WQ D"]:
        """Vectors of clips in the embedding space of the language model.

        Example:
          vectors = model.encode_audio(np.zeros((1, 160_000), np.float32))

        Args:
          waveforms: f32[B, T] at 16 kHz, from numpy, jax, or a list of rows.
          padding_mask: bool[B, T], True = padding.

        Returns:
          f32[B, W * Q, D]: Q queries for each of W windows.

        Raises:
          UserError: other shapes, no floats, NaN, or clips too short for one window.
        """
        audio, padding = check_waveforms(waveforms, padding_mask)
        text_format(self.config, audio.shape[1])  # refuses clips that are too short
        return encode(self.graphdef, self.state, audio, padding)

    def logits(self, prompts: Sequence[str], texts: Sequence[str], audios: Sequence[Any]) -> Float[Array, "B S V"]:
        """Logits of BOS ‖ prompt ‖ text under teacher forcing.

        Example:
          logits = model.logits(["<AudioHere> Which species is it?"], ["barn owl"], [waveform])

        Args:
          prompts: user texts with their `<AudioHere>`; the chat template is applied here.
          texts: the answers.
          audios: per prompt an array f32[T] at 16 kHz or a list of them. Clips of different length are zero-padded to
            the longest with a true padding mask, as in the reference.

        Returns:
          f32[B, S, V], one example per row, padded on the right.

        Raises:
          UserError: no prompts, lists of different length, a clip that is not f32[T], placeholders that do not match.
        """
        batch = example_batch(self.tokenizer, self.config, prompts, texts, audios)
        return all_logits(self.graphdef, self.state, batch)

    def loss(self, prompts: Sequence[str], texts: Sequence[str], audios: Sequence[Any]) -> float:
        """Mean negative log-likelihood over the answer tokens of the whole batch, in evaluation mode.

        Example:
          loss = model.loss(["<AudioHere> Which species is it?"], ["barn owl"], [waveform])

        Arguments and errors are those of `logits`.
        """
        batch = example_batch(self.tokenizer, self.config, prompts, texts, audios)
        return float(mean_loss(self.graphdef, self.state, batch))

    def _run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Calls a function that takes a model, with this one."""
        model = (self.graphdef, self.state, self.config, self.tokenizer)
        return function(*model, *args, mesh=self.mesh, encodings=self.encodings, **options)
