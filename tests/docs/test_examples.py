"""Examples of the pages do what the pages say."""

import argparse
import importlib
import pathlib
import re
import shlex
import types

import numpy as np
import pytest
import soundfile

from nlm_jax import cli
from nlm_jax.core.config import load
from nlm_jax.prepare.readers import read_report, registry
from nlm_jax.prepare.rejects import Report
from nlm_jax.train.config import TrainConfig, train_config

ROOT = pathlib.Path(__file__).resolve().parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page, without the fences."""
    content = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", content)


def test_example_of_a_reader(tmp_path, monkeypatch):
    (source,) = [block for block in blocks("howto/reader.md", "python") if block.startswith('"""')]
    reader = types.ModuleType("field_sheets")
    exec(source, reader.__dict__)
    monkeypatch.setitem(registry.FILE_READERS, "field-sheets", reader)
    monkeypatch.setitem(read_report.TITLES, "field-sheets", "field sheets")
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.zeros(1600, np.float32), 16_000)
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("file;code;observer\na.wav;BAOW;me\nB.WAV;TAOW;me\nb.wav;OWL1;me\n", encoding="utf-8")

    report = Report()
    examples = list(registry.read(sheet, root=tmp_path, report=report))
    assert [(e.paths, e.text, e.domain) for e in examples] == [
        (("a.wav",), "Barn owl", "field-sheets"),
        (("b.wav",), "Tawny owl", "field-sheets"),
    ]
    assert examples[0].facts == {"common_name": "Barn owl"}
    (reject,) = report.rejects
    assert reject.where.endswith("sheet.csv:4")
    assert "'OWL1' is not a species code" in reject.reason


PAGES = ["README.md", *sorted(file.relative_to(ROOT).as_posix() for file in (ROOT / "docs").rglob("*.md"))]
COMMANDS = [
    pytest.param(command, id=f"{page}: {command}"[:120])
    for page in PAGES
    for block in re.findall(r"(?ms)^```(?:bash|text)\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"))
    for command in block.replace("\\\n", " ").splitlines()
    if command.startswith("nlm ") and "COMMAND" not in command and "--help" not in command
]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_the_arguments_that_its_page_gives(command):
    _, name, *arguments = shlex.split(command.replace("gs://", ""), comments=True)  # buckets need packages of their own
    entry = cli.COMMANDS[name]
    module = importlib.import_module(entry.module)
    parser = argparse.ArgumentParser(prog=f"nlm {name}", allow_abbrev=False)
    module.add_arguments(parser)
    overrides = [a for a in arguments if a.startswith("--config.")]
    assert entry.overrides or not overrides
    try:
        parser.parse_args([a for a in arguments if a not in overrides])
    except SystemExit:
        pytest.fail(f"nlm {name} does not take these arguments", pytrace=False)
    load(ROOT / "configs" / "stage1.py", overrides, TrainConfig)


OVERRIDES = sorted(
    {
        override
        for page in PAGES
        for override in re.findall(
            r"`(--config\.[\w.]+=[^`\s]+)`", (ROOT / page).read_text(encoding="utf-8").replace("\\|", "|")
        )
        if not re.search(r"VALUE|NAME|\.\.\.", override)
    }
)


@pytest.mark.parametrize("override", OVERRIDES)
def test_override_sets_a_field(override):
    train_config(load(ROOT / "configs" / "stage1.py", [override], TrainConfig))
