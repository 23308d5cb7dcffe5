"""Records on disk, records that a resumed run drops, and lines without a terminal."""

import io
import json
import struct

import rich.console
from tensorboardX.proto.event_pb2 import Event, SessionLog

from nlm_jax.core.logging import METRICS, RunLog, human, numbers


def log(folder, **options):
    out = io.StringIO()
    return RunLog(folder, console=rich.console.Console(file=out, width=200), **options), out


def test_a_resumed_run_drops_later_records(tmp_path):
    first, _ = log(tmp_path / "run", tensorboard=False)
    for step in (1, 2, 3):
        first.write(step, "train", {"loss": 1.0 / step})
    first.append_lines("answers.jsonl", [json.dumps({"step": 3, "answer": "a"})])
    with open(tmp_path / "run" / METRICS, "a") as file:
        file.write('{"step": 4, "kind": "tr')  # the machine failed while writing
    again, _ = log(tmp_path / "run", tensorboard=False)
    again.truncate_after(2)
    again.write(3, "train", {"loss": 7.0})
    steps = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert [(r["step"], r["loss"]) for r in steps] == [(1, 1.0), (2, 0.5), (3, 7.0)]
    assert (tmp_path / "run" / "answers.jsonl").read_text() == ""


def events(folder):
    """Events of all TensorBoard files: records of length, checksum, content, checksum."""
    for file in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def test_tensorboard_files(tmp_path):
    run_log, _ = log(tmp_path)
    run_log.write(1, "valid", {"loss": 2.0, "name": "a", "task": {"a": {"loss": 1.0}}})
    run_log.text(1, "answers", "a -> b")
    run_log.close()
    values = [(event.step, value) for event in events(tmp_path / "tensorboard") for value in event.summary.value]
    numbers = {value.tag: (step, value.simple_value) for step, value in values if value.HasField("simple_value")}
    assert numbers == {"valid/loss": (1, 2.0), "valid/task/a/loss": (1, 1.0)}
    texts = [value.tensor.string_val[0] for _, value in values if value.HasField("tensor")]
    assert texts == [b"a -> b"]


def test_tensorboard_drops_what_a_resumed_run_computes_again(tmp_path):
    """The file of the resumed run starts with the step from which TensorBoard drops the events of earlier files."""
    for steps in ((1, 2, 3), (3, 4)):
        run_log, _ = log(tmp_path)
        run_log.truncate_after(steps[0] - 1)
        for step in steps:
            run_log.write(step, "train", {"loss": float(step)})
        run_log.close()
    starts = [e.step for e in events(tmp_path / "tensorboard") if e.session_log.status == SessionLog.START]
    assert starts == [1, 3]


def test_other_processes_write_nothing(tmp_path):
    run_log, out = log(tmp_path / "run", active=False)
    run_log.write(1, "train", {"loss": 2.0})
    run_log.print("hello")
    assert not (tmp_path / "run").exists()
    assert out.getvalue() == ""


def test_plain_lines(tmp_path):
    run_log, out = log(tmp_path, tensorboard=False)
    with run_log.progress("stage1", 0, 10):
        run_log.advance(3)
        run_log.status("stage1", 4, 10, "loss 1.0")
        run_log.print("an answer [with brackets]")
    assert out.getvalue() == "stage1 4/10 loss 1.0\nan answer [with brackets]\n"


def test_numbers_and_units():
    nested = {"loss": 1, "name": "x", "ok": True, "task": {"a": {"loss": 2.0}}}
    assert dict(numbers(nested, "valid")) == {"valid/loss": 1.0, "valid/task/a/loss": 2.0}
    assert [human(v) for v in (0, 12, 1234, 45.6e6, 8e9)] == ["0", "12", "1.23 k", "45.6 M", "8 G"]
