"""Eight fake CPU devices, set before anything imports jax, and the shared data (skipped with a reason where absent)."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()

import jax  # noqa: E402
import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytest_configure(config):
    assert jax.device_count() == 8, "the tests need 8 fake CPU devices"


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
