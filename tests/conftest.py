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
from golden_set import GoldenSet, copy_small_set  # noqa: E402

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


SHARED = pathlib.Path(os.environ.get("NLM_SHARED", ROOT.parent / "shared"))
"""Folder with the larger golden set and the real corpus: $NLM_SHARED, else ../shared next to the project."""


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """`SHARED`; the test is skipped if it does not exist."""
    if not SHARED.is_dir():
        pytest.skip(f"shared data not found at {SHARED}; set NLM_SHARED to run this test")
    return SHARED


class SmallGoldenSet(type(pathlib.Path())):
    """tests/golden, in which `folder / name` skips the test if only the larger set has the file."""

    def __truediv__(self, name):
        path = super().__truediv__(name)
        if not path.exists():
            pytest.skip(f"{name} is in the larger golden set only, not found in {SHARED}; set NLM_SHARED")
        return path


@pytest.fixture(scope="session")
def golden(tmp_path_factory) -> pathlib.Path:
    """Arrays made by the official implementation: the larger set, or else a copy of the small one in tests/golden."""
    larger, copy = SHARED / "golden", tmp_path_factory.mktemp("small") / "golden"
    if larger.is_dir():
        return larger
    copy_small_set(copy)
    return SmallGoldenSet(copy)


class StoredArrays(dict):
    """Arrays of a golden file by name; one that only the larger set has skips the test."""

    def __missing__(self, name):
        pytest.skip(f"array {name} is in the larger golden set only, not found in {SHARED}; set NLM_SHARED")


@pytest.fixture(scope="session")
def golden_set(golden) -> GoldenSet:
    """The same folder, read as arrays."""
    return GoldenSet(golden)


@pytest.fixture(scope="session")
def arrays(golden, golden_set):
    """`arrays(file)`: name -> array of a golden npz."""
    return lambda file: StoredArrays(golden_set.arrays((golden / f"{file}.npz").stem))


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
