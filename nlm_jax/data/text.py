"""Text to token ids: tokenizers, the chat template, and one example's token sequence.

A sequence (as in the reference) is BOS, the template with the prompt, in which each <AudioHere> is replaced by the
vectors of its clip, and the answer with its end symbol. The text between placeholders is tokenized piece by piece,
without special tokens.
"""

import dataclasses
import functools
import hashlib
import importlib.resources
import json
import pathlib
from collections.abc import Iterable

import tokenizers

from nlm_jax.core.chat import CHAT_TEMPLATE, DEFAULT_END_SYM, DEFAULT_TEMPLATE
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import read_json
from nlm_jax.core.remote import local

PLACEHOLDER = "<AudioHere>"
CLIP_MARK = f"<Audio>{PLACEHOLDER}</Audio>"

PAD = "[PAD]"
CACHED_TEXTS = 4096
"""Texts whose ids are cached: templates, questions and names of species repeat."""
SPECIALS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
SPLIT_PATTERN = (  # how Llama 3 cuts text into words before the merges
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Tokenizer:
    """A fast Hugging Face tokenizer; [PAD] is appended if it is missing, as in the reference.

    Args:
      backend: of the `tokenizers` library.
      bos: token at the start of a sequence.
      eos: token at the end of an answer.
      chat_template: Jinja template to save with it; None = Llama 3's.

    Attributes:
      vocab_size: rows of the vocabulary that the model needs, [PAD] included.
      eos_ids: ids that end an answer.

    Raises:
      UserError: a special token is not in the vocabulary.
    """

    def __init__(self, backend: tokenizers.Tokenizer, *, bos: str, eos: str, chat_template: str | None = None):
        self._backend = backend
        self._backend.no_padding()
        self._backend.no_truncation()
        if backend.token_to_id(PAD) is None:
            backend.add_special_tokens([PAD])
        self._bos, self._eos, self._chat_template = bos, eos, chat_template
        self.bos_id: int = self._id_of(bos)
        self.pad_id: int = self._id_of(PAD)
        ends = [backend.token_to_id(t) for t in ("<|end_of_text|>", "<|eot_id|>", eos)]
        self.eos_ids: tuple[int, ...] = tuple(dict.fromkeys(i for i in ends if i is not None))
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        self._ids = functools.lru_cache(CACHED_TEXTS)(
            lambda text: tuple(backend.encode(text, add_special_tokens=False).ids)
        )

    def _id_of(self, token: str) -> int:
        token_id = self._backend.token_to_id(token)
        if token_id is None:
            raise UserError(f"tokenizer: the special token {token!r} is not in its vocabulary")
        return token_id

    def has(self, *tokens: str) -> bool:
        """Whether all of `tokens` are in the vocabulary."""
        return all(self._backend.token_to_id(token) is not None for token in tokens)

    @classmethod
    def from_pretrained(cls, name: str | pathlib.Path) -> "Tokenizer":
        """Tokenizer of a Hugging Face directory, of a Hub id, or the built-in one ("embedded", needs no network).

        Raises:
          UserError: not a directory with a tokenizer, and could not be downloaded from the Hub.
        """
        if str(name) == "embedded":
            return cls._from_files(embedded_directory())
        path = local(name)
        if (path / "tokenizer.json").is_file():
            return cls._from_files(path)
        return cls._from_hub(str(name), path.is_dir())

    @classmethod
    def _from_files(cls, path: pathlib.Path) -> "Tokenizer":
        try:
            backend = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
        except Exception as error:  # the library raises a bare Exception
            raise UserError(f"{path / 'tokenizer.json'}: not a readable tokenizer: {error}") from error
        named = {}
        for file in ("special_tokens_map.json", "tokenizer_config.json"):
            if (path / file).is_file():
                named |= read_json(path / file)
        text = {k: v["content"] if isinstance(v, dict) else v for k, v in named.items() if k.endswith("_token")}
        template = named.get("chat_template")
        if (path / "chat_template.jinja").is_file():
            template = (path / "chat_template.jinja").read_text(encoding="utf-8")
        bos, eos = text.get("bos_token") or SPECIALS[0], text.get("eos_token") or "<|eot_id|>"
        return cls(backend, bos=bos, eos=eos, chat_template=template)

    @classmethod
    def _from_hub(cls, name: str, is_directory: bool) -> "Tokenizer":
        import transformers  # takes seconds to import, and only a Hub id needs it

        try:
            slow_or_fast = transformers.AutoTokenizer.from_pretrained(name)
        except Exception as error:  # the library's own, the hub's, the network's and the file system's
            kind = (
                "the directory holds no tokenizer"
                if is_directory
                else "no such directory, and could not be downloaded from the Hub"
            )
            raise UserError(f"tokenizer {name}: {kind}; pass a Hugging Face directory or 'embedded'") from error
        backend = getattr(slow_or_fast, "backend_tokenizer", None)
        if backend is None:
            raise UserError(f"tokenizer {name}: has no fast version; convert it to a tokenizer.json first")
        return cls(
            backend,
            bos=slow_or_fast.bos_token or SPECIALS[0],
            eos=slow_or_fast.eos_token or "<|eot_id|>",
            chat_template=slow_or_fast.chat_template,
        )

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Byte-level BPE with the Llama-3 split pattern, trained on `texts`; deterministic.

        Args:
          texts: to train on.
          vocab_size: ordinary tokens, at least 256 (the bytes); special tokens follow them.

        Raises:
          UserError: `vocab_size` is below 256.
        """
        if vocab_size < 256:
            raise UserError(f"vocab_size={vocab_size}: a byte-level vocabulary starts at 256 tokens")
        backend = tokenizers.Tokenizer(tokenizers.models.BPE())
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
            [
                tokenizers.pre_tokenizers.Split(tokenizers.Regex(SPLIT_PATTERN), behavior="isolated"),
                tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        backend.add_special_tokens(list(SPECIALS))
        bos = SPECIALS[0]
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
        return cls(backend, bos=bos, eos="<|eot_id|>")

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes `directory` in the Hugging Face layout, with [PAD] and a chat template (transformers >= 4.44)."""
        path = pathlib.Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self._bos,
            "eos_token": self._eos,
            "pad_token": PAD,
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": 131072,
        }
        if self._chat_template or self.has(*SPECIALS):
            config["chat_template"] = self._chat_template or CHAT_TEMPLATE
        special = {key: config[key] for key in ("bos_token", "eos_token", "pad_token")}
        for file, content in (
            ("tokenizer.json", self._as_json()),
            ("tokenizer_config.json", config),
            ("special_tokens_map.json", special),
        ):
            text = json.dumps(content, ensure_ascii=False, indent=1)
            (path / file).write_text(text + "\n", encoding="utf-8")

    def _as_json(self) -> dict:
        content = json.loads(self._backend.to_str())
        merges = content["model"].get("merges")
        if merges and not isinstance(merges[0], str):
            # tokenizers before 0.20 (pinned by the official code) read merges as "left right" only
            content["model"]["merges"] = [" ".join(pair) for pair in merges]
        return content

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (first 16 hex digits) of everything that determines token ids; stored with token lengths."""
        text = json.dumps(self._as_json(), sort_keys=True) + self._bos
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def encode(self, text: str) -> list[int]:
        """Ids of `text`. No special token is added; those written in the text are recognised."""
        return list(self._ids(text))

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of `ids`; spaces are not cleaned up, and bytes that are not UTF-8 become U+FFFD."""
        return self._backend.decode([int(i) for i in ids], skip_special_tokens=skip_special)

    def __getstate__(self) -> dict:
        return {"json": self._backend.to_str(), "bos": self._bos, "eos": self._eos}

    def __setstate__(self, state: dict) -> None:
        self.__init__(tokenizers.Tokenizer.from_str(state["json"]), bos=state["bos"], eos=state["eos"])


def text_digest(tokenizer: Tokenizer, template: str, end_sym: str) -> str:
    """Digest of everything that token lengths depend on; lengths stored with another digest are counted again."""
    return hashlib.sha256("\0".join([tokenizer.digest, template, end_sym]).encode()).hexdigest()[:16]


def embedded_directory() -> pathlib.Path:
    """Directory of the built-in tokenizer (Hugging Face layout), written by `nlm_jax.prepare.embedded_tokenizer`."""
    return pathlib.Path(str(importlib.resources.files("nlm_jax.data") / "tokenizer"))


def normalize_query(query: str, n_clips: int) -> str:
    """User text with a placeholder per clip, in front if the text has none; outer white space is stripped.

    The reference looks for `<Audio><AudioHere></Audio> ` and would add a second placeholder to a bare `<AudioHere>`,
    which it then cannot fill; here any `<AudioHere>` counts.
    """
    if n_clips and PLACEHOLDER not in query:
        query = CLIP_MARK * n_clips + " " + query
    return query.strip()


def prompt_parts(tokenizer: Tokenizer, prompt: str, template: str = DEFAULT_TEMPLATE) -> list[list[int]]:
    """Token ids of the pieces around each <AudioHere> of the templated prompt: one more than there are clips.

    Raises:
      UserError: the template has no {} for the prompt.
    """
    if "{}" not in template:
        raise UserError(f"prompt_template {template!r}: must hold {{}} where the prompt goes")
    text = template.replace("{}", prompt, 1)
    return [tokenizer.encode(part) for part in text.split(PLACEHOLDER)]


def answer_tokens(tokenizer: Tokenizer, answer: str, end_sym: str, max_txt_len: int) -> list[int]:
    """Ids of the answer and the end symbol, truncated to `max_txt_len`: a long answer loses its end symbol."""
    return tokenizer.encode(answer + end_sym)[:max_txt_len]


@dataclasses.dataclass(frozen=True)
class Format:
    """How prompt, clips and answer become a token sequence; determined by the model's config."""

    vectors_per_clip: int
    """Q-Former vectors of one clip: windows times query tokens."""
    template: str = DEFAULT_TEMPLATE
    end_sym: str = DEFAULT_END_SYM
    max_txt_len: int = 160
    """Maximum tokens of an answer, end symbol included."""

    def sequence(self, tokenizer: Tokenizer, prompt: str, answer: str | None, n_clips: int) -> "TokenSequence":
        """`build_sequence` with these settings."""
        return build_sequence(
            tokenizer, prompt, answer, n_clips, self.vectors_per_clip, self.template, self.end_sym, self.max_txt_len
        )


@dataclasses.dataclass(frozen=True)
class TokenSequence:
    """Tokens of one example. `len()` is its length S."""

    tokens: list[int]
    """S ids; 0 at clip vectors."""
    audio_slot: list[int]
    """S entries: clip * vectors_per_clip + vector within the example, -1 = text."""
    n_clips: int
    answer_start: int
    """Index of the first answer token; the length if there is no answer."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_answers(self) -> int:
        """Answer tokens."""
        return len(self.tokens) - self.answer_start

    @property
    def size(self) -> tuple[int, int, int]:
        """Tokens, clips and answer tokens: what the sequence takes of a row."""
        return len(self.tokens), self.n_clips, self.n_answers


def build_sequence(
    tokenizer: Tokenizer,
    prompt: str,
    answer: str | None,
    n_clips: int,
    vectors_per_clip: int,
    template: str = DEFAULT_TEMPLATE,
    end_sym: str = DEFAULT_END_SYM,
    max_txt_len: int = 160,
) -> TokenSequence:
    """BOS, prompt with clip vectors, answer.

    Args:
      tokenizer: of the language model.
      prompt: user text with its placeholders (see `normalize_query`).
      answer: None for a prompt alone.
      n_clips: clips of the prompt.
      vectors_per_clip: as `Format`; so are `template`, `end_sym` and `max_txt_len`.

    Raises:
      UserError: the prompt does not hold exactly one <AudioHere> per clip.
    """
    parts = prompt_parts(tokenizer, prompt, template)
    if len(parts) != n_clips + 1:
        raise UserError(
            f"prompt {prompt[:80]!r}: {len(parts) - 1} {PLACEHOLDER} for {n_clips} audio clip(s); write one per clip"
        )
    tokens, slots = [tokenizer.bos_id, *parts[0]], [-1] * (len(parts[0]) + 1)
    for clip, part in enumerate(parts[1:]):
        tokens += [0] * vectors_per_clip + part
        slots += list(range(clip * vectors_per_clip, (clip + 1) * vectors_per_clip)) + [-1] * len(part)
    start = len(tokens)
    if answer is not None:
        ids = answer_tokens(tokenizer, answer, end_sym, max_txt_len)
        tokens, slots = tokens + ids, slots + [-1] * len(ids)
    return TokenSequence(tokens, slots, n_clips, start)
