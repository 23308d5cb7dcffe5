"""Records on disk, what a resumed run forgets, and lines without a terminal."""

import io
import json

import rich.console

from nlm_jax.core.logging import METRICS, RunLog, human, numbers


def log(folder, **options):
    out = io.StringIO()
    return RunLog(folder, console=rich.console.Console(file=out, width=200), **options), out


def test_records_and_forgetting(tmp_path):
    first, _ = log(tmp_path / "run", tensorboard=False)
    for step in (1, 2, 3):
        first.write(step, "train", {"loss": 1.0 / step})
    first.append_lines("answers.jsonl", [json.dumps({"step": 3, "answer": "a"})])
    with open(tmp_path / "run" / METRICS, "a") as file:
        file.write('{"step": 4, "kind": "tr')  # a machine that went away while writing
    again, _ = log(tmp_path / "run", tensorboard=False)
    again.truncate_after(2)
    again.write(3, "train", {"loss": 7.0})
    steps = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert [(r["step"], r["loss"]) for r in steps] == [(1, 1.0), (2, 0.5), (3, 7.0)]
    assert (tmp_path / "run" / "answers.jsonl").read_text() == ""


def test_tensorboard_files(tmp_path):
    made, _ = log(tmp_path)
    made.write(1, "valid", {"loss": 2.0, "task": {"a": {"loss": 1.0}}})
    made.text(1, "answers", "a -> b")
    made.close()
    assert list((tmp_path / "tensorboard").iterdir())


def test_other_processes_write_nothing(tmp_path):
    made, out = log(tmp_path / "run", active=False)
    made.write(1, "train", {"loss": 2.0})
    made.print("hello")
    assert not (tmp_path / "run").exists()
    assert out.getvalue() == ""


def test_plain_lines(tmp_path):
    made, out = log(tmp_path, tensorboard=False)
    with made.progress("stage1", 0, 10):
        made.advance(3)
        made.status("stage1", 4, 10, "loss 1.0")
        made.print("an answer [with brackets]")
    assert out.getvalue() == "stage1 4/10 loss 1.0\nan answer [with brackets]\n"


def test_numbers_and_units():
    nested = {"loss": 1, "name": "x", "ok": True, "task": {"a": {"loss": 2.0}}}
    assert dict(numbers(nested, "valid")) == {"valid/loss": 1.0, "valid/task/a/loss": 2.0}
    assert [human(v) for v in (0, 12, 1234, 45.6e6, 8e9)] == ["0", "12", "1.23 k", "45.6 M", "8 G"]
