"""Compiled programs outlive a run: the next one reads them."""

import dataclasses

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from nlm_jax.core.compile_cache import keep_compiled
from nlm_jax.train.loop import train


@pytest.fixture
def own_cache(cache):
    """Puts the cache of these tests back."""
    yield
    jax.config.update("jax_compilation_cache_dir", str(cache))
    compilation_cache.reset_cache()


def test_the_next_run_reads_what_this_one_compiled(own_cache, config, tmp_path):
    folder, hits = tmp_path / "compiled", []
    made = dataclasses.replace(config(steps=(2, 1)), compile_cache=str(folder))
    made = dataclasses.replace(made, stages=made.stages[:1])
    train(made, tmp_path / "first")
    kept = sorted(p.name for p in folder.iterdir() if p.name.startswith("jit_step"))
    assert kept
    jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
    jax.clear_caches()
    train(made, tmp_path / "second")
    assert "/jax/compilation_cache/cache_hits" in hits
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith("jit_step")) == kept


def test_where_compiled_programs_are_kept(own_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert keep_compiled("auto", "cpu") == ""
    assert keep_compiled("", "tpu") == ""
    assert keep_compiled("auto", "tpu") == str(tmp_path / "nlm_jax" / "compiled")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "nlm_jax" / "compiled")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    assert keep_compiled("auto", "tpu") == "/elsewhere"
