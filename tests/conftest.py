"""Eight fake CPU devices, set before anything imports jax, and the shared data (skipped with a reason where absent)."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is most of what the suite does, and models this small gain nothing from an optimised program.
for flag in ("--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0"):
    flags = os.environ.get("XLA_FLAGS", "")
    if flag.partition("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()
# Nothing in the suite may reach for a hub; a name that is not a directory must fail at once.
os.environ["HF_HUB_OFFLINE"] = "1"

import jax  # noqa: E402
import pytest  # noqa: E402

pytest_plugins = ["corpus_fixtures"]
ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytest_configure(config):
    if jax.default_backend() == "cpu":
        assert jax.device_count() == 8, "the tests need 8 fake CPU devices"


LONG = ("multihost", "resume", "demo", "plan", "oracle", "sharding", "benchmarks", "docs")
"""Folders that take longest: begun first, so that no worker is left alone with one of them at the end."""


def pytest_collection_modifyitems(items):
    folders = {item: item.path.parent.name for item in items}
    items.sort(key=lambda item: LONG.index(folders[item]) if folders[item] in LONG else len(LONG))
    backend = jax.default_backend()
    for item in items:
        for needed in ("gpu", "tpu"):
            if needed in item.keywords and backend != needed:
                item.add_marker(pytest.mark.skip(reason=f"needs a {needed.upper()}; jax runs on {backend}"))


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Folder with golden arrays and the real corpus: $NLM_SHARED, else ../shared beside the project."""
    path = pathlib.Path(os.environ.get("NLM_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"shared data not found at {path}; set NLM_SHARED to run this test")
    return path


@pytest.fixture(scope="session")
def golden(shared) -> pathlib.Path:
    """Arrays made by the official implementation; golden/README.md there explains each."""
    return shared / "golden"


@pytest.fixture
def nlm(capsys):
    """Runs `nlm ...` in this process; returns (exit status, stdout, stderr)."""
    from nlm_jax import cli

    def run(*argv) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main([str(a) for a in argv])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
