"""Habits that a machine can check: format, file length, docstrings, and nothing of anybody's machine in the tree."""

import ast
import os
import pathlib
import re
import runpy
import shlex
import shutil
import stat
import subprocess
import sys

import pytest

from nlm_jax import __version__, cli

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "nlm_jax").rglob("*.py"))
SKIPPED = {".git", ".venv", ".pytest_cache", ".ruff_cache", "__pycache__", "build", "dist", "runs", "demo_out"}
# Split, so that this file is not its own first finding.
FORBIDDEN = [
    *(
        "/wo" + "rk/",
        "/ro" + "ot/",
        "/tm" + "p/",
        "/ho" + "me/",
        "/Us" + "ers/",
        "/op" + "t/",
        "pyp" + "i.org",
        "pythonhos" + "ted",
    ),
    *(
        "--index-" + "url",
        "--extra-index-" + "url",
        "FIX" + "ME",
        "XX" + "X",
        "TO" + "DO",
        "<<<<" + "<<<",
        ">>>>" + ">>>",
    ),
]


def tracked() -> list[pathlib.Path]:
    """Files under version control, or every file where the tree is not a repository."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [p for p in ROOT.rglob("*") if p.is_file() and not SKIPPED & set(p.relative_to(ROOT).parts)]


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "nlm_jax")))
def test_length_and_docstrings(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 350, "split it: files stay under 350 lines"
    tree = ast.parse(text)
    if path.name != "__init__.py" or tree.body:
        assert ast.get_docstring(tree), "the module says nothing about what it is for"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node) or is_command_hook(node), (
                f"{node.name} (line {node.lineno}) has no docstring"
            )


def is_command_hook(node) -> bool:
    """`add_arguments(parser)` and `run(args)` are explained once, in cli.py."""
    return node.name in ("add_arguments", "run")


def test_nothing_of_a_machine_in_the_tree():
    matches = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        matches += [
            f"{path.relative_to(ROOT)}:{number}: {word}"
            for number, line in enumerate(text.splitlines(), 1)
            for word in FORBIDDEN
            if word in line
        ]
    assert not matches, "\n".join(matches)


def test_no_large_or_stray_files():
    golden = ROOT / "tests" / "golden"  # its size has a bound of its own, in its test
    for path in (path for path in tracked() if golden not in path.parents):
        assert path.stat().st_size < 1 << 20, f"{path.relative_to(ROOT)} is larger than 1 MiB"
        assert path.suffix not in {".pth", ".pt", ".safetensors", ".npz", ".wav", ".pyc", ".orig", ".rej"}, (
            path.relative_to(ROOT)
        )


def test_version_is_the_newest_of_the_changelog():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert __version__ == [*headings[1:], "0.1.0"][0]  # before the first release it is 0.1.0


README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL_LINES = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line
]


def test_readme_names_exactly_the_commands():
    assert set(re.findall(r"\bnlm ([a-z]+)", README)) == set(cli.COMMANDS)


@pytest.mark.parametrize("line", SHELL_LINES)
def test_shell_lines_of_the_readme(nlm, line):
    """Scripts exist, and commands have the flags that are used."""
    program, *words = shlex.split(line, comments=True)
    assert program in ("nlm", "bash", "pip")
    if program == "bash":
        assert (ROOT / words[0]).is_file()
    if program == "nlm":
        status, text, _ = nlm(*(word for word in words[:1] if word in cli.COMMANDS), "--help")
        assert status == 0
        for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert flag in (*re.findall(r"--[\w-]+", text), "--help") or flag.startswith("--config."), flag


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *(file.relative_to(ROOT).as_posix() for file in sorted((ROOT / "docs").rglob("*.md"))),
]
GENERATED = ("docs/reference/", "docs/notebooks/")
"""Pages that docs/hooks.py makes from the package and the notebooks; the build of the site checks links to them."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_paths_of_documents_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        target = pathlib.Path(os.path.normpath((ROOT / document).parent / link))
        if not target.relative_to(ROOT).as_posix().startswith(GENERATED):
            assert target.exists(), f"{document} links to {link}, which does not exist"
    for path in re.findall(r"(?<![\w/.-])((?:configs|launch|tests|nlm_jax)/[\w./-]+\.(?:py|sh|md))", text):
        assert (ROOT / path).exists(), f"{document} names {path}, which does not exist"


def test_readme_is_an_entrance():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_figures_are_those_that_their_script_draws():
    drawn = runpy.run_path(str(ROOT / "docs" / "figures" / "draw.py"))
    folders = {file.parent.name for file in (ROOT / "nlm_jax").glob("*/__init__.py")}
    assert set(drawn["PURPOSE"]) == folders
    for name in ("architecture", "packages", "stream"):
        assert drawn[name]() == (ROOT / "docs" / "figures" / f"{name}.svg").read_text(encoding="utf-8"), name


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("script", ["launch/test.sh", "launch/demo.sh", "launch/_venv.sh", ".ci/run"])
def test_scripts_parse(script):
    done = subprocess.run(["bash", "-n", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if not script.endswith("_venv.sh"):
        assert (ROOT / script).stat().st_mode & stat.S_IXUSR, "not executable"
