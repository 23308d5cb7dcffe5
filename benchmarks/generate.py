"""Answers per second: compared with the `generate` loop of transformers on the exported model, in one run.

    python benchmarks/generate.py                 # CPU: a language model 100 times its encoder, as the 8B one is
    python benchmarks/generate.py --size=8b       # a GPU with 80 GB or more: 8B, bfloat16
    python benchmarks/generate.py --size=tiny     # seconds: what the tests run

Random weights and clips; our weights are exported ("llama-merged") and loaded by transformers, published parts hear the
clips there (peer.py). Both sides start from waveforms and prompts and make the same number of tokens for each question:

- mixed: answers as long as those of BEANS-Zero (mean 11 tokens, 5% above 36, none above 235). A batch of transformers
  continues until its longest answer is done; here a finished row is given to the next question.
- equal: every answer has --tokens tokens, so that nothing but the loop itself is compared.
- several: eight questions about each clip, one clip after the other, answers as long as in mixed. Ours knows a clip by
  its content and encodes it once in each measurement; transformers has no such cache, and the peer encodes the clip
  of every question, eight times the same. Prompts are computed for each question on both sides.

In mixed and equal every question has a clip of its own, which both sides encode once. The cache of encoded clips is
cleared before each measurement. Before, one batch is decoded by both from the same
vectors and the ids are compared.
"""

import copy
import dataclasses
import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from common import alternate, arguments, median, report

from nlm_jax import NatureLM
from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.formats import save
from nlm_jax.convert.leaves import abstract
from nlm_jax.data.text import Tokenizer, embedded_directory
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.audio_inputs import Clip
from nlm_jax.generate.prompts import Prompt, prompt
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.presets import preset

SECONDS = {"tiny": 1.0, "small": 10.0, "8b": 10.0}
QUERIES = (
    "What is the common name for the focal species in the audio?",
    "Which of these, if any, are present in the audio recording? Eastern Whip-poor-will, Barred Owl, Spring Peeper",
    "Caption the audio.",
    "How many individuals call, and what do they do?",
)
ABOUT_ONE = (
    *QUERIES,
    "What is the scientific name for the focal species in the audio?",
    "Which call type is heard in the audio?",
    "What is the life stage of the focal species in the audio?",
    "Is there a bird in the audio? Answer Yes or No.",
)
"""Questions about each clip of the kind "several"."""


def config(size: str) -> NatureLMConfig:
    """Sizes by name, without an adapter: the export has it merged."""
    cfg = preset("llama-3.1-8b" if size == "8b" else "tiny")
    llama = dataclasses.replace(cfg.llama, lora=None, rope_scaling=None)
    if size == "tiny":
        llama = dataclasses.replace(llama, vocab=Tokenizer.from_pretrained("embedded").vocab_size)
    if size == "small":
        llama = dataclasses.replace(llama, vocab=8001, width=384, layers=6, heads=6, kv_heads=3, head_dim=64, mlp=1024)
    return dataclasses.replace(cfg, llama=llama, compute_dtype="bfloat16" if size == "8b" else "float32")


def random_model(cfg: NatureLMConfig) -> NatureLM:
    """A model of random weights at about the scale of a trained one."""
    base_dtype = np.dtype(ml_dtypes.bfloat16 if cfg.compute_dtype == "bfloat16" else np.float32)
    noise, leaves = np.random.default_rng(0).normal(size=1 << 20).astype(np.float32), {}
    for i, (path, leaf) in enumerate(abstract(cfg).items()):
        last = path.rsplit("/", 1)[-1]
        scale = 0.02 if last in ("bias", "embedding") else leaf.shape[max(0, leaf.ndim - 2)] ** -0.5
        values = np.resize(np.roll(noise, 7919 * i), leaf.shape)
        norm = last in ("scale", "weight_g", "grep_a")
        values = (1 + 0.1 * values if norm else scale * values).astype(
            base_dtype if path.startswith("llama/") else np.float32
        )
        leaves[path] = jnp.asarray(values)
    tokenizer = Tokenizer.from_pretrained("embedded")
    return NatureLM(Checkpoint(cfg, leaves, tokenizer=embedded_directory()), tokenizer)


def prompts_of(model: NatureLM, clips: list[np.ndarray], queries: list[str]) -> list[Prompt]:
    """The prompt of each query about its clip."""
    return [prompt(model.tokenizer, [Clip.of(c)], q, model.config) for c, q in zip(clips, queries, strict=True)]


def lengths(count: int, seed: int = 0) -> list[int]:
    """Tokens of answers as BEANS-Zero has them: log-normal with mean 11 and 95th percentile 36, at most 235."""
    drawn = np.random.default_rng(seed).lognormal(1.83, 1.066, count)
    return np.clip(np.round(drawn), 1, 235).astype(int).tolist()


class Ours:
    """Generation with this package."""

    def __init__(self, model: NatureLM, clips: list[np.ndarray], queries: list[str], batch: int, beams: int):
        self.model, self.clips, self.queries, self.batch, self.beams = model, clips, queries, batch, beams

    def __call__(self, tokens: list[int], number: int | None = None) -> list[list[int]]:
        self.model.encodings = Encodings()
        return self.model.generate(
            self.clips[:number],
            self.queries[:number],
            tokens,
            self.beams,
            min_length=tokens,
            batch_size=self.batch,
            return_ids=True,
        )


class Theirs:
    """Generation with the exported language model in transformers, after the peer's audio tower."""

    def __init__(self, model: NatureLM, folder: pathlib.Path, clips, prompts: list[Prompt], batch: int, beams: int):
        import torch
        import transformers
        from peer import AudioTower, kaldi

        save(model.checkpoint, folder, "llama-merged")
        torch.manual_seed(0)
        self.device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
        self.dtype = torch.bfloat16 if model.config.compute_dtype == "bfloat16" else torch.float32
        self.llama = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=self.dtype).to(self.device).eval()
        self.audio_tower = AudioTower(model.config).to(self.device).eval()
        self.clips, self.prompts, self.batch, self.beams = clips, prompts, batch, beams
        self.torch, self.kaldi, self.ends = torch, kaldi, list(model.tokenizer.eos_ids)
        self.pad = model.tokenizer.pad_id

    def about(self, clips, prompts: list[Prompt]) -> "Theirs":
        """The same models with other clips and prompts."""
        other = copy.copy(self)
        other.clips, other.prompts = clips, prompts
        return other

    def __call__(self, tokens: list[int]) -> None:
        for start in range(0, len(self.prompts), self.batch):
            part = slice(start, start + self.batch)
            mel = self.torch.as_tensor(np.stack([self.kaldi(c) for c in self.clips[part]]), device=self.device)
            with (
                self.torch.inference_mode(),
                self.torch.autocast(self.device, self.torch.bfloat16, enabled=self.dtype == self.torch.bfloat16),
            ):
                self.decode(self.prompts[part], self.audio_tower(mel), max(tokens[part]))

    def decode(self, prompts: list[Prompt], vectors, tokens: int) -> list[list[int]]:
        """Ids of one batch, prompts padded on the left; a batch continues until its longest answer is done."""
        torch, longest = self.torch, max(map(len, prompts))
        rows, masks = [], []
        for p, clip_vectors in zip(prompts, vectors, strict=True):
            row = self.llama.get_input_embeddings()(torch.as_tensor(p.tokens, dtype=torch.long, device=self.device))
            here = p.audio_slot >= 0  # the peer fills up a last window that ours leaves out
            row[torch.as_tensor(here, device=self.device)] = clip_vectors[: here.sum()].to(row.dtype)
            rows.append(torch.nn.functional.pad(row, (0, 0, longest - len(p), 0)))
            masks.append([0] * (longest - len(p)) + [1] * len(p))
        ids = self.llama.generate(
            inputs_embeds=torch.stack(rows),
            attention_mask=torch.tensor(masks, device=self.device),
            num_beams=self.beams,
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            eos_token_id=self.ends,
            pad_token_id=self.pad,
        )
        return ids.tolist()


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SECONDS, default="small")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16, help="questions decoded together, on both sides")
    parser.add_argument("--beams", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=16, help="tokens of every answer of the equal kind")
    parser.add_argument("--longest", type=int, default=235, help="maximum tokens of the mixed kind")
    args = parser.parse_args(argv)

    cfg, samples = config(args.size), round(SECONDS[args.size] * 16_000)
    model, rng = random_model(cfg), np.random.default_rng(1)
    clips = [rng.uniform(-0.3, 0.3, samples).astype(np.float32) for _ in range(args.questions)]
    queries = [QUERIES[i % len(QUERIES)] for i in range(args.questions)]
    prompts = prompts_of(model, clips, queries)
    mixed = np.minimum(lengths(args.questions), args.longest).tolist()
    equal = [args.tokens] * args.questions
    ours = Ours(model, clips, queries, args.batch, args.beams)
    with tempfile.TemporaryDirectory() as folder:
        theirs = Theirs(model, pathlib.Path(folder), clips, prompts, args.batch, args.beams)
    first = slice(0, args.batch)
    with theirs.torch.inference_mode():
        vectors = theirs.torch.tensor(np.asarray(model.encode_audio(np.stack(clips[first]))), device=theirs.device)
        same = theirs.decode(prompts[first], vectors, args.tokens)
    agree = np.mean([a == b for a, b in zip(ours(equal[first], args.batch), same, strict=True)])
    facts = {
        "size": args.size,
        "questions, batch, beams": f"{args.questions}, {args.batch}, {args.beams}",
        "tokens of an answer, mixed": f"mean {np.mean(mixed):.1f}, most {max(mixed)}",
        "answers with equal ids from equal vectors": f"{agree:.0%}",
    }
    sides = {}
    one = [clips[i // len(ABOUT_ONE)] for i in range(args.questions)]
    about_one = [ABOUT_ONE[i % len(ABOUT_ONE)] for i in range(args.questions)]
    again = (Ours(model, one, about_one, args.batch, args.beams), theirs.about(one, prompts_of(model, one, about_one)))
    for kind, tokens, pair in (
        ("mixed", mixed, (ours, theirs)),
        ("equal", equal, (ours, theirs)),
        ("several", mixed, again),
    ):
        for name, side in zip(("nlm_jax", "transformers"), pair, strict=True):
            sides[f"{name}, {kind}"] = functools.partial(side, tokens)
    timings = alternate(sides, args.repeats)
    rates = {name: args.questions / median(times) for name, times in timings.items()}
    facts |= {f"seconds, {name}": ", ".join(f"{t:.2f}" for t in times) for name, times in timings.items()}
    for kind in ("mixed", "equal", "several"):
        facts[f"ratio, {kind}"] = f"{rates[f'nlm_jax, {kind}'] / rates[f'transformers, {kind}']:.2f}"
    report("generation", rates, "answers/s", "transformers, mixed", args.json, **facts)


if __name__ == "__main__":
    main()
