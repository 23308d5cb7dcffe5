"""Compiled programs kept between runs: a restarted job starts stepping at once."""

import os
import pathlib

import jax
from jax.experimental.compilation_cache import compilation_cache

AUTO = "auto"
SECONDS = 1.0
"""What compiled faster than this is not worth a file."""


def keep_compiled(directory: str, platform: str) -> str:
    """Keeps compiled programs under `directory`; the place chosen, "" for none.

    Args:
      directory: a path, a bucket's too; "" keeps nothing; "auto" is `~/.cache/nlm_jax/compiled` (or below
        XDG_CACHE_HOME) where compiling is slow, on accelerators, and nothing on CPUs. JAX_COMPILATION_CACHE_DIR, which
        jax reads itself, goes before "auto".
      platform: of the devices.
    """
    chosen = directory
    if directory == AUTO:
        if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
            return os.environ["JAX_COMPILATION_CACHE_DIR"]
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
        chosen = "" if platform == "cpu" else str(cache / "nlm_jax" / "compiled")
    if chosen:
        jax.config.update("jax_compilation_cache_dir", chosen)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS)
        compilation_cache.reset_cache()  # jax opens its cache once and would go on with an earlier directory
    return chosen
