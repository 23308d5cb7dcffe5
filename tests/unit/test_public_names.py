"""The public face: what the packages name, that it costs nothing until it is used, and what it is."""

import importlib
import pathlib
import subprocess
import sys

import pytest

import nlm_jax

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("nlm_jax", "nlm_jax.models", "nlm_jax.data", "nlm_jax.generate", "nlm_jax.train")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package):
    module = importlib.import_module(package)
    assert list(module.__all__) == list(dict.fromkeys(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert package == "nlm_jax" or getattr(module, name).__name__ == name
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing
    with pytest.raises(ImportError, match="nothing"):
        exec(f"from {package} import nothing", {})


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_a_face_is_short(package):
    path = ROOT.joinpath(*package.split("."), "__init__.py")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 12


def test_packages_are_there_after_one_import():
    """`import nlm_jax` is enough for `nlm_jax.train.train` and its like, and loads neither jax nor numpy itself."""
    code = """
import sys, nlm_jax, nlm_jax.models, nlm_jax.data, nlm_jax.generate, nlm_jax.train
assert not {'jax', 'numpy', 'grain'} & set(sys.modules), 'importing a package costs something'
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    code = "import nlm_jax; print(nlm_jax.train.train.__module__, nlm_jax.models.Beats.__module__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["nlm_jax.train.loop", "nlm_jax.parts.beats"], done.stderr


def test_names_are_those_of_their_modules():
    from nlm_jax.data.pipeline import train_set
    from nlm_jax.generate.api import NatureLM
    from nlm_jax.generate.options import GenerationOptions
    from nlm_jax.models import NatureLMModel
    from nlm_jax.train.config import TrainConfig
    from nlm_jax.train.loop import train

    assert (nlm_jax.NatureLM, nlm_jax.TrainConfig, nlm_jax.train_set) == (NatureLM, TrainConfig, train_set)
    assert nlm_jax.GenerationOptions is nlm_jax.generate.GenerationOptions is GenerationOptions
    assert nlm_jax.train.train is train
    assert nlm_jax.data.train_set is train_set
    assert NatureLMModel is not NatureLM
    assert isinstance(nlm_jax.UserError("x"), ValueError)
