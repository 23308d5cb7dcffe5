"""Against independent published implementations, run here: transformers' Llama and BLIP-2 Q-Former, PEFT's LoRA."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nlm_jax.convert.formats import open_checkpoint
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.models.llama.model import LlamaModel
from nlm_jax.models.qformer.config import QFormerConfig
from nlm_jax.models.qformer.model import QFormerModel
from nlm_jax.nn.attention import attend
from nlm_jax.nn.linear import Linear, LoraConfig
from nlm_jax.nn.masks import packed_causal
from nlm_jax.nn.norm import LayerNorm

torch = pytest.importorskip("torch", reason="the live oracles need torch: pip install nlm_jax[test]")
transformers = pytest.importorskip("transformers")


@jax.jit
def llama_logits(model, tokens, positions):
    mask = packed_causal(jnp.ones_like(tokens))
    x = model.embed_tokens(tokens, jnp.float32)
    hidden, _ = model(x, positions, lambda cache, _, q, k, v: (attend(q, k, v, mask), cache))
    return model.logits(hidden)


def filled(module, value):
    """The module with every variable set to `value(path)`, unless that is None."""
    flat = nnx.to_flat_state(nnx.state(module))
    for path, variable in flat:
        new = value("/".join(map(str, path)))
        if new is not None:
            assert new.shape == variable.shape, path
            variable.set_value(jnp.asarray(new))
    nnx.update(module, nnx.from_flat_state(flat))
    return module


VARIANTS = {
    "llama 3.1": {},
    "tied, one kv head, odd head size": {"tie_word_embeddings": True, "num_key_value_heads": 1, "head_dim": 24},
    "no grouping, biases": {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True},
    "linear scaling": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
    "no scaling": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "num_key_value_heads": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_llama_up_to_8k_positions(tmp_path, variant):
    torch.manual_seed(0)
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 8192, "rope_theta": 500000.0}
    sizes = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": rope}
    config = transformers.LlamaConfig(**(sizes | VARIANTS[variant]), attn_implementation="eager")
    theirs = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for p in theirs.parameters():  # norms and biases are not at their initial values 1 and 0
            p.add_(0.05 * torch.randn_like(p))
    theirs.save_pretrained(tmp_path)
    loaded = open_checkpoint(tmp_path, pad_rows=0).load()
    model = filled(
        LlamaModel(loaded.config.llama, rngs=nnx.Rngs(params=0)), lambda path: loaded.leaves[f"llama/{path}"]
    )
    tokens = np.random.default_rng(0).integers(0, 96, (1, 48))
    for offset in (0, 1000, 4000, 8144):
        positions = np.arange(48)[None] + offset
        with torch.no_grad():
            expected = theirs(torch.tensor(tokens), position_ids=torch.tensor(positions)).logits.numpy()
        ours = np.asarray(llama_logits(model, jnp.asarray(tokens), jnp.asarray(positions)))
        assert np.abs(ours - expected).max() < 2e-5 * max(1.0, np.abs(expected).max()), offset


def test_long_sequence():
    """4,000 tokens at once, which reveals a wrong frequency scaling: equal to attention in float64."""
    cfg = LlamaConfig(vocab=32, width=32, layers=1, heads=2, kv_heads=1, head_dim=16, mlp=48, eps=1e-6)
    model = LlamaModel(cfg, rngs=nnx.Rngs(params=1))
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, attn_implementation="eager",
        rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval().double()
    source = model.layers
    state = {
        "model.embed_tokens.weight": model.embed_tokens.embedding[...],
        "model.norm.weight": model.norm.scale[...],
        "lm_head.weight": model.lm_head.kernel[...].T,
        "model.layers.0.input_layernorm.weight": source.input_norm.scale[0],
        "model.layers.0.post_attention_layernorm.weight": source.post_norm.scale[0],
    }
    for name in ("q", "k", "v", "o"):
        state[f"model.layers.0.self_attn.{name}_proj.weight"] = getattr(source, f"{name}_proj").kernel[0].T
    for name in ("gate", "up", "down"):
        state[f"model.layers.0.mlp.{name}_proj.weight"] = getattr(source, f"{name}_proj").kernel[0].T
    theirs.load_state_dict({k: torch.tensor(np.asarray(v)).double() for k, v in state.items()})
    tokens = np.random.default_rng(0).integers(0, 32, (1, 4000))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits[:, -200:].numpy()
    ours = np.asarray(llama_logits(model, jnp.asarray(tokens), jnp.arange(4000)[None]))[:, -200:]
    assert np.abs(ours - expected).max() < 1e-5


def test_blip2_qformer():
    torch.manual_seed(0)
    config = transformers.Blip2QFormerConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, cross_attention_frequency=1,
        encoder_hidden_size=40, layer_norm_eps=1e-12, attn_implementation="eager",
    )  # fmt: skip
    theirs = transformers.Blip2QFormerModel(config).eval()
    cfg = QFormerConfig(width=48, heads=4, mlp=96, layers=2, queries=3)
    ours = QFormerModel(cfg, 40, rngs=nnx.Rngs(params=0))
    weights = {k: np.asarray(v.detach()) for k, v in theirs.state_dict().items()}
    pairs = {"embed_norm": "layernorm"}
    for part, name in (("self_attn", "attention"), ("cross_attn", "crossattention")):
        pairs |= {f"layers/{part}/{x}": f"encoder.layer.{{}}.{name}.attention.{x}" for x in ("query", "key", "value")}
        pairs[f"layers/{part}/dense"] = f"encoder.layer.{{}}.{name}.output.dense"
        pairs[f"layers/{part}/norm"] = f"encoder.layer.{{}}.{name}.output.LayerNorm"
    pairs |= {"layers/intermediate": "encoder.layer.{}.intermediate_query.dense"}
    pairs |= {"layers/output": "encoder.layer.{}.output_query.dense"}
    pairs |= {"layers/output_norm": "encoder.layer.{}.output_query.LayerNorm"}

    def value(path):
        parents, _, leaf = path.rpartition("/")
        if leaf == "query_tokens":
            return None
        name = pairs[parents] + (".bias" if leaf == "bias" else ".weight")
        array = np.stack([weights[name.format(i)] for i in range(2)]) if "{}" in name else weights[name]
        return np.swapaxes(array, -1, -2) if leaf == "kernel" else array

    filled(ours, value)
    rng = np.random.default_rng(0)
    queries, windows = rng.normal(size=(4, 3, 48)).astype("f4"), rng.normal(size=(4, 17, 40)).astype("f4")
    with torch.no_grad():
        expected = theirs(
            query_embeds=torch.tensor(queries), encoder_hidden_states=torch.tensor(windows)
        ).last_hidden_state.numpy()
    assert np.abs(np.asarray(ours.attend(jnp.asarray(queries), jnp.asarray(windows))) - expected).max() < 1e-5


def test_peft_training():
    """The adapter as PEFT trains it: output and gradients of lora_A and lora_B, scale alpha / r."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(12, 20, bias=False))
    config = peft.LoraConfig(r=3, lora_alpha=7, lora_dropout=0.0, target_modules=["0"], init_lora_weights=False)
    theirs = peft.get_peft_model(base, config)
    layer = theirs.base_model.model[0]
    ours = Linear(12, 20, (None, None), lora=LoraConfig(3, 7.0, 0.0), rngs=nnx.Rngs(params=0))
    for name, tensor in (
        ("kernel", layer.base_layer.weight),
        ("lora_a", layer.lora_A["default"].weight),
        ("lora_b", layer.lora_B["default"].weight),
    ):
        getattr(ours, name).set_value(jnp.asarray(tensor.detach().numpy().T))
    x = np.random.default_rng(0).normal(size=(5, 12)).astype("f4")
    out = theirs(torch.tensor(x))
    out.square().sum().backward()
    np.testing.assert_allclose(ours(jnp.asarray(x)), out.detach().numpy(), atol=1e-5)
    graphdef, adapter, rest = nnx.split(ours, nnx.LoRAParam, ...)
    grads = jax.grad(lambda a: jnp.square(nnx.merge(graphdef, a, rest)(jnp.asarray(x))).sum())(adapter)
    np.testing.assert_allclose(grads["lora_a"][...].T, layer.lora_A["default"].weight.grad, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(grads["lora_b"][...].T, layer.lora_B["default"].weight.grad, rtol=1e-4, atol=1e-4)


def test_dropout_affects_only_the_adapter():
    layer = Linear(64, 64, (None, None), lora=LoraConfig(4, 8.0, 0.5), rngs=nnx.Rngs(params=0))
    layer.lora_b.set_value(jax.random.normal(jax.random.key(1), (4, 64)))
    x = jnp.ones((3, 64))
    base = x @ layer.kernel[...]
    keys = jax.random.split(jax.random.key(2), 400)
    delta = jax.vmap(lambda key: layer(x, key))(keys) - base
    error = delta.mean(0) - (layer(x) - base)
    assert float(jnp.abs(error / (delta.std(0) / 20)).max()) < 5  # unbiased: within five standard errors
    assert float(delta.std(0).mean()) > 0.1
    silent = dataclasses.replace(layer.lora, dropout=0.0)
    layer.lora = silent
    np.testing.assert_array_equal(layer(x, keys[0]), layer(x))


def test_layer_norm_against_torch():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(4, 33)).astype("f4")
    expected = torch.nn.functional.layer_norm(torch.tensor(x), (33,)).numpy()
    np.testing.assert_allclose(LayerNorm(33, rngs=nnx.Rngs(params=0))(jnp.asarray(x)), expected, atol=2e-6)
