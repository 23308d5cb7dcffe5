"""Files as others publish or save them: a stock Llama, Microsoft's BEATs, the official trainer's checkpoint."""

import dataclasses
import json
import pathlib
import sys
import types

import jax.numpy as jnp
import numpy as np
import pydantic
import torch
import transformers
from flax import nnx

from nlm_jax.convert import checkpoint, formats, io
from nlm_jax.convert.leaves import abstract
from nlm_jax.core.tree import nest
from nlm_jax.data.text import embedded_directory
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.model import LlamaModel
from nlm_jax.models.presets import preset
from nlm_jax.models.qformer.config import QFormerConfig
from nlm_jax.nn.attention import attend
from nlm_jax.nn.masks import packed_causal

CHAT = "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}"
CHAT += "<|eot_id|>{% endfor %}"


def stock_llama(folder: pathlib.Path, *, shards: str = "60KB") -> pathlib.Path:
    """A Llama as the hub has it: rows for its own tokenizer only, no [PAD] anywhere, sharded, several eos ids."""
    folder.mkdir(parents=True)
    content = json.loads((embedded_directory() / "tokenizer.json").read_text())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "[PAD]"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    rows = max(ids.values()) + 1
    settings = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    more = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT, "model_max_length": 131072}
    (folder / "special_tokens_map.json").write_text(json.dumps(settings))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | more))
    ends = [ids["<|end_of_text|>"], ids["<|eot_id|>"]]
    torch.manual_seed(0)
    hf = transformers.LlamaConfig(
        vocab_size=rows, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=ids["<|begin_of_text|>"], eos_token_id=ends, max_position_embeddings=4096,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(hf)
    model.save_pretrained(folder, max_shard_size=shards)
    generation = {"bos_token_id": hf.bos_token_id, "eos_token_id": ends, "do_sample": True, "temperature": 0.6}
    (folder / "generation_config.json").write_text(json.dumps(generation | {"top_p": 0.9}))
    return folder


def model_config(rows: int) -> NatureLMConfig:
    """Small, but with the Q-Former that the official class always builds."""
    cfg = preset("tiny")
    llama = dataclasses.replace(
        cfg.llama, vocab=rows, width=32, layers=2, head_dim=8, mlp=48, rope_theta=10000.0, rope_scaling=None, eps=1e-6,
        max_positions=4096,
    )  # fmt: skip
    beats = dataclasses.replace(cfg.beats, layers=1, width=48, mlp=64)
    return dataclasses.replace(cfg, beats=beats, llama=llama, qformer=QFormerConfig())


def random_checkpoint(cfg: NatureLMConfig, seed: int = 0) -> checkpoint.Checkpoint:
    """A model of noise with norms near one."""
    rng = np.random.default_rng(seed)

    def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
        near = 1.0 if path.endswith("/scale") else 0.0
        return (near + 0.05 * rng.standard_normal(shape, np.float32)).astype(np.float32)

    return checkpoint.Checkpoint(cfg, {path: draw(path, leaf.shape) for path, leaf in abstract(cfg).items()})


def microsoft_beats(folder: pathlib.Path, source: checkpoint.Checkpoint) -> pathlib.Path:
    """The encoder of `made` as a `.pt` of Microsoft's."""
    formats.save(source, folder, "beats")
    return folder / "beats.pt"


def trainer_modules() -> types.ModuleType:
    """`NatureLM.config` with pydantic classes as the official trainer's, importable until `forget`."""
    package, module = types.ModuleType("NatureLM"), types.ModuleType("NatureLM.config")
    sys.modules |= {"NatureLM": package, "NatureLM.config": module}

    class ModelConfig(pydantic.BaseModel, extra="forbid", validate_assignment=True):
        llama_path: pathlib.Path
        beats_path: pathlib.Path | None = None
        lora_rank: int = 8

    class RunConfig(pydantic.BaseModel, extra="forbid"):
        output_dir: pathlib.Path
        noise_dirs: list[pathlib.Path]

    class Config(pydantic.BaseModel, extra="forbid"):
        model: ModelConfig
        run: RunConfig | None = None

    for source in (ModelConfig, RunConfig, Config):
        source.__module__, source.__qualname__ = module.__name__, source.__name__
        setattr(module, source.__name__, source)
    return module


def forget() -> None:
    """As in a process that has never seen the official code."""
    for name in [n for n in sys.modules if n == "NatureLM" or n.startswith("NatureLM.")]:
        del sys.modules[name]


def runner_checkpoint(path: pathlib.Path, state: dict[str, torch.Tensor], **options) -> pathlib.Path:
    """What the official trainer saves: model, optimizer, config (pydantic objects), scaler, epoch."""
    module = trainer_modules()
    config = module.Config(
        model={"llama_path": "llama", "beats_path": "beats.pt"}, run={"output_dir": "out", "noise_dirs": ["a", "b"]}
    )
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    content = {"model": state, "optimizer": optimizer.state_dict(), "config": dict(config)}
    torch.save(content | {"scaler": torch.amp.GradScaler("cpu").state_dict(), "epoch": 3}, path, **options)
    forget()
    return path


def trained_state(folder: pathlib.Path, source: checkpoint.Checkpoint) -> dict[str, torch.Tensor]:
    """The state dict the official trainer would save of `made`: without the frozen language model."""
    formats.save(source, folder, "naturelm")
    state = {name: io.to_torch(view) for name, view in io.read_tensors(folder).items()}
    return {n: t for n, t in state.items() if not n.startswith("llama_model.") or ".lora_" in n}


def language_model(source: checkpoint.Checkpoint) -> LlamaModel:
    """The language model of a checkpoint, whatever else it holds."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: LlamaModel(source.config.llama, rngs=nnx.Rngs(0))))
    leaves = {path: jnp.asarray(leaf) for path, leaf in source.leaves.items() if path.startswith("llama/")}
    nnx.replace_by_pure_dict(state, nest(leaves)["llama"])
    return nnx.merge(graphdef, state)


def next_logits(llama: LlamaModel, ids) -> jnp.ndarray:
    """f32[B, S, V] of token ids i32[B, S], text alone."""
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    mask = packed_causal(jnp.ones_like(ids))
    hidden, _ = llama(
        llama.embed_tokens(ids, jnp.float32), positions, lambda c, _l, q, k, v: (attend(q, k, v, mask), c)
    )
    return llama.logits(hidden)
