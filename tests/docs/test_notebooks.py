"""The notebooks run from top to bottom, in one folder: ask.ipynb asks the model that finetune.ipynb trained."""

import json
import pathlib
import shlex

import pytest

from nlm_jax import cli

NOTEBOOKS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "notebooks"


def cells(name: str) -> list[dict]:
    """The code cells of a notebook."""
    content = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def execute(name: str, **parameters) -> dict:
    """Runs a notebook in this process, the `!nlm` lines of a cell after its Python.

    `parameters` replace those of its first cell.

    Returns:
      its variables.
    """
    space = {}
    for cell in cells(name):
        lines = "".join(cell["source"]).splitlines()
        exec("\n".join(line for line in lines if not line.startswith("!")), space)
        for line in lines:
            if line.startswith("!"):
                program, *arguments = shlex.split(line[1:].format(**space))
                assert program == "nlm"
                assert cli.main(arguments) == 0, line
        if "parameters" in cell["metadata"].get("tags", ()):
            assert parameters.keys() <= space.keys()
            space |= parameters
    return space


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    """The folder and the variables of finetune.ipynb after two steps."""
    import matplotlib

    matplotlib.use("agg")
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("notebooks")
        patch.chdir(folder)
        yield folder, execute("finetune.ipynb", STEPS=2, OVERRIDES="--config.eval.answers=0")


def test_finetune(finetuned):
    folder, space = finetuned
    assert space["manifest"]["splits"] == {"train": 36, "valid": 12}
    assert [row["step"] for row in space["rows"] if row["kind"] == "valid"] == [2]
    score = space["scores"]["common-name"]
    assert score["questions"] == 12
    assert score["majority"] == 0.25
    assert score["logistic"] == 1.0  # what the text says of the four sounds
    assert (folder / "finetuned" / "scores" / "report.html").is_file()


def test_ask(finetuned):
    space = execute("ask.ipynb")
    assert space["m"].config.audio.seconds == 2.0, "the model is not that of finetune.ipynb"
    assert [(start, end) for start, end, _ in space["answers"]] == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 8.0)]
    assert space["probability"].shape == (4, 4)
    assert space["probability"].sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("name", sorted(file.name for file in NOTEBOOKS.glob("*.ipynb")))
def test_no_outputs_are_committed(name):
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells(name))
