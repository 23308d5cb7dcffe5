"""Filter bank: batched and jitted on the device, compared with Kaldi's code clip by clip as the reference calls it.

python benchmarks/fbank.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from common import alternate, arguments, median, report
from peer import BINS, kaldi

from nlm_jax.audio.fbank import MEAN, STD, fbank, log_mel_energies, mel_filterbank


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    waves = rng.uniform(-0.3, 0.3, (args.clips, round(args.seconds * 16_000))).astype(np.float32)
    ours = jax.jit(fbank)
    same = (log_mel_energies(jnp.asarray(waves[:1]), mel_filterbank(BINS)) - MEAN) / (2 * STD)
    error = np.abs(np.asarray(same)[0] - kaldi(waves[0])[:, :BINS])
    sides = {
        "nlm_jax": lambda: ours(waves).block_until_ready(),
        "kaldi, clip by clip": lambda: [kaldi(wave) for wave in waves],
    }
    timings = alternate(sides, args.repeats)
    rates = {name: args.clips / median(times) for name, times in timings.items()}
    report("filter bank", rates, "clips/s", "kaldi, clip by clip", args.json,
           **{"clips": args.clips, "seconds": args.seconds, "largest difference": f"{error.max():.2g}"})  # fmt: skip


if __name__ == "__main__":
    main()
