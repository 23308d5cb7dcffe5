"""Who may import whom, what the plain installation must suffice for, and that every dependency is declared."""

import ast
import graphlib
import pathlib
import re
import runpy
import subprocess
import sys

import pytest
import setuptools

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nlm_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

BELOW_DATA = {"core", "audio", "page"}
BELOW_MODELS = BELOW_DATA | {"mesh", "nn"}
BELOW_GENERATE = BELOW_MODELS | {"models", "data", "convert"}
BELOW_TRAIN = BELOW_GENERATE | {"generate", "prepare"}
BELOW_CLI = BELOW_TRAIN | {"train", "evaluate"}
MAY_IMPORT = {
    "core": set(),
    "mesh": {"core"},
    "nn": {"core", "mesh"},
    "audio": {"core"},
    "page": {"core", "audio"},
    "data": BELOW_DATA,
    "prepare": BELOW_DATA | {"data"},
    "describe": BELOW_DATA | {"data", "prepare"},
    "models": BELOW_MODELS,
    "convert": BELOW_MODELS | {"models", "data"},
    "generate": BELOW_GENERATE,
    "parts": BELOW_TRAIN,
    # Public names only, imported when they are used (core/lazy.py): what users look for here is loaded by `parts`.
    "models/__init__": BELOW_TRAIN | {"parts"},
    "train": BELOW_TRAIN,
    "evaluate": BELOW_TRAIN | {"train"},
    "plan": BELOW_TRAIN | {"train"},
    "serve": BELOW_TRAIN,
    "demo": BELOW_CLI | {"testing"},
    "testing": BELOW_CLI,
    "cli": BELOW_CLI | {"describe", "testing", "demo", "plan", "serve"},
    "__init__": BELOW_TRAIN | {"train"},  # in fact only the lazy names of the public surface
}
SERVER = {f"nlm_jax.serve.{name}" for name in ("app", "contract", "request_body", "metrics", "server", "stream")}
"""What only loads with the extra [serve]; `nlm serve` says so."""
# Distributions whose import name differs.
IMPORT_NAME = {
    "absl-py": "absl",
    "orbax-checkpoint": "orbax",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}


def part_of(path: pathlib.Path) -> str:
    """The house a file belongs to: its first folder below nlm_jax, or its own name."""
    relative = path.relative_to(PACKAGE)
    if str(relative.with_suffix("")) in MAY_IMPORT:
        return str(relative.with_suffix(""))
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path: pathlib.Path) -> list[str]:
    """Dotted names of every import in a file, wherever it stands (lazy ones count, also those of `core.lazy`)."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ["nlm_jax", *path.relative_to(PACKAGE).parts[:-1]]
                base = ".".join(package[: len(package) - node.level + 1] + ([base] if base else []))
            names += [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Dict) and path.name == "__init__.py":  # public name -> module, of `core.lazy.lazily`
            names += [value.value for value in node.values if isinstance(value, ast.Constant)]
    return names


def setup_arguments() -> dict:
    """What setup.py hands to setuptools."""
    captured = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", captured.update)
        runpy.run_path(str(ROOT / "setup.py"))
    return captured


def import_names(requirements) -> set[str]:
    dists = {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}
    names = {IMPORT_NAME.get(dist, dist.replace("-", "_")) for dist in dists}
    return names | {"jaxlib"} if "jax" in names else names  # jax's own other half


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_direction(path):
    here = part_of(path)
    assert here in MAY_IMPORT, f"nlm_jax/{here} is new: say in this table, and in CONTRIBUTING.md, what it may import"
    used = {name.split(".")[1] for name in imports_of(path) if name.startswith("nlm_jax.")} - {here, "__version__"}
    used -= {"UserError", "NatureLM"} if here != "__init__" else set()
    wrong = used - MAY_IMPORT[here]
    assert not wrong, f"nlm_jax/{here} may import {sorted(MAY_IMPORT[here])}, not {sorted(wrong)}"


def test_direction_has_no_cycle():
    for name, below in MAY_IMPORT.items():
        for other in below:
            assert name not in MAY_IMPORT[other], f"{name} and {other} may import each other"
            assert MAY_IMPORT[other] <= below, f"{name} may import {other} but not {sorted(MAY_IMPORT[other] - below)}"


def test_generic_evaluation_imports_no_benchmark():
    """What is directly in `evaluate` serves every benchmark; only its command knows them. No benchmark uses another."""
    for path in (PACKAGE / "evaluate").rglob("*.py"):
        folder = path.relative_to(PACKAGE / "evaluate").parts[0]
        others = {"beans_zero", "corpus"} - {folder}
        if folder != "command.py":
            used = {name.split(".")[2] for name in imports_of(path) if name.startswith("nlm_jax.evaluate.")}
            assert not used & others, f"{path.relative_to(ROOT)} imports {sorted(used & others)}"


def test_files_have_no_cycle():
    """No file needs itself by way of others, whether at the top, within a function or under TYPE_CHECKING."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    modules = {name: path for name, path in modules.items() if path.name != "__init__.py"}  # lazy public names only
    graph = {
        name: {
            other
            for used in imports_of(path)
            if (other := used if used in modules else used.rpartition(".")[0]) in modules
        }
        for name, path in modules.items()
    }
    order = graphlib.TopologicalSorter(graph)
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_every_dependency_is_declared():
    arguments = setup_arguments()
    extras = [r for rs in arguments["extras_require"].values() for r in rs]
    plain, declared = (
        import_names(arguments["install_requires"]),
        import_names([*arguments["install_requires"], *extras]),
    )
    for path in FILES:
        for name in imports_of(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top == "nlm_jax":
                continue
            assert top in declared, f"{path.relative_to(ROOT)} imports {top}, which setup.py does not declare"
    assert "torch" not in plain
    unused = plain - {"jaxlib"} - {name.split(".")[0] for path in FILES for name in imports_of(path)}
    assert not unused, f"setup.py installs {sorted(unused)}, which nothing imports"


def test_plain_installation_imports_everything():
    """Every module of the package loads where only `install_requires` is installed: no torch, no test oracles."""
    arguments = setup_arguments()
    extras = import_names(r for rs in arguments["extras_require"].values() for r in rs)
    blocked = sorted(extras - import_names(arguments["install_requires"]))
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in FILES]
    modules = [name for name in modules if name not in SERVER]
    code = f"""
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}: raise ModuleNotFoundError(f"no module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
for name in {modules!r}: importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch" in blocked
    assert "peft" in blocked


def test_nothing_is_done_at_import():
    """`import nlm_jax` and the table of commands cost neither jax nor numpy."""
    code = "import sys, nlm_jax.cli; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_package_data_is_there():
    arguments = setup_arguments()
    assert set(arguments["packages"]) >= {"nlm_jax"} | {
        f"nlm_jax.{part}" for part in MAY_IMPORT if (PACKAGE / part / "__init__.py").is_file()
    }
    for folder in {p.parent for p in FILES}:
        assert (folder / "__init__.py").is_file(), (
            f"{folder.relative_to(ROOT)} has no __init__.py and would not be installed"
        )
