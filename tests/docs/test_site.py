"""The site builds without a warning, and its references say what the package says."""

import contextlib
import dataclasses
import html
import logging
import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

import nlm_jax
from nlm_jax import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    """The site, built once with warnings as errors: dead links and anchors, pages missing from the navigation."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def text(page: pathlib.Path) -> str:
    """The words of a page, without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_page_of_the_navigation_is_built(site):
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def pages(entry):
        values = entry.values() if isinstance(entry, dict) else entry
        return [values] if isinstance(entry, str) else [page for value in values for page in pages(value)]

    for page in pages(navigation):
        assert (site / page).with_suffix(".html").is_file(), page


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        content = page.read_text(encoding="utf-8")
        loads = re.findall(r"<(?:script|img|iframe|audio)[^>]+src=\"(https?:[^\"]+)", content)
        loads += re.findall(
            r"<link[^>]+rel=\"?(?:stylesheet|preconnect|preload)\"?[^>]+href=\"(https?:[^\"]+)", content
        )
        assert not loads, f"{page.relative_to(site)} loads {loads}"


def test_command_line_reference_has_every_option(site):
    import argparse
    import importlib

    page = text(site / "reference" / "cli.html")
    for name, command in cli.COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"nlm {name}")
        importlib.import_module(command.module).add_arguments(parser)
        assert f"nlm {name}" in page
        for action in parser._actions:
            for option in action.option_strings:
                assert option in page, f"nlm {name} {option}"


def test_config_reference_has_every_field_with_its_words(site):
    from nlm_jax.train.config import CheckpointConfig, MeshConfig, TrainConfig

    page = text(site / "reference" / "config.html")
    assert "Steps between checkpoints; the last step of a stage is always saved." in page
    for path in ("config.stages.0.data.mixture", "config.stages.0.optim", "config.model", "config.log"):
        assert path in page
    for cls in (TrainConfig, CheckpointConfig, MeshConfig):
        for field in dataclasses.fields(cls):
            assert field.name in page


def test_python_reference_has_every_public_name(site):
    page = text(site / "reference" / "python.html")
    for name in nlm_jax.__all__:
        assert name.startswith("__") or name in page
    for method in ("from_pretrained", "generate_windows", "save_pretrained", "merging_alpha"):
        assert method in page


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("[gone](gone.md)", "gone.md"),
        ("[gone](start.md#gone)", "does not contain an anchor '#gone'"),
        ("::: nlm_jax.generate.api.Gone", "nlm_jax.generate.api.Gone"),
    ],
    ids=["page", "anchor", "reference"],
)
def test_a_broken_page_fails(tmp_path, broken, message, caplog):
    """The settings of mkdocs.yml turn these into warnings, which --strict turns into an end."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Home\n\n{broken}\n", encoding="utf-8")
    (docs / "start.md").write_text("# Start\n", encoding="utf-8")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    settings |= {"hooks": [], "nav": [{"Home": "index.md"}, {"Start": "start.md"}], "theme": {"name": "mkdocs"}}
    settings["plugins"] = [p for p in settings["plugins"] if p != "search"]
    python = settings["plugins"][0]["mkdocstrings"]["handlers"]["python"]
    python["paths"], python["options"]["extensions"] = [str(ROOT)], [str(ROOT / "docs" / "examples.py")]
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with caplog.at_level(logging.WARNING), contextlib.suppress(SystemExit):
        build(load_config(str(tmp_path / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    assert message in caplog.text


def test_examples_of_docstrings_are_code(site):
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert re.search(r'<span class="kn">from</span>.{0,80}nlm_jax', page), "no highlighted import in the reference"


def test_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == nlm_jax.__version__
    assert f"version = {{{nlm_jax.__version__}}}" in (ROOT / "docs" / "citation.md").read_text(encoding="utf-8")
    assert citation["preferred-citation"]["title"].startswith("NatureLM-audio")
