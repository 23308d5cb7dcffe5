"""`nlm import` and `nlm export` from the command line."""

import sys

import pytest

from nlm_jax import cli
from nlm_jax.convert import formats, io


@pytest.fixture
def nlm(capsys):
    """Runs the command line: (exit status, stdout, stderr)."""

    def run(*arguments):
        status = cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def imported(nlm, golden, tmp_path):
    out = tmp_path / "imported"
    status, stdout, err = nlm(
        "import", golden / "model", "--out", out, "--qformer-config", golden / "qformer_config.json"
    )
    assert status == 0, err
    assert "85 parameters" in stdout
    return out


def test_there_and_back(nlm, golden, imported, tmp_path):
    assert formats.kind_of(imported) == "nlm"
    status, _, err = nlm("export", imported, "--format", "naturelm", "--out", tmp_path / "out")
    assert status == 0, err
    ours, theirs = tmp_path / "out", golden / "model"
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()
    moved = {"llama_path": str(golden / "llama")}  # the official class looks it up from where a program runs
    assert io.read_json(ours / "config.json") == io.read_json(theirs / "config.json") | moved


@pytest.mark.parametrize(
    ("format", "file"),
    [
        ("peft", "adapter_model.safetensors"),
        ("llama-merged", "model.safetensors"),
        ("beats", "beats.pt"),
        ("nlm", "model.safetensors"),
    ],
)
def test_every_format(nlm, imported, tmp_path, format, file):
    status, out, err = nlm("export", imported, "--format", format, "--out", tmp_path / "out")
    assert status == 0, err
    assert (tmp_path / "out" / file).is_file()
    assert format in out


def test_exporting_needs_no_torch(nlm, imported, tmp_path, monkeypatch):
    for absent in ("torch", "transformers", "safetensors"):
        monkeypatch.setitem(sys.modules, absent, None)  # any import of it fails
    for format in formats.FORMATS:
        status, _, err = nlm("export", imported, "--format", format, "--out", tmp_path / format)
        assert status == 0, err
    assert not (tmp_path / "beats" / "beats.pt").exists()


def test_flags_reach_their_place(nlm, imported, tmp_path):
    flags = ("--no-pad-row", "--merging-alpha", "0", "--dtype", "bfloat16")
    assert nlm("export", imported, "--format", "llama-merged", "--out", tmp_path / "a", *flags)[0] == 0
    config = io.read_json(tmp_path / "a" / "config.json")
    assert (config["vocab_size"], config["torch_dtype"]) == (400, "bfloat16")
    assert nlm("export", imported, "--format", "naturelm", "--out", tmp_path / "b", "--with-base")[0] == 0
    assert (tmp_path / "b" / "llama" / "model.safetensors").is_file()


def test_parts_can_be_imported(nlm, golden, tmp_path):
    for source, part in (("llama", "llama"), ("checkpoints/beats_microsoft_format.pt", "beats")):
        status, _, err = nlm("import", golden / source, "--out", tmp_path / part)
        assert status == 0, err
        assert formats.open_checkpoint(tmp_path / part).lazily().parts == (part,)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["import", "{tmp}/nowhere", "--out", "{tmp}/out"], "nowhere: no such file or directory"),
        (["import", "{golden}/model", "--out", "{tmp}/out"], "--qformer-config"),
        (["import", "{golden}/model", "--out", "{tmp}"], "is not empty"),
        (["import", "{golden}/llama", "--out", "{tmp}/out", "--base", "{golden}/model"], "takes no base"),
        (["export", "{golden}/llama", "--format", "naturelm", "--out", "{tmp}/out"], "holds no beats"),
        (["export", "{golden}/llama", "--format", "peft", "--out", "{tmp}/out", "--no-pad-row"], "--no-pad-row"),
        (["export", "{golden}/llama", "--format", "beats", "--out", "{tmp}/out", "--with-base"], "--with-base"),
    ],
)
def test_mistakes_are_one_sentence(nlm, golden, tmp_path, arguments, says):
    (tmp_path / "in use").write_text("")
    status, out, err = nlm(*(a.format(golden=golden, tmp=tmp_path) for a in arguments))
    assert status == 2
    assert says in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    assert out == ""


def test_overwrite_replaces_checkpoints_only(nlm, golden, tmp_path):
    """--overwrite aimed at somebody's folder by mistake must not empty it; a failed export leaves nothing behind."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "owl.jpg").write_bytes(b"owl")
    flags = ("--qformer-config", golden / "qformer_config.json")
    status, _, message = nlm(
        "export", golden / "model", *flags, "--format", "nlm", "--out", tmp_path / "photos", "--overwrite"
    )
    assert (status, "holds no checkpoint" in message) == (2, True)
    assert (tmp_path / "photos" / "owl.jpg").read_bytes() == b"owl"
    assert nlm("export", golden / "llama", "--format", "peft", "--out", tmp_path / "new")[0] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]
