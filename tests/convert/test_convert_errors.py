"""A checkpoint that is not right is refused with one sentence that names the tensor."""

import re

import ml_dtypes
import numpy as np
import pytest
import torch

from nlm_jax.convert import formats
from nlm_jax.convert.transfer import fetch, finite
from nlm_jax.core import files
from nlm_jax.core.errors import UserError

LORA_B = "llama_model.base_model.model.model.layers.{}.self_attn.{}_proj.lora_B.default.weight"
QUERY = "audio_Qformer.bert.encoder.layer.{}.attention.self.{}.bias"


def rename(tensors, old, new):
    tensors[new] = tensors.pop(old)


CASES = {
    "unknown": (lambda t: t.update({"beats.extra.weight": np.ones(3, "f")}), r"beats\.extra\.weight is unknown"),
    "misspelt": (
        lambda t: rename(t, "ln_audio.weight", "ln_audio.wieght"),
        r"ln_audio\.wieght is unknown",
    ),
    "layer too many": (
        lambda t: t.update({"beats.encoder.layers.3.fc1.bias": np.ones(96, "f")}),
        r"beats\.encoder\.layers\.3\.fc1\.bias is unknown",
    ),
    "missing": (lambda t: t.pop("audio_query_tokens"), "audio_query_tokens is missing"),
    "missing layer": (
        lambda t: t.pop("beats.encoder.layers.1.fc1.weight"),
        r"beats\.encoder\.layers\.1\.fc1\.weight is missing",
    ),
    "several missing": (
        lambda t: [t.pop(n) for n in list(t) if n.startswith("beats.predictor")],
        r"beats\.predictor\.\w+ \(and 1 more\) is missing",
    ),
    "misshapen": (
        lambda t: t.update({"audio_llama_proj.weight": np.ones((64, 47), "f")}),
        r"audio_llama_proj\.weight has shape \(64, 47\), but the config asks for \(64, 48\)",
    ),
    "transposed": (
        lambda t: t.update({"beats.encoder.layers.0.fc1.weight": t["beats.encoder.layers.0.fc1.weight"].T.copy()}),
        r"fc1\.weight has shape \(48, 96\)",
    ),
    "quantised": (
        lambda t: t.update({"audio_llama_proj.weight": np.ones((64, 48), np.int8)}),
        r"audio_llama_proj\.weight holds int8",
    ),
    "zero matrix": (lambda t: t["audio_llama_proj.weight"].fill(0), r"audio_llama_proj\.weight is all zero"),
    "zero in a stack": (
        lambda t: t["beats.encoder.layers.2.self_attn.q_proj.weight"].fill(0),
        r"layers\.2\.self_attn\.q_proj\.weight is all zero",
    ),
    "zero scale": (
        lambda t: t["llama_model.base_model.model.model.norm.weight"].fill(0),
        r"model\.norm\.weight is all zero",
    ),
    "zero lora_A": (
        lambda t: t[LORA_B.format(1, "k").replace("lora_B", "lora_A")].fill(0),
        r"lora_A\.default\.weight is all zero",
    ),
    "one zero lora_B": (
        lambda t: t[LORA_B.format(1, "k")].fill(0),
        r"layers\.1\.self_attn\.k_proj\.lora_B.* is all zero",
    ),
    "types differ": (
        lambda t: t.update({"beats.encoder.layers.1.fc1.bias": np.ones(96, np.float16)}),
        r"layers\.1\.fc1\.bias and .*layers\.0\.fc1\.bias differ in type",
    ),
    "buffer": (
        lambda t: t["audio_Qformer.bert.embeddings.position_ids"].fill(7),
        "position_ids is not the constant",
    ),
    "duplicate differs": (
        lambda t: t.update({"beats.encoder.layers.1.self_attn.relative_attention_bias.weight": np.ones((320, 4), "f")}),
        r"layers\.\d\.self_attn\.relative_attention_bias\.weight and .* are one tensor",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(altered, open_golden, case):
    change, says = CASES[case]
    path = altered(change)
    with pytest.raises(UserError, match=says) as caught:
        open_golden(path).load()
    assert str(path) in str(caught.value)
    with pytest.raises(UserError, match=says):
        open_golden(path).lazily()


NOT_FINITE = {
    "one NaN": ("audio_llama_proj.weight", np.nan),
    "NaN in a stack": ("beats.encoder.layers.2.self_attn.q_proj.weight", np.nan),
    "infinite bias": ("beats.encoder.layers.1.fc1.bias", -np.inf),
    "infinite adapter": (LORA_B.format(2, "q"), np.inf),
}


@pytest.mark.parametrize("case", NOT_FINITE)
def test_infinity_and_nan_are_refused(altered, open_golden, case):
    name, value = NOT_FINITE[case]
    path = altered(lambda t: t[name].reshape(-1).__setitem__(-1, value))
    says = f"{re.escape(name)} holds infinity or NaN"
    with pytest.raises(UserError, match=says):
        open_golden(path).load()
    promised = open_golden(path).lazily().leaves.values()
    with pytest.raises(UserError, match=says):
        _ = [fetch(leaf, i) for leaf in promised for i in (range(leaf.shape[0]) if leaf.stacked else [None])]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_finite(dtype):
    values = np.array([0, -1e4, 65504.0, 6e-8], dtype)
    assert finite(values)
    for odd in (np.nan, np.inf, -np.inf):
        assert not finite(np.append(values, np.array(odd, dtype)))


ALLOWED = {
    "zero biases": lambda t: [t[QUERY.format(i, p)].fill(0) for i in (0, 1) for p in ("query", "key")],
    "untrained adapter": lambda t: [t[LORA_B.format(i, p)].fill(0) for i in range(3) for p in "qkvo"],
    "without the buffer": lambda t: t.pop("audio_Qformer.bert.embeddings.position_ids"),
    "zero rows": lambda t: t["llama_embed_tokens.weight"][400:].fill(0),
    "embedding under its other name": lambda t: rename(
        t, "llama_embed_tokens.weight", "llama_model.base_model.model.model.embed_tokens.weight"
    ),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_not_refused(altered, open_golden, case):
    checkpoint = open_golden(altered(ALLOWED[case])).load()
    assert checkpoint.parts == ("beats", "ln_audio", "qformer", "audio_proj", "llama")


def test_a_directory_without_its_language_model(altered, golden):
    path = altered(lambda t: None)
    with pytest.raises(UserError, match=r"language model 'llama' is not there.*llm= \(--llm\)"):
        formats.open_checkpoint(path, qformer_config=golden / "qformer_config.json")


def test_sizes_of_the_qformer_are_required(golden):
    with pytest.raises(UserError, match=r"Q-Former is 48 wide.*--qformer-config"):
        formats.open_checkpoint(golden / "model")


def test_a_bare_checkpoint_without_its_config(golden, tmp_path):
    torch.save({"model": {"x": torch.ones(1)}}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"no config\.json with it; pass config="):
        formats.open_checkpoint(tmp_path / "x.pth")


def test_language_models_that_do_not_help(golden, open_golden, tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json"):
        open_golden(llm=tmp_path)
    with pytest.raises(UserError, match="no such file or directory"):
        open_golden(llm=tmp_path / "nowhere")
    with pytest.raises(UserError, match="could not be downloaded from the Hub"):
        open_golden(llm="nobody/nothing")
    (tmp_path / "config.json").write_text((golden / "llama" / "config.json").read_text())
    partial = golden / "checkpoints" / "checkpoint_trainable_only.pth"
    with pytest.raises(UserError, match="holds no safetensors weights"):
        open_golden(partial, config=golden / "model", llm=tmp_path)


def test_paths_that_are_nothing(golden, tmp_path):
    with pytest.raises(UserError, match="no such file or directory"):
        formats.open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        formats.open_checkpoint(tmp_path)
    files.write_json(tmp_path / "config.json", {"what": "ever"})
    with pytest.raises(UserError, match="not a config of"):
        formats.open_checkpoint(tmp_path)
    files.write_json(tmp_path / "config.json", {"format": "nlm", "version": 99})
    with pytest.raises(UserError, match="newer"):
        formats.open_checkpoint(tmp_path)
    torch.save({"cfg": {}, "model": 3}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="not a BEATs checkpoint"):
        formats.open_checkpoint(tmp_path / "x.pt", "beats")
    with pytest.raises(UserError, match="did you mean 'llama'"):
        formats.open_checkpoint(golden / "llama", "lama")


def test_options_of_another_kind(golden):
    with pytest.raises(UserError, match="of kind llama, which takes no base"):
        formats.open_checkpoint(golden / "llama", base=golden / "model")


def test_exports_that_cannot_be(golden, open_golden, tmp_path):
    encoder = formats.open_checkpoint(golden / "checkpoints" / "beats_microsoft_format.pt").lazily()
    with pytest.raises(UserError, match="holds no ln_audio, qformer, audio_proj, llama, only beats"):
        formats.save(encoder, tmp_path / "out", "naturelm")
    language = formats.open_checkpoint(golden / "llama").lazily()
    with pytest.raises(UserError, match="no LoRA adapter"):
        formats.save(language, tmp_path / "out", "peft")
    whole = open_golden().lazily()
    with pytest.raises(UserError, match="did you mean 'naturelm'"):
        formats.save(whole, tmp_path / "out", "naturlm")
    with pytest.raises(UserError, match="dtype 'float16'"):
        formats.save(whole, tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


def test_an_output_directory_in_use(open_golden, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"is not empty.*--overwrite"):
        formats.save(open_golden().lazily(), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").exists()
    with pytest.raises(UserError, match="is a file"):
        formats.save(open_golden().lazily(), tmp_path / "out" / "thesis.txt")
    with pytest.raises(UserError, match="holds no checkpoint"):
        formats.save(open_golden().lazily(), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_a_model_may_be_written_over_itself(open_golden, golden, tmp_path):
    """Lazy leaves still read from the directory that is being replaced."""
    formats.save(open_golden().lazily(), tmp_path / "out")
    formats.save(formats.open_checkpoint(tmp_path / "out").lazily(), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/model.safetensors").read_bytes() == (golden / "model/model.safetensors").read_bytes()
