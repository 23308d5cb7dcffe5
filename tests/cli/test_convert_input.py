"""`nlm import` and `nlm export` on bad input: the sentence, status 2, and an output folder as it was before."""

import json
import shutil

import numpy as np
import pytest

from nlm_jax.convert import io


@pytest.fixture
def official(golden, tmp_path):
    """`official(tensors=..., config=...)`: a copy of the golden directory after the changes, as arguments of import."""

    def make(tensors=None, config=None):
        folder = tmp_path / "official"
        folder.mkdir()
        settings = json.loads((golden / "model" / "config.json").read_text()) | (config or {})
        (folder / "config.json").write_text(json.dumps(settings))
        if tensors is None:
            shutil.copyfile(golden / "model" / io.SINGLE, folder / io.SINGLE)
        else:
            _, metadata, _ = io.read_header(golden / "model" / io.SINGLE)
            stored = {name: np.array(view) for name, view in io.read_tensors(golden / "model").items()}
            tensors(stored)
            entries = [io.Entry(name, t.shape, t.dtype, lambda t=t: iter((t,))) for name, t in stored.items()]
            io.write_safetensors(folder / io.SINGLE, entries, metadata)
        return [folder, "--llm", golden / "llama", "--qformer-config", golden / "qformer_config.json"]

    return make


@pytest.fixture
def ours(nlm, golden, tmp_path):
    """The golden checkpoint imported; its directory."""
    out = tmp_path / "ours"
    extra = ("--llm", golden / "llama", "--qformer-config", golden / "qformer_config.json")
    assert nlm("import", golden / "model", "--out", out, *extra)[0] == 0
    return out


def contents(folder):
    return (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()} if folder.is_dir() else None
    )


def refuses(nlm, sentence, command, *arguments, out):
    before = contents(out)
    status, printed, err = nlm(command, *arguments, "--out", out)
    last = err.strip().splitlines()[-1]
    assert (status, printed) == (2, "")
    assert last.startswith(f"nlm {command}: error: ")
    assert sentence in last
    assert contents(out) == before


@pytest.mark.parametrize("name", ["nowhere", "no_such_user/no_such_model"])
def test_wrong_path(nlm, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    refuses(nlm, f"{name}: no such file or directory", "import", name, out=tmp_path / "out")
    refuses(nlm, f"{name}: no such file or directory", "export", name, "--format=peft", out=tmp_path / "out")


def test_empty_directory(nlm, tmp_path):
    (tmp_path / "empty").mkdir()
    refuses(nlm, "empty/config.json: no such file", "import", tmp_path / "empty", out=tmp_path / "out")


def test_output_in_use(nlm, official, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("the only copy")
    refuses(nlm, "out: is not empty", "import", *official(), out=tmp_path / "out")


def test_output_is_a_file(nlm, official, tmp_path):
    (tmp_path / "out").write_text("x")
    refuses(nlm, "out: is a file; give a directory", "import", *official(), out=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "x"


KEY = "audio_llama_proj.weight"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop(KEY), f"{KEY} is missing"),
        (lambda t: t.update(surprise=np.ones(3, np.float32)), "surprise is unknown"),
        (lambda t: t.update({KEY: t[KEY][:, :-1]}), f"{KEY} has shape (64, 47), but the config asks for (64, 48)"),
        (lambda t: t.update({KEY: np.zeros_like(t[KEY])}), f"{KEY} is all zero"),
        (lambda t: t.update({KEY: t[KEY].astype(np.int32)}), f"{KEY} holds int32"),
    ],
    ids=["missing", "unknown", "misshapen", "zero", "integers"],
)
def test_tensors(nlm, official, tmp_path, change, sentence):
    refuses(nlm, sentence, "import", *official(change), out=tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda b: b[:-100], "model.safetensors: 100 bytes are missing at its end"),
        (lambda b: b"x" * 1000, "model.safetensors: not a safetensors file"),
        (lambda b: b"", "model.safetensors: not a safetensors file"),
    ],
    ids=["cut", "garbage", "empty"],
)
def test_damaged_file(nlm, official, tmp_path, content, sentence):
    arguments = official()
    weights = arguments[0] / io.SINGLE
    weights.write_bytes(content(weights.read_bytes()))
    refuses(nlm, sentence, "import", *arguments, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"lora_rank": "8"}, "rank: expected int, got '8'"),
        ({"lora_rank": 8}, "but the config asks for"),
        ({"max_pooling": True}, "max_pooling=True is not supported"),
        ({"window_level_Qformer": False}, "window_level_Qformer=False is not supported"),
    ],
)
def test_config_of_another_model(nlm, official, tmp_path, config, sentence):
    refuses(nlm, sentence, "import", *official(config=config), out=tmp_path / "out")


def test_damaged_config(nlm, official, tmp_path):
    arguments = official()
    (arguments[0] / "config.json").write_text('{"lora"')
    refuses(nlm, "config.json: not valid JSON", "import", *arguments, out=tmp_path / "out")


def test_what_the_official_config_leaves_out(nlm, official, tmp_path):
    folder, *llm = official()
    refuses(nlm, "--llm", "import", folder, *llm[2:], out=tmp_path / "out")
    refuses(nlm, "--qformer-config", "import", folder, *llm[:2], out=tmp_path / "out")
    refuses(nlm, "no.json: no such file", "import", folder, *llm[:2], "--qformer-config=no.json", out=tmp_path / "out")


def test_bare_torch_file(nlm, golden, tmp_path):
    file = golden / "checkpoints" / "checkpoint_full.pth"
    refuses(nlm, "pass config= (--config)", "import", file, out=tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_damaged_torch_file(nlm, tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    refuses(nlm, "a.pth: not a torch file", "import", tmp_path / "a.pth", out=tmp_path / "out")


def test_merging_alpha(nlm, official, tmp_path):
    refuses(nlm, "merging_alpha=nan", "import", *official(), "--merging-alpha=nan", out=tmp_path / "out")
    refuses(nlm, "invalid float value", "import", tmp_path, "--merging-alpha=much", out=tmp_path / "out")


def test_unknown_kind_and_format(nlm, tmp_path):
    refuses(nlm, "argument --kind: invalid choice: 'gguf'", "import", tmp_path, "--kind=gguf", out=tmp_path / "out")
    refuses(nlm, "argument --format: invalid choice: 'zip'", "export", tmp_path, "--format=zip", out=tmp_path / "out")


def test_export_flags(nlm, ours, tmp_path):
    refuses(nlm, "goes with --format llama-merged", "export", ours, "--format=peft", "--no-pad-row", out=tmp_path / "e")
    for flag in ("--with-base", "--llama-path=x"):
        refuses(nlm, "with --format naturelm or peft only", "export", ours, "--format=nlm", flag, out=tmp_path / "e")


def test_export_over_something_else(nlm, ours):
    refuses(nlm, "ours: is not empty", "export", ours, "--format=naturelm", out=ours)


def test_export_of_a_part(nlm, golden, tmp_path):
    encoder = golden / "checkpoints" / "beats_microsoft_format.pt"
    refuses(nlm, "the checkpoint holds no", "export", encoder, "--format=naturelm", out=tmp_path / "out")
    refuses(nlm, "no LoRA adapter", "export", golden / "llama", "--format=peft", out=tmp_path / "out")
