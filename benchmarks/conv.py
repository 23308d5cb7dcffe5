"""BEATs' positional convolution on a CPU: in the frequency domain, as used here, against XLA's grouped convolution.

JAX_PLATFORMS=cpu python benchmarks/conv.py
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from common import alternate, arguments, median, report

from nlm_jax.models.beats import position


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=496)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--groups", type=int, default=16)
    parser.add_argument("--taps", type=int, default=128)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(args.clips, args.tokens, args.width)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(args.width, args.width // args.groups, args.taps)) * 0.01, jnp.float32)

    def gradients(convolve):
        run = jax.jit(jax.grad(lambda x, w: jnp.square(convolve(x, w)).sum(), argnums=(0, 1)))
        return lambda: jax.block_until_ready(run(x, w))

    sides = {
        "frequency domain": gradients(position.convolve_by_fft),
        "grouped convolution": gradients(functools.partial(position.convolve, groups=args.groups)),
    }
    timings = alternate(sides, args.repeats)
    rates = {name: args.clips / median(times) for name, times in timings.items()}
    report("positional convolution, forward and backward", rates, "clips/s", "grouped convolution", args.json,
           clips=args.clips, width=args.width)  # fmt: skip


if __name__ == "__main__":
    main()
