"""The adapter: interpolation in one place, merging, and the live libraries that load what we export."""

import jax
import numpy as np
import peft
import pytest
import torch
import transformers

from nlm_jax.convert import formats, io, lora, table
from nlm_jax.convert.leaves import build
from nlm_jax.convert.transfer import fetch
from nlm_jax.core.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning:peft")
IDS = np.random.default_rng(5).integers(0, 390, (2, 150))
# Logits of this model are up to 10; one rounding step of its weights moves them by 3e-5 (golden/noise.json).
TOLERANCE = 2e-4


def theirs(model) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(IDS)).logits.numpy()


def auto(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


@pytest.fixture(scope="module")
def base_logits(golden):
    return theirs(auto(golden / "llama"))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_adapter_and_merged_model_live(open_golden, golden, tmp_path, llama_logits, base_logits, alpha):
    """PEFT on Hugging Face's Llama == the merged export == ours, at every interpolation factor."""
    checkpoint = open_golden().load()
    formats.save(checkpoint, tmp_path / "peft", "peft", merging_alpha=alpha)
    formats.save(checkpoint, tmp_path / "merged", "llama-merged", merging_alpha=alpha)
    ours = llama_logits(open_golden().load(merging_alpha=alpha).model().llama, IDS)
    adapted = theirs(peft.PeftModel.from_pretrained(auto(golden / "llama"), tmp_path / "peft"))
    merged = theirs(auto(tmp_path / "merged"))
    assert merged.shape == ours.shape == (*IDS.shape, 401)
    np.testing.assert_allclose(merged, ours, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(adapted, ours[..., :400], atol=TOLERANCE, rtol=0)
    difference = np.abs(ours[..., :400] - base_logits).max()
    assert difference < TOLERANCE if alpha == 0 else difference > 0.5


def test_merged_without_the_pad_row_live(open_golden, golden, tmp_path, base_logits):
    formats.save(open_golden().lazily(merging_alpha=0.0), tmp_path / "out", "llama-merged", pad_row=False)
    loaded = auto(tmp_path / "out")
    assert loaded.config.vocab_size == 400
    np.testing.assert_array_equal(theirs(loaded), base_logits)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.decode(tokenizer("a bird sings").input_ids, skip_special_tokens=True) == "a bird sings"


def test_tied_embeddings_live(tmp_path, llama_logits):
    """A tied Llama: one table in the file, no head in the model, the same logits."""
    hf = transformers.LlamaConfig(
        vocab_size=90,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        tie_word_embeddings=True,
        attention_bias=True,
        mlp_bias=True,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(hf)
    for bias in (p for n, p in model.named_parameters() if n.endswith("bias")):
        torch.nn.init.normal_(bias)
    model.save_pretrained(tmp_path / "llm")
    checkpoint = formats.open_checkpoint(tmp_path / "llm", pad_rows=0).load()
    assert "llama/lm_head/kernel" not in checkpoint.leaves
    llama = build_llama(checkpoint)
    ids = IDS % 90
    with torch.no_grad():
        want = model.eval()(torch.from_numpy(ids)).logits.numpy()
    np.testing.assert_allclose(llama_logits(llama, ids), want, atol=1e-5, rtol=0)
    formats.save(checkpoint, tmp_path / "out", "llama-merged")
    with torch.no_grad():
        np.testing.assert_array_equal(auto(tmp_path / "out").eval()(torch.from_numpy(ids)).logits.numpy(), want)


def build_llama(checkpoint):
    """The language model of a checkpoint that holds nothing else."""
    from flax import nnx

    from nlm_jax.core.tree import nest
    from nlm_jax.models.llama.model import LlamaModel

    graphdef, state = nnx.split(nnx.eval_shape(lambda: LlamaModel(checkpoint.config.llama, rngs=nnx.Rngs(0))))
    nnx.replace_by_pure_dict(state, nest(checkpoint.leaves)["llama"])
    return nnx.merge(graphdef, state)


@pytest.mark.parametrize("kind", ["loaded", "lazy", "tree"])
def test_interpolation_touches_lora_b_alone(open_golden, identical, kind):
    whole = {path: fetch(leaf) for path, leaf in open_golden().load().leaves.items()}
    if kind == "tree":
        state = open_golden().load().model().llama.layers.q_proj
        from flax import nnx

        half = lora.interpolate(nnx.to_pure_dict(nnx.state(state)), 0.5)
        assert identical(half["lora_b"], whole["llama/layers/q_proj/lora_b"] * np.float32(0.5))
        assert identical(half["kernel"], whole["llama/layers/q_proj/kernel"])
        return
    opened = open_golden()
    leaves = opened.load(merging_alpha=0.5).leaves if kind == "loaded" else opened.lazily(merging_alpha=0.5).leaves
    for path, leaf in leaves.items():
        assert identical(fetch(leaf), whole[path] * np.float32(0.5) if path.endswith("lora_b") else whole[path]), path


def test_load_and_export_come_to_the_same(open_golden, tmp_path):
    formats.save(open_golden().lazily(), tmp_path / "at export", merging_alpha=0.5)
    formats.save(open_golden().lazily(merging_alpha=0.5), tmp_path / "at load")
    a, b = (tmp_path / name / "model.safetensors" for name in ("at export", "at load"))
    assert a.read_bytes() == b.read_bytes()


def test_the_factor_does_not_stick(open_golden, tmp_path, identical):
    checkpoint = open_golden().load()
    formats.save(checkpoint, tmp_path / "half", "peft", merging_alpha=0.5)
    formats.save(checkpoint, tmp_path / "whole", "peft")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    half, whole = (io.read_safetensors(tmp_path / d / "adapter_model.safetensors")[name] for d in ("half", "whole"))
    assert identical(half, np.array(whole) * np.float32(0.5))


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_a_factor_that_is_none(open_golden, alpha):
    with pytest.raises(UserError, match="merging_alpha"):
        open_golden().load(merging_alpha=alpha)
    with pytest.raises(UserError, match="merging_alpha='half'"):
        lora.interpolate({}, "half")


def test_merging_rounds_once(open_golden):
    """bfloat16 base: the sum is taken in float32 and rounded at the end, as PEFT's merge does not always."""
    import ml_dtypes

    bf16 = np.dtype(ml_dtypes.bfloat16)
    checkpoint = open_golden().load(storage=lambda path, own: bf16 if path.endswith("proj/kernel") else own)
    stem, scale = "llama/layers/v_proj", checkpoint.config.llama.lora.scale
    merged = fetch(lora.merge(checkpoint.leaves, checkpoint.config.llama.lora)[f"{stem}/kernel"])
    base, a, b = (np.asarray(checkpoint.leaves[f"{stem}/{p}"]).astype("f") for p in ("kernel", "lora_a", "lora_b"))
    assert merged.dtype == bf16
    np.testing.assert_array_equal(merged, (base + a @ b * np.float32(scale)).astype(bf16))


def test_merged_model_has_no_adapter(open_golden):
    checkpoint = open_golden().lazily()
    left = lora.merge(checkpoint.leaves, checkpoint.config.llama.lora)
    assert {p for p in checkpoint.leaves if p not in left} == {rule.path for rule in table.LORA}


def test_build_refuses_weights_of_another_model(open_golden):
    checkpoint = open_golden().load()
    leaves = {path: leaf for path, leaf in checkpoint.leaves.items() if path != "ln_audio/scale"}
    with pytest.raises(UserError, match="ln_audio/scale"):
        build(checkpoint.config, leaves)
    assert isinstance(checkpoint.leaves["ln_audio/scale"], jax.Array)
