"""Compiled programs outlive a run: the next one reads them."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from nlm_jax.core import compile_cache
from nlm_jax.core.compile_cache import keep_compiled
from nlm_jax.core.errors import UserError
from nlm_jax.train import loop


@pytest.fixture
def own_cache(cache):
    """Puts the cache of these tests back."""
    yield
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    compilation_cache.reset_cache()


def test_the_next_process_reads_what_this_one_compiled(own_cache, monkeypatch, tmp_path):
    hits = []
    jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
    monkeypatch.setattr(compile_cache, "SECONDS", 0.0)
    assert keep_compiled(str(tmp_path / "compiled"), "cpu") == str(tmp_path / "compiled")

    def function(x):
        return x * 3.25 + 1.5

    assert jax.jit(function)(jnp.ones(7))[0] == 4.75
    programs = {p.name for p in (tmp_path / "compiled").iterdir() if p.name.startswith("jit_function")}
    assert programs
    hits.clear()
    jax.clear_caches()
    assert jax.jit(function)(jnp.ones(7))[0] == 4.75
    assert "/jax/compilation_cache/cache_hits" in hits
    assert {p.name for p in (tmp_path / "compiled").iterdir() if p.name.startswith("jit_function")} == programs


def test_a_run_keeps_what_it_compiles(own_cache, config, monkeypatch, tmp_path):
    """The setting reaches jax before anything of the run is compiled."""
    requests = []

    def stop(*arguments):
        requests.append(arguments)
        raise UserError("stopped here")

    monkeypatch.setattr(loop, "keep_compiled", stop)
    with pytest.raises(UserError, match="stopped here"):
        loop.train(dataclasses.replace(config(), compile_cache="somewhere"), tmp_path / "run")
    assert requests == [("somewhere", "cpu")]


def test_folder_of_compiled_programs(own_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert keep_compiled("auto", "cpu") == ""
    assert keep_compiled("", "tpu") == ""
    assert keep_compiled("auto", "tpu") == str(tmp_path / "nlm_jax" / "compiled")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "nlm_jax" / "compiled")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    assert keep_compiled("auto", "tpu") == "/elsewhere"
