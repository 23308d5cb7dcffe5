"""Settings of `nlm demo`: for the synthetic corpus, for real recordings, and for tests."""

import pathlib

from nlm_jax.demo.encoder import EncoderConfig
from nlm_jax.demo.language import LanguageConfig
from nlm_jax.demo.run import DemoConfig
from nlm_jax.demo.scene import Sizes

DETECTION = "common-simple-detection"
TINY_SIZES = Sizes((3, 2), 2, (1, 1), (2, 2), (2, 1), (1, 1), (1, 1), species=3)
"""About 90 clips: three species, a few individuals of each, two speakers, every word and instrument."""


def synthetic(out: pathlib.Path, seed: int = 0) -> DemoConfig:
    """Settings for the synthetic corpus: about 2,900 clips, about 8 minutes on 2 cores."""
    return DemoConfig(out, seed=seed, language=LanguageConfig(weights={DETECTION: 8.0}), answers=160)


def real(out: pathlib.Path, corpus: pathlib.Path) -> DemoConfig:
    """Settings for real recordings with a manifest; `configs/real_small.py` has the stages."""
    return DemoConfig(
        out,
        corpus,
        language=LanguageConfig(vocabulary=768, row_tokens=384, rows=8),
        encoder=EncoderConfig(300),
    )


def tiny(out: pathlib.Path) -> DemoConfig:
    """Settings for tests: every step in seconds, without useful training."""

    language = LanguageConfig(
        vocabulary=300, width=32, layers=1, heads=2, kv_heads=2, mlp=32, steps=3, rows=4, row_tokens=256
    )
    return DemoConfig(
        out, sizes=TINY_SIZES, language=language, encoder=EncoderConfig(3, 8), answers=4, max_new_tokens=8
    )
