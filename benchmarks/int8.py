"""Loss of an int8 base compared with float32: symmetric scales per output channel, those of qwix, and bfloat16.

    python benchmarks/int8.py --model demo_out/stage2 --data demo_out/corpus/valid.jsonl

Needs a model that was trained and questions it can answer: the loss of random weights is meaningless. Peer: qwix
(pip install qwix), per output channel and in tiles of the inputs. The products are taken in float32 with the weights
that the integers represent, so that only the rounding of the weights differs.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np

from nlm_jax import NatureLM
from nlm_jax.audio import wave
from nlm_jax.nn.int8 import KERNEL, dequantize, quantize
from nlm_jax.prepare.readers import registry

BASE = "llama/layers/"


def ours(kernel: jax.Array) -> jax.Array:
    return dequantize(*quantize(kernel))


def qwix_way(tile: int | None) -> Callable[[jax.Array], jax.Array]:
    """qwix's absmax rounding with a scale for each output channel, or for each `tile` inputs of it."""
    import qwix

    def way(kernel: jax.Array) -> jax.Array:
        tiles = {1: tile} if tile else None
        quantized = qwix.quantize(kernel.astype(jnp.float32), jnp.int8, channelwise_axes=(0, 2), tiled_axes=tiles)
        return qwix.dequantize(quantized)

    return way


def rounded(model: NatureLM, way: Callable[[jax.Array], jax.Array]) -> NatureLM:
    """`model` with the frozen products of its language model's layers through `way`."""
    leaves = {
        path: way(jnp.asarray(leaf)) if path.startswith(BASE) and path.endswith(KERNEL) else leaf
        for path, leaf in model.checkpoint.leaves.items()
    }
    return NatureLM(dataclasses.replace(model.checkpoint, leaves=leaves), model.tokenizer)


def losses(model: NatureLM, examples: list[Any], root: pathlib.Path, seconds: float, batch: int) -> np.ndarray:
    """Mean negative log-likelihood of each batch's answers, f64[N / batch]."""
    values = []
    for i in range(0, len(examples), batch):
        part = examples[i : i + batch]
        sounds = [[wave.fit(wave.load(root / e.paths[0], seconds=seconds), round(seconds * 16_000))] for e in part]
        prompts = [f"<Audio><AudioHere></Audio> {e.prompt}" for e in part]
        values.append(model.loss(prompts, [e.text for e in part], sounds))
    return np.array(values)


def main(argv: list[str] | None = None) -> None:
    """Prints the loss of each way and its difference to float32."""
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a trained model that NatureLM.from_pretrained takes")
    parser.add_argument("--data", required=True, type=pathlib.Path, help="questions (official JSONL or a manifest)")
    parser.add_argument("--split", default="valid")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2.0, help="that each clip is cut or padded to")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tile", type=int, default=32, help="inputs that share a scale in qwix's tiled form")
    args = parser.parse_args(argv)
    candidates = [e for e in registry.read(args.data, split=args.split) if len(e.paths) == 1]
    examples = candidates[:: max(1, len(candidates) // args.examples)][: args.examples]
    model = NatureLM.from_pretrained(args.model, dtype="float32")
    ways = {
        "float32": lambda kernel: kernel.astype(jnp.float32),
        "bfloat16": lambda kernel: kernel.astype(jnp.bfloat16).astype(jnp.float32),
        "nlm_jax int8": ours,
        "qwix int8": qwix_way(None),
        f"qwix int8, tiles of {args.tile}": qwix_way(args.tile),
    }
    measured = {name: losses(rounded(model, way), examples, args.data.parent, args.seconds, args.batch)
             for name, way in ways.items()}  # fmt: skip
    exact = measured["float32"]
    facts = {f"loss minus float32's, {name}": f"{(loss - exact).mean():+.6f}" for name, loss in measured.items()}
    # Likelihood of an answer token, so that higher is better as in the other benchmarks.
    rates = {name: float(np.exp(-loss.mean())) for name, loss in measured.items()}
    common.report(f"int8 base, {len(examples)} answers", rates, "mean likelihood of a token", "float32",
                  args.json, loss=f"{exact.mean():.6f}", **facts)  # fmt: skip


if __name__ == "__main__":
    main()
