"""Pages that mkdocs makes from the package itself: the Python, config and command line references, and the notebooks.

mkdocs calls `on_files` once per build (`hooks` in mkdocs.yml).
"""

import argparse
import ast
import dataclasses
import importlib
import inspect
import json
import pathlib
import re
import textwrap
import typing

from mkdocs.structure.files import File, Files

import nlm_jax
from nlm_jax.cli import COMMANDS
from nlm_jax.train.config import TrainConfig

DOCS = pathlib.Path(__file__).resolve().parent


def on_files(files: Files, config) -> Files:
    """Adds the generated pages, and replaces each notebook by a page of its cells."""
    pages = {"reference/python.md": python_page(), "reference/config.md": config_page(), "reference/cli.md": cli_page()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    for file in [f for f in files if f.src_uri.endswith(".ipynb")]:
        text = notebook_page(DOCS / file.src_uri)
        files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=text))
    return files


# --- Python -------------------------------------------------------------------------------------------------------


def python_page() -> str:
    """One mkdocstrings entry for each public name of the package (`nlm_jax.__all__`)."""
    names = [name for name in nlm_jax.__all__ if not name.startswith("__")]
    entries = []
    for name in names:
        target = getattr(nlm_jax, name)
        entries.append(f"::: {target.__module__}.{target.__qualname__}\n")
    intro = "# Python\n\nEverything below is imported as `from nlm_jax import NAME`.\n\n"
    return intro + "\n".join(entries)


# --- Config -------------------------------------------------------------------------------------------------------


def config_page() -> str:
    """Every field of `TrainConfig` and of the dataclasses inside it, with type, default and documentation."""
    intro = (
        "# Config fields\n\nA config is a Python file with `get_config()` (see `configs/`). `--config.NAME=VALUE` "
        "sets one field on the command line, for example `--config.stages.0.optim.peak_lr=1e-4`. An unknown field is "
        "an error that names the closest one.\n"
    )
    return intro + "".join(_section(cls, path) for cls, path in config_classes(TrainConfig, "config"))


def config_classes(cls: type, path: str) -> list[tuple[type, str]]:
    """`cls` and each dataclass in its fields, depth first, with the path of an override that reaches it."""
    classes = [(cls, path)]
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, below = hints[field.name], f"{path}.{field.name}"
        if typing.get_origin(hint) is tuple and dataclasses.is_dataclass(typing.get_args(hint)[0]):
            hint, below = typing.get_args(hint)[0], f"{below}.0"
        if dataclasses.is_dataclass(hint):
            classes += config_classes(hint, below)
    return classes


def _section(cls: type, path: str) -> str:
    lines = [
        f"\n## {path}\n",
        f"`{cls.__module__}.{cls.__qualname__}`\n",
        _markdown(inspect.cleandoc(cls.__doc__ or "")),
    ]
    lines += ["", "| field | type | default | |", "|---|---|---|---|"]
    for name, kind, default, about in config_fields(cls):
        lines.append(f"| `{name}` | `{_cell(kind)}` | `{_cell(default)}` | {_cell(_markdown(about))} |")
    return "\n".join(lines) + "\n"


def config_fields(cls: type) -> list[tuple[str, str, str, str]]:
    """(name, annotation, default, documentation) of each field: the string or comment that follows it."""
    source = textwrap.dedent(inspect.getsource(cls))
    body, lines = ast.parse(source).body[0].body, source.splitlines()
    rows = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign):
            continue
        about = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            about = inspect.cleandoc(after.value.value)
        comment = re.search(r"\s#\s(.*)$", lines[node.end_lineno - 1])
        about = " ".join(filter(None, (about, comment and comment[1])))
        rows.append((node.target.id, ast.unparse(node.annotation), _default(node.value), about))
    return rows


def _default(value: ast.expr | None) -> str:
    """The default as it is written; of `field(default=X)` X, of `field(default_factory=X)` X()."""
    if value is None:
        return "required"
    if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("field"):
        keywords = {k.arg: ast.unparse(k.value) for k in value.keywords}
        if "default" in keywords:
            return keywords["default"]
        factory = keywords["default_factory"]
        return factory.removeprefix("lambda: ") if factory.startswith("lambda") else f"{factory}()"
    return ast.unparse(value)


# --- Command line -------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """Every command with its options, from the parsers themselves."""
    parts = [
        "# Command line\n\n`nlm COMMAND --help` prints the same. Bad input ends with one sentence and exit status 2, "
        "an interrupted command with 130.\n"
    ]
    for name, command in COMMANDS.items():
        module = importlib.import_module(command.module)
        parser = argparse.ArgumentParser(prog=f"nlm {name}", description=module.SUMMARY, allow_abbrev=False)
        module.add_arguments(parser)
        parts.append(_command(parser, command.overrides))
    return "\n".join(parts)


def _command(parser: argparse.ArgumentParser, overrides: bool) -> str:
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    lines = [f"## {parser.prog}\n", _markdown(parser.description or ""), "", "```text", usage, "```", ""]
    if overrides:
        lines.append("Also takes overrides of the config: `--config.NAME=VALUE` ([all fields](config.md)).\n")
    rows, below = [], []
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        if isinstance(action, argparse._SubParsersAction):
            below = list(action.choices.values())
            continue
        names = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.dest}`"
        if action.choices:
            names += " " + " ".join(f"`{choice}`" for choice in action.choices)
        about = formatter._expand_help(action) if action.help else ""
        default = action.default
        if default in (None, argparse.SUPPRESS, False, "", (), []) or "default" in about.lower():
            shown = "required" if action.required else ""
        else:
            shown = f"`{_cell(str(default))}`"
        rows.append(f"| {_cell(names)} | {shown} | {_cell(_markdown(about))} |")
    if rows:
        lines += ["| argument | default | |", "|---|---|---|", *rows, ""]
    return "\n".join([*lines, *(_command(parser, False).replace("\n## ", "\n### ") for parser in below)])


# --- Notebooks ----------------------------------------------------------------------------------------------------


def notebook_page(path: pathlib.Path) -> str:
    """A notebook as Markdown: its text cells as they are, its code cells as blocks, and where to get the file."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    parts.insert(1, f"This page is a notebook: [{path.name}]({path.name}).")
    return "\n\n".join(parts) + "\n"


# --- Markdown -----------------------------------------------------------------------------------------------------


def _markdown(text: str) -> str:
    """Plain text for Markdown: what would be read as HTML or emphasis is escaped, outside of code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([<>*_\[\]])", r"\\\1", p) for p in parts)


def _cell(text: str) -> str:
    """Text for one cell of a table."""
    return re.sub(r"\s*\n\s*", " ", text).replace("|", "\\|").strip()
