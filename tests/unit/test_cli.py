"""`nlm` itself: finding commands, help without jax, exit statuses, and what a mistake looks like."""

import importlib
import subprocess
import sys
import types

import pytest

from nlm_jax import __version__, cli
from nlm_jax.core.errors import UserError


@pytest.fixture
def fake(monkeypatch):
    """A command made of `run`, in the table as `fake`; returns a function that installs it."""

    def install(run, add_arguments=lambda parser: None, overrides=False):
        module = types.ModuleType("fake_command")
        module.SUMMARY, module.run, module.add_arguments = "a fake", run, add_arguments
        monkeypatch.setitem(sys.modules, "fake_command", module)
        monkeypatch.setitem(cli.COMMANDS, "fake", cli.Command("fake_command", "a fake", overrides))

    return install


def test_help_lists_every_command(nlm):
    status, out, _ = nlm("--help")
    assert status == 0
    for name, command in cli.COMMANDS.items():
        assert f"  {name}" in out
        assert command.summary in out


def test_no_command(nlm):
    status, out, err = nlm()
    assert (status, out) == (2, "")
    assert "usage: nlm COMMAND" in err


def test_version(nlm):
    assert nlm("--version") == (0, f"nlm {__version__}\n", "")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command_keeps_the_contract(name, nlm):
    module = importlib.import_module(cli.COMMANDS[name].module)
    assert cli.COMMANDS[name].summary == module.SUMMARY
    status, out, _ = nlm(name, "--help")
    assert status == 0
    assert out.startswith(f"usage: nlm {name}")


@pytest.mark.parametrize(
    ("typo", "intended"), [("trian", "train"), ("exprot", "export"), ("Import", "import"), ("inferr", "infer")]
)
def test_misspelt_command(nlm, typo, intended):
    status, out, err = nlm(typo)
    assert (status, out) == (2, "")
    assert err == f"nlm: error: no command {typo!r}; did you mean {intended!r}?\n"


def test_unknown_command_lists_the_commands(nlm):
    status, _, err = nlm("zzz")
    assert status == 2
    assert all(name in err for name in cli.COMMANDS)


def test_run_gets_its_arguments_and_gives_the_status(nlm, fake):
    seen = []
    fake(lambda args: seen.append(args.where) or 7, lambda parser: parser.add_argument("--where"))
    assert nlm("fake", "--where", "here")[0] == 7
    assert seen == ["here"]


def test_user_error_is_one_sentence(nlm, fake):
    def run(args):
        raise UserError("--where: no such folder; name one that exists")

    fake(run)
    assert nlm("fake") == (2, "", "nlm fake: error: --where: no such folder; name one that exists\n")


def test_refused_by_the_machine(nlm, fake, tmp_path):
    def run(args):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    fake(run)
    assert nlm("fake") == (2, "", f"nlm fake: error: {tmp_path}: Permission denied\n")


def test_a_path_that_cannot_be_created(nlm, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"path": "a.wav", "prompt": "p", "text": "t", "task": "k"}\n')
    for out, says in (("/proc/nowhere/x", "No such file or directory"), (str(tmp_path / ("a" * 300)), "too long")):
        status, _, printed = nlm("prepare", str(tmp_path / "rows.jsonl"), f"--out={out}")
        assert status == 2
        assert printed.startswith("nlm prepare: error: ")
        assert says in printed


def test_a_defect_keeps_its_traceback(nlm, fake):
    fake(lambda args: {}["missing"])
    with pytest.raises(KeyError):
        nlm("fake")


def test_interrupt(nlm, fake):
    def run(args):
        raise KeyboardInterrupt

    fake(run)
    assert nlm("fake") == (130, "", "nlm fake: interrupted\n")


def test_misspelt_flag(nlm, fake):
    fake(lambda args: 0, lambda parser: parser.add_argument("--workdir"))
    status, _, err = nlm("fake", "--workdri=x")
    assert status == 2
    assert err.endswith("nlm fake: error: unknown argument '--workdri=x'; did you mean --workdir?\n")


def test_flags_are_not_abbreviated(nlm, fake):
    fake(lambda args: 0, lambda parser: parser.add_argument("--workdir"))
    assert nlm("fake", "--work=x")[0] == 2


def test_stray_word(nlm, fake):
    fake(lambda args: 0)
    status, _, err = nlm("fake", "word")
    assert status == 2
    assert "unknown argument 'word'; nlm fake --help lists them" in err


def test_overrides_reach_the_command(nlm, fake):
    seen = []
    fake(lambda args: seen.extend(args.overrides) or 0, lambda parser: parser.add_argument("--config"), overrides=True)
    assert nlm("fake", "--config=c.py", "--config.a.b=-1", "--config.name=x y")[0] == 0
    assert seen == ["--config.a.b=-1", "--config.name=x y"]


def test_override_without_equals(nlm, fake):
    fake(lambda args: 0, overrides=True)
    status, _, err = nlm("fake", "--config.steps", "10")
    assert status == 2
    assert "an override reads --config.steps=VALUE" in err


def test_override_for_a_command_without_overrides(nlm, fake):
    fake(lambda args: 0)
    status, _, err = nlm("fake", "--config.steps=10")
    assert status == 2
    assert "--config.steps: this command takes no config overrides" in err


def test_as_a_process():
    done = subprocess.run([sys.executable, "-m", "nlm_jax.cli", "trian"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
