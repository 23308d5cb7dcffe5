"""Directories of a language model as other programs read them: they begin, pad and stop as this one does."""

import dataclasses
import json

import hub_files
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import peft
import pytest
import torch
import transformers
from flax import nnx

from nlm_jax.convert import formats, io, run_file
from nlm_jax.convert.nlm_format import TOKENIZER
from nlm_jax.core.chat import DEFAULT_TEMPLATE
from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import nest
from nlm_jax.data.text import Tokenizer, embedded_directory

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning:peft")
NEW = 40
RESERVE = 64


@pytest.fixture(scope="module")
def from_nothing():
    """A model with no files behind it but the embedded tokenizer's; its ends of text are likely enough to be said."""
    tokenizer = Tokenizer.from_pretrained(embedded_directory())
    generated = hub_files.random_checkpoint(hub_files.model_config(tokenizer.vocab_size), seed=1)
    head = 4 * generated.leaves["llama/lm_head/kernel"]
    head[:, list(tokenizer.eos_ids)] *= 1.6
    head[:, tokenizer.pad_id] = 0
    return dataclasses.replace(
        generated, leaves=generated.leaves | {"llama/lm_head/kernel": head}, tokenizer=embedded_directory()
    )


def ours(llama, tokenizer, ids):
    """Greedy, until an end."""
    graphdef, state = nnx.split(llama)
    step = jax.jit(lambda state, ids: hub_files.next_logits(nnx.merge(graphdef, state), ids))
    ids = list(ids)
    for _ in range(NEW):
        padded = np.zeros((1, RESERVE), np.int32)
        padded[0, : len(ids)] = ids
        ids.append(int(step(state, padded)[0, len(ids) - 1].argmax()))
        if ids[-1] in tokenizer.eos_ids:
            break
    return ids


def theirs(model, ids):
    generated = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=NEW)
    return generated[0].tolist()


def prompts(tokenizer):
    return [
        [tokenizer.bos_id, *tokenizer.encode(text)] for text in ("What is it?", "owl", "A bird", "None", "in a lake")
    ]


@pytest.mark.parametrize("where", ["merged", "llama", "peft"])
def test_generation_stops_by_itself(from_nothing, tmp_path, where):
    """The merged model, the language model next to the official layout, and the adapter on the one next to it."""
    tokenizer = Tokenizer.from_pretrained(embedded_directory())
    if where == "merged":
        formats.save(from_nothing, tmp_path / "out", "llama-merged")
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        llama = formats.open_checkpoint(tmp_path / "out").load()
    elif where == "llama":
        formats.save(from_nothing, tmp_path / "out", "naturelm", with_base=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "llama")
        llama = formats.open_checkpoint(tmp_path / "out" / "llama").load()
    else:
        formats.save(from_nothing, tmp_path / "out", "peft", with_base=True)
        model = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")
        llama = from_nothing
    llama = hub_files.language_model(llama)
    ended = 0
    for ids in prompts(tokenizer):
        expected = ours(llama, tokenizer, ids)
        assert theirs(model, ids) == expected
        ended += expected[-1] in tokenizer.eos_ids
    assert ended > 0  # by itself, and not at max_new_tokens


def test_ids_of_a_model_from_scratch(from_nothing, tmp_path):
    tokenizer = Tokenizer.from_pretrained(embedded_directory())
    formats.save(from_nothing, tmp_path / "out", "llama-merged")
    for file in ("config.json", "generation_config.json"):
        content = io.read_json(tmp_path / "out" / file)
        assert content["bos_token_id"] == tokenizer.bos_id
        assert set(content["eos_token_id"]) == set(tokenizer.eos_ids)
        assert content["pad_token_id"] == tokenizer.pad_id
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (read.pad_token_id, len(read)) == (tokenizer.pad_id, tokenizer.vocab_size)
    turn = read.apply_chat_template([{"role": "user", "content": "Who?"}], add_generation_prompt=True, tokenize=False)
    assert turn == read.bos_token + DEFAULT_TEMPLATE.replace("{}", "Who?")


def test_an_end_symbol_of_its_own_ends(from_nothing, tmp_path):
    """Answers were trained to end with it, whatever the tokenizer calls its end."""
    config = dataclasses.replace(from_nothing.config, end_sym="<|start_header_id|>")
    formats.save(dataclasses.replace(from_nothing, config=config), tmp_path / "out", "llama-merged")
    end = Tokenizer.from_pretrained(embedded_directory()).encode("<|start_header_id|>")[0]
    assert end in io.read_json(tmp_path / "out" / "generation_config.json")["eos_token_id"]


@pytest.fixture
def stock(tmp_path):
    return hub_files.stock_llama(tmp_path / "stock")


@pytest.mark.parametrize("pad_row", [True, False])
def test_a_stock_llama_s_files_stay(stock, tmp_path, pad_row):
    """Its settings are its own; [PAD] comes into them with its row, and only then."""
    formats.save(formats.open_checkpoint(stock).lazily(), tmp_path / "out", "llama-merged", pad_row=pad_row)
    before, after = (io.read_json(d / "config.json") for d in (stock, tmp_path / "out"))
    rows = before["vocab_size"]
    added = {"vocab_size": rows + 1, "pad_token_id": rows} if pad_row else {}
    assert {k: v for k, v in after.items() if k != "torch_dtype"} == before | added
    before, after = (io.read_json(d / "generation_config.json") for d in (stock, tmp_path / "out"))
    assert after == before | ({"pad_token_id": rows} if pad_row else {})
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(read) == rows + pad_row
    assert read.pad_token == ("[PAD]" if pad_row else None)
    assert read.chat_template == hub_files.CHAT
    if not pad_row:
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            assert (tmp_path / "out" / name).read_bytes() == (stock / name).read_bytes()


def test_a_merged_llama_gets_no_second_pad_row(stock, tmp_path):
    first = formats.open_checkpoint(stock)
    for name in ("once", "twice", "three times"):
        formats.save(formats.open_checkpoint(stock).lazily(), tmp_path / name, "llama-merged")
        stock = tmp_path / name
        assert formats.open_checkpoint(stock).config == first.config
    formats.save(formats.open_checkpoint(stock, pad_rows=0).lazily(), tmp_path / "nlm", "nlm")
    assert formats.open_checkpoint(tmp_path / "nlm").config == first.config


def test_no_pad_is_left_over(from_nothing, tmp_path):
    formats.save(from_nothing, tmp_path / "out", "llama-merged", pad_row=False)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(read) == io.read_json(tmp_path / "out/config.json")["vocab_size"] == from_nothing.config.llama.vocab - 1
    assert read.pad_token is None
    assert "pad_token_id" not in io.read_json(tmp_path / "out" / "config.json")


def test_ids_that_a_library_invented_are_removed(stock, tmp_path):
    """LlamaConfig writes bos 1 and eos 2 where nobody said better; here these are ordinary tokens."""
    config = io.read_json(stock / "config.json") | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": -1}
    (stock / "config.json").write_text(json.dumps(config))
    (stock / "generation_config.json").unlink()
    formats.save(formats.open_checkpoint(stock).lazily(), tmp_path / "out", "llama-merged")
    tokenizer = Tokenizer.from_pretrained(stock)
    for file in ("config.json", "generation_config.json"):
        content = io.read_json(tmp_path / "out" / file)
        assert (content["bos_token_id"], content["pad_token_id"]) == (tokenizer.bos_id, tokenizer.pad_id)
        assert set(content["eos_token_id"]) == set(tokenizer.eos_ids)


# --- the adapter and what it goes on ----------------------------------------------------------------------------------


@pytest.fixture
def workdir(stock, tmp_path):
    """`workdir(trained)`: a run on the stock Llama that trained the weights at `trained`, a test of paths."""

    def make(trained, name="run"):
        opened = formats.open_checkpoint(stock)
        rows = opened.config.llama.vocab
        cfg = hub_files.model_config(rows)
        cfg = dataclasses.replace(cfg, llama=dataclasses.replace(opened.config.llama, lora=cfg.llama.lora))
        every = hub_files.random_checkpoint(cfg).leaves | dict(opened.load().leaves)
        changed = {p: jnp.asarray(leaf) + jnp.float32(0.5) for p, leaf in every.items() if trained(p)}
        with ocp.CheckpointManager(tmp_path / name / run_file.CHECKPOINTS / "s" / "last") as manager:
            manager.save(1, args=ocp.args.Composite(params=ocp.args.StandardSave(nest(changed))))
        drawn = {p: leaf for p, leaf in every.items() if p not in changed and not p.startswith("llama/")}
        generated = [io.Entry(p, x.shape, x.dtype, lambda x=x: iter((x,))) for p, x in drawn.items()]
        io.write_safetensors(tmp_path / name / run_file.FROZEN, generated)
        (tmp_path / name / TOKENIZER).mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            (tmp_path / name / TOKENIZER / file).write_bytes((stock / file).read_bytes())
        imports = ({"src": str(stock), "kind": "llama", "pad_rows": 1},)
        run_file.write_run(tmp_path / name, run_file.Run(cfg, imports, {}, ("s",), {}, llama=dict(opened.llama)))
        return tmp_path / name

    return make


IDS = np.random.default_rng(5).integers(0, 500, (2, 40))


def logits(model) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(IDS)).logits.float().numpy()


def test_an_adapter_names_its_language_model(nlm, workdir, stock, tmp_path, llama_logits):
    status, stdout, err = nlm("export", workdir(lambda p: "lora_" in p), "--format=peft", "--out", tmp_path / "out")
    assert status == 0, err
    assert f"the adapter applies to the language model {stock}" in stdout
    assert io.read_json(tmp_path / "out/adapter_config.json")["base_model_name_or_path"] == str(stock)
    generated = logits(peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out"))
    expected = llama_logits(hub_files.language_model(formats.open_checkpoint(tmp_path / "run").load()), IDS)
    np.testing.assert_allclose(generated, expected[..., :-1], atol=2e-5, rtol=0)
    assert len(transformers.AutoTokenizer.from_pretrained(tmp_path / "out")) == generated.shape[-1]


def test_an_adapter_on_a_base_that_was_trained(nlm, workdir, tmp_path, llama_logits):
    source = workdir(lambda p: p.startswith("llama/"))
    status, _, err = nlm("export", source, "--format=peft", "--out", tmp_path / "out")
    assert status == 2
    assert "the language model was trained too, so that no other has it; write it next to the adapter with" in err
    assert not (tmp_path / "out").exists()
    assert nlm("export", source, "--format=nlm", "--out", tmp_path / "nlm")[0] == 0
    assert nlm("export", tmp_path / "nlm", "--format=peft", "--out", tmp_path / "out")[0] == 2  # by way of another
    assert nlm("export", tmp_path / "nlm", "--format=peft", "--out", tmp_path / "out", "--with-base")[0] == 0
    named = io.read_json(tmp_path / "out/adapter_config.json")["base_model_name_or_path"]
    assert named == str(tmp_path / "out" / "base")
    generated = logits(peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out"))
    expected = llama_logits(hub_files.language_model(formats.open_checkpoint(source).load()), IDS)
    np.testing.assert_allclose(generated, expected[..., :-1], atol=1e-4, rtol=0)


def test_an_adapter_on_another_language_model(workdir, stock, tmp_path):
    other = hub_files.stock_llama(tmp_path / "other")
    tensors = {name: np.array(view) for name, view in io.read_tensors(other).items()}
    tensors["model.norm.weight"] += 1
    for file in other.glob("*.safetensors"):
        file.unlink()
    (other / io.INDEX).unlink()
    entries = [io.Entry(name, x.shape, x.dtype, lambda x=x: iter((x,))) for name, x in tensors.items()]
    io.write_safetensors(other / io.SINGLE, entries)
    checkpoint = formats.open_checkpoint(workdir(lambda p: "lora_" in p)).lazily()
    with pytest.raises(UserError, match=r"other is not the language model under this adapter, model\.norm\.weight"):
        formats.save(checkpoint, tmp_path / "out", "peft", llama_path=str(other))
    formats.save(checkpoint, tmp_path / "out", "peft", llama_path="someone/Llama-8B")
    assert io.read_json(tmp_path / "out/adapter_config.json")["base_model_name_or_path"] == "someone/Llama-8B"


# --- what the official class needs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "path", "says"),
    [
        ([], "{stock}", "the official class reads the language model {stock}"),
        (["--with-base"], "{out}/llama", "publish llama/ as a repository of its own"),
        (["--llama-path=someone/Llama-8B"], "someone/Llama-8B", "fetches the language model someone/Llama-8B"),
    ],
)
def test_the_language_model_of_an_official_directory(nlm, workdir, stock, tmp_path, monkeypatch, options, path, says):
    """Named so that it is found from any directory, and said."""
    monkeypatch.chdir(tmp_path)
    status, stdout, err = nlm("export", workdir(lambda p: "lora_" in p), "--format=naturelm", "--out=out", *options)
    assert status == 0, err
    names = {"stock": stock, "out": tmp_path / "out"}
    assert io.read_json(tmp_path / "out/config.json")["llama_path"] == path.format(**names)
    assert says.format(**names) in stdout
    again = formats.open_checkpoint(tmp_path / "out", llm=stock).lazily()
    assert again.base == str(stock)


def test_a_missing_language_model_is_reported(from_nothing, tmp_path):
    (note,) = formats.save(from_nothing, tmp_path / "out", "naturelm")
    assert "which holds no weights: export with --with-base to write them" in note
    odd = dataclasses.replace(from_nothing.config.qformer, width=64, heads=4)
    config = dataclasses.replace(from_nothing.config, qformer=odd)
    leaves = hub_files.random_checkpoint(config).leaves
    generated = dataclasses.replace(from_nothing, config=config, leaves=leaves)
    _, note = formats.save(generated, tmp_path / "odd", "naturelm")
    assert "cannot load this one, with width 64, heads 4: change the sizes in its init_audio_Qformer" in note


def test_a_carried_path_gives_way_to_what_was_written(golden, open_golden, tmp_path):
    opened = open_golden()
    carried = dict(opened.official) | {"llama_path": "meta-llama/Meta-Llama-3.1-8B-Instruct"}
    generated = dataclasses.replace(opened.lazily(), official=carried)
    formats.save(generated, tmp_path / "a", "naturelm")
    assert io.read_json(tmp_path / "a/config.json")["llama_path"] == "meta-llama/Meta-Llama-3.1-8B-Instruct"
    formats.save(generated, tmp_path / "b", "naturelm", with_base=True)
    assert io.read_json(tmp_path / "b/config.json")["llama_path"] == str(tmp_path / "b" / "llama")
    assert formats.open_checkpoint(tmp_path / "b").base == str(tmp_path / "b" / "llama")
