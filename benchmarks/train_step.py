"""Training step: compared with PyTorch and published components, on the same examples and device in one run.

    python benchmarks/train_step.py                      # CPU: BEATs at full size, a small Llama, float32
    python benchmarks/train_step.py --size=8b --clips=64 # a GPU with 80 GB or more: 8B, bfloat16
    python benchmarks/train_step.py --size=tiny          # seconds: what the tests run

Clips and answers are random, of the lengths of the real mix. Our batch is packed, the peer's is padded to its longest
example; both compute the loss, all gradients of stage 2, clip them and take an AdamW step. The peer computes in
bfloat16 under autocast, as that stack trains; if nlm_jax computes in float32, as on CPUs, a second peer does too.
"""

import dataclasses

import jax
import numpy as np
from common import alternate, arguments, median, report
from jax.sharding import Mesh

from nlm_jax.core.batch import Batch
from nlm_jax.mesh.build import make_mesh
from nlm_jax.mesh.rules import rules
from nlm_jax.mesh.sharding import place_batch
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.presets import preset
from nlm_jax.nn.linear import LoraConfig
from nlm_jax.train.config import ModelSetup, Stage, TrainConfig
from nlm_jax.train.flops import forward_flops, peak_flops
from nlm_jax.train.program import make_program

SECONDS = {"tiny": 1.0, "small": 10.0, "8b": 10.0}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One example: what is before the clip's vectors, after them, and the answer."""

    audio: np.ndarray
    before: np.ndarray
    after: np.ndarray
    answer: np.ndarray


def model(size: str, attention: str, remat: str) -> NatureLMConfig:
    """Sizes by name. No dropout and no layerdrop: both sides then do the same work every step."""
    cfg = preset("tiny") if size == "tiny" else preset("llama-3.1-8b")
    if size == "small":
        small = dataclasses.replace(
            cfg.llama, vocab=2000, width=256, layers=4, heads=8, kv_heads=4, head_dim=32, mlp=688
        )
        cfg = dataclasses.replace(cfg, llama=small)
    lora = LoraConfig(32, 32.0, 0.0)
    return dataclasses.replace(
        cfg,
        beats=dataclasses.replace(cfg.beats, layerdrop=0.0, predictor_classes=None),
        qformer=dataclasses.replace(cfg.qformer, dropout=0.0),
        llama=dataclasses.replace(cfg.llama, lora=lora, rope_scaling=None),
        compute_dtype="bfloat16" if size == "8b" else "float32",
        attention=attention,
        remat=remat,
    )


def samples(count: int, cfg: NatureLMConfig, seconds: float, seed: int = 0) -> list[Sample]:
    """Lengths like the real mix's: 87 tokens in the mean, a sixth of them answer."""
    rng, vectors = np.random.default_rng(seed), cfg.qformer.vectors(round(seconds * 16_000))
    result = []
    for _ in range(count):
        prompt = int(np.clip(rng.normal(72 - min(vectors, 31), 12), 12, None))
        answer = int(np.clip(rng.gamma(1.6, 9), 2, 60))
        ids = rng.integers(1, cfg.llama.vocab - 1, prompt + answer).astype(np.int32)
        wave = rng.uniform(-0.3, 0.3, round(seconds * 16_000)).astype(np.float32)
        result.append(Sample(wave, ids[:8], ids[8:prompt], ids[prompt:]))
    return result


def packed(examples: list[Sample], cfg: NatureLMConfig, row_tokens: int) -> Batch:
    """Whole examples in as few rows as they need, first fit by decreasing length."""
    vectors = cfg.qformer.vectors(len(examples[0].audio))
    length = lambda e: len(e.before) + vectors + len(e.after) + len(e.answer)  # noqa: E731
    rows: list[list[Sample]] = []
    for example in sorted(examples, key=length, reverse=True):
        row = next((r for r in rows if sum(map(length, r)) + length(example) <= row_tokens), None)
        rows.append([example]) if row is None else row.append(example)
    clips = max(map(len, rows))
    answers = max(sum(len(e.answer) for e in row) for row in rows)
    b, samples_ = len(rows), len(examples[0].audio)
    out = {name: np.zeros((b, row_tokens), np.int32) for name in ("tokens", "positions", "segments")}
    out["audio_slot"] = np.full((b, row_tokens), -1, np.int32)
    out |= {name: np.zeros((b, answers), np.int32) for name in ("answer_index", "targets", "answer_segment")}
    out["weights"] = np.zeros((b, answers), np.float32)
    out["audio"] = np.zeros((b, clips, samples_), np.float32)
    out["audio_length"] = np.full((b, clips), samples_, np.int32)
    for i, row in enumerate(rows):
        at = filled = 0
        for j, e in enumerate(row):
            first, n = at + len(e.before), length(e)
            out["audio"][i, j] = e.audio
            out["tokens"][i, at : at + n] = np.concatenate([e.before, np.zeros(vectors, np.int32), e.after, e.answer])
            out["positions"][i, at : at + n], out["segments"][i, at : at + n] = np.arange(n), j + 1
            out["audio_slot"][i, first : first + vectors] = j * vectors + np.arange(vectors)
            span = slice(filled, filled + len(e.answer))
            out["answer_index"][i, span] = at + n - len(e.answer) - 1 + np.arange(len(e.answer))
            out["targets"][i, span], out["weights"][i, span], out["answer_segment"][i, span] = e.answer, 1.0, j + 1
            at, filled = at + n, filled + len(e.answer)
    return Batch(**out)


def ours(cfg: NatureLMConfig, examples: list[Sample], row_tokens: int, mesh: Mesh):
    """A call that takes one step, and the share of positions that are not padding."""
    batch = packed(examples, cfg, row_tokens)
    setup = ModelSetup(compute_dtype=cfg.compute_dtype, base_dtype=cfg.compute_dtype)
    stage = Stage(steps=1000)
    stage = dataclasses.replace(stage, data=dataclasses.replace(stage.data, rows=batch.rows))
    program = make_program(TrainConfig((stage,), model=setup), stage, cfg, mesh, rules("default"))
    with jax.set_mesh(mesh):
        state = [program.start({})]  # replaced by every step, which donates its argument
        placed = place_batch(batch, mesh)

    def step():
        with jax.set_mesh(mesh):
            state[0], metrics = program.step(state[0], placed)
            return float(metrics["loss_sum"] / metrics["weight"])

    return step, float((batch.segments > 0).mean())


def theirs(cfg: NatureLMConfig, examples: list[Sample], half: bool):
    """The step of the peer, in bfloat16 if `half`."""
    import torch
    from peer import IGNORED, Peer, kaldi

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    peer = Peer(cfg, torch.bfloat16 if half else torch.float32).to(device).train()
    trained = [p for p in peer.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.05)
    vectors = cfg.qformer.vectors(len(examples[0].audio))
    longest = max(len(e.before) + vectors + len(e.after) + len(e.answer) for e in examples)
    ids = np.zeros((len(examples), longest), np.int64)
    labels, mask = np.full(ids.shape, IGNORED), np.zeros(ids.shape, np.int64)
    for i, e in enumerate(examples):
        row = np.concatenate([e.before, np.zeros(vectors, np.int32), e.after, e.answer])
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
        labels[i, len(row) - len(e.answer) : len(row)] = e.answer
    ids, labels, mask = (torch.as_tensor(x, device=device) for x in (ids, labels, mask))
    starts = [len(e.before) for e in examples]

    def step():
        mel = torch.as_tensor(np.stack([kaldi(e.audio) for e in examples]), device=device)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = peer(mel, ids, starts, labels, mask)
        adamw.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adamw.step()
        return loss.item()

    return step, float(mask.float().mean())


def ceiling() -> float | None:
    """FLOP/s of a large bfloat16 product on the accelerator, None on CPUs."""
    if jax.default_backend() == "cpu":
        return None
    n = 8192
    a = jax.numpy.ones((n, n), jax.numpy.bfloat16)
    product = jax.jit(lambda a: a @ a)
    seconds = alternate({"": lambda: product(a).block_until_ready()}, 20)[""]
    return 2 * n**3 / min(seconds)


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SECONDS, default="small")
    parser.add_argument("--clips", type=int, default=4, help="clips per step")
    parser.add_argument(
        "--row-tokens", type=int, default=0, help="length of a packed row (default: a row for them all)"
    )
    parser.add_argument("--attention", default="xla", help="of our language model: xla, cudnn")
    parser.add_argument("--remat", default="none", help="our policy, see nn/stack.py")
    parser.add_argument("--alone", action="store_true", help="nlm_jax only: for profiles, or without torch")
    args = parser.parse_args(argv)

    cfg, seconds = model(args.size, args.attention, args.remat), SECONDS[args.size]
    examples = samples(args.clips, cfg, seconds)
    vectors = cfg.qformer.vectors(round(seconds * 16_000))
    lengths = [len(e.before) + vectors + len(e.after) + len(e.answer) for e in examples]
    row = args.row_tokens or -(-sum(lengths) // 64) * 64
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    step, useful = ours(cfg, examples, row, mesh)
    sides = {"nlm_jax": step}
    facts = {"size": args.size, "clips a step": args.clips, "useful positions, nlm_jax": f"{useful:.0%}"}
    if not args.alone:
        sides["pytorch, bfloat16"], full = theirs(cfg, examples, True)
        if cfg.compute_dtype == "float32":
            sides["pytorch, float32"], _ = theirs(cfg, examples, False)
        facts["useful positions, pytorch"] = f"{full:.0%}"
    facts["loss of the first step"] = {name: side() for name, side in sides.items()}
    step_times = alternate(sides, args.repeats)
    rates = {name: args.clips / median(times) for name, times in step_times.items()}
    facts |= {f"seconds a step, {name}": ", ".join(f"{t:.2f}" for t in times) for name, times in step_times.items()}
    per = forward_flops(cfg, len(examples[0].audio), round(np.mean(lengths)))
    answers = sum(len(e.answer) for e in examples)
    flops = per.training(Stage().train, args.clips, sum(lengths), answers)
    facts["model FLOPs a step (computed)"] = f"{flops:.3g}"
    facts["model FLOP/s, nlm_jax"] = f"{flops * rates['nlm_jax'] / args.clips:.3g}"
    if best := ceiling():
        facts["share of a measured matrix product"] = f"{flops * rates['nlm_jax'] / args.clips / best:.1%}"
        facts["share of the data sheet"] = (
            f"{flops * rates['nlm_jax'] / args.clips / peak_flops(jax.devices()[:1]):.1%}"
        )
    if "pytorch, float32" in rates:
        facts["ratio to pytorch, float32"] = f"{rates['nlm_jax'] / rates['pytorch, float32']:.2f}"
    report("training step", rates, "clips/s", list(rates)[min(1, len(rates) - 1)], args.json, **facts)


if __name__ == "__main__":
    main()
