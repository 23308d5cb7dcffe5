"""The persistent compilation cache: a restarted job does not compile its programs again."""

import os
import pathlib

import jax
from jax.experimental.compilation_cache import compilation_cache

AUTO = "auto"
SECONDS = 1.0
"""Programs that compile faster than this are not cached."""


def keep_compiled(directory: str, platform: str) -> str:
    """Turns on the persistent compilation cache.

    Args:
      directory: a path or bucket URL; "" caches nothing; "auto" is `~/.cache/nlm_jax/compiled` (or below
        XDG_CACHE_HOME) on accelerators, where compiling is slow, and nothing on CPUs. JAX_COMPILATION_CACHE_DIR, which
        jax reads itself, takes precedence over "auto".
      platform: platform of the devices, such as "cpu" or "tpu".

    Returns:
      the directory in use, "" for none.
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
        compilation_cache.reset_cache()  # jax opens its cache once and would keep using an earlier directory
    return chosen
