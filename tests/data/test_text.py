"""Tokenizers, template and token sequences against the official ids, and against transformers itself."""

import json
import pickle
import subprocess
import sys

import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.data import text
from nlm_jax.data.text import Tokenizer, answer_tokens, build_sequence, normalize_query, prompt_parts
from nlm_jax.prepare import embedded_tokenizer


@pytest.fixture(scope="module")
def prompts(golden):
    return json.loads((golden / "prompts.json").read_text())


@pytest.fixture(scope="module")
def official(golden):
    return Tokenizer.from_pretrained(golden / "llama")


def test_special_ids(prompts, official):
    ids = prompts["special_token_ids"]
    assert (official.bos_id, official.pad_id, official.vocab_size) == (395, 400, 401)
    assert official.eos_ids == (ids["<|end_of_text|>"], ids["<|eot_id|>"])
    assert {name: official.encode(name) for name in ids} == {name: [i] for name, i in ids.items()}


def test_prompt_parts(prompts, official):
    assert prompts["prompt_template"] == text.DEFAULT_TEMPLATE
    assert prompts["end_sym"] == text.DEFAULT_END_SYM
    for case in prompts["prompts"]:
        assert prompt_parts(official, case["prompt"]) == case["part_token_ids"]
        assert len(case["part_token_ids"]) == case["n_audios"] + 1


def test_answers(prompts, official):
    for case in prompts["texts"]:
        ids = answer_tokens(official, case["text"], prompts["end_sym"], prompts["max_txt_len"])
        assert ids == case["target_token_ids"]
        assert (ids[-1] == official.eos_ids[0]) == case["ends_with_end_sym"]


def test_plain_text(prompts, official):
    for case in prompts["tokenizer_only"]:
        assert official.encode(case["text"]) == case["ids_without_special"]
        assert [official.bos_id, *official.encode(case["text"])] == case["ids_with_special"]
        assert official.decode(case["ids_with_special"][1:], skip_special=False) == case["decoded"]
        assert official.decode(case["ids_with_special"]) == case["decoded_skip_special"]


def test_instructions(prompts):
    for case in prompts["processor"]:
        ours = text.DEFAULT_TEMPLATE.replace("{}", normalize_query(case["instruction"], 1), 1)
        if case["instruction"].startswith("<AudioHere>"):  # the reference makes two placeholders for its one clip
            assert case["result"].count(text.PLACEHOLDER) == 2
            assert ours.count(text.PLACEHOLDER) == 1
        else:
            assert ours == case["result"]


def test_one_placeholder_per_clip():
    assert normalize_query("Same?", 2) == "<Audio><AudioHere></Audio><Audio><AudioHere></Audio> Same?"
    assert normalize_query(" Same? ", 0) == "Same?"


def test_sequence_layout(prompts, official):
    case = prompts["prompts"][5]
    sequence = build_sequence(official, case["prompt"], "None", 2, vectors_per_clip=3, max_txt_len=48)
    a, b, c = case["part_token_ids"]
    assert sequence.tokens == [395, *a, 0, 0, 0, *b, 0, 0, 0, *c, 341, 396]
    assert [s for s in sequence.audio_slot if s >= 0] == [0, 1, 2, 3, 4, 5]
    assert sequence.audio_slot[1 + len(a)] == 0
    assert sequence.tokens[sequence.answer_start :] == [341, 396]
    assert build_sequence(official, case["prompt"], None, 2, 3).n_answers == 0


def test_placeholder_count_must_match(official):
    with pytest.raises(UserError, match=r"1 <AudioHere> for 2 audio clip"):
        build_sequence(official, "<AudioHere> hm", "x", 2, 3)


def test_embedded_is_what_its_maker_makes():
    assert Tokenizer.from_pretrained("embedded").digest == embedded_tokenizer.make().digest


def test_training_is_deterministic_across_processes():
    code = "from nlm_jax.prepare import embedded_tokenizer; print(embedded_tokenizer.make().digest)"
    seen = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert seen == {embedded_tokenizer.make().digest + "\n"}


def test_saved_tokenizer_loads_in_transformers(tmp_path):
    import transformers

    ours = Tokenizer.train(["the frog calls", "a robin sings at night"] * 20, 300)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    again = Tokenizer.from_pretrained(tmp_path)
    assert len(theirs) == ours.vocab_size == again.vocab_size
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (
        ours.bos_id,
        ours.eos_ids[1],
        ours.pad_id,
    )
    for line in ("the frog sings at 1234 naïve 鳥 <|eot_id|> x", "  two\n\n lines "):
        ids = ours.encode(line)
        assert ids == again.encode(line) == theirs.encode(line, add_special_tokens=False)
        assert theirs.encode(line) == [ours.bos_id, *ids]
        assert ours.decode(ids, skip_special=False) == line
    merges = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["merges"]
    assert merges
    assert all(isinstance(m, str) for m in merges)  # the form tokenizers < 0.20 can read


def test_pad_is_appended_once(tmp_path, golden):
    first = Tokenizer.from_pretrained(golden / "llama")
    first.save(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    assert (again.vocab_size, again.pad_id, again.digest) == (401, 400, first.digest)


def test_pickles(official):
    again = pickle.loads(pickle.dumps(official))
    assert again.encode("Hello world") == official.encode("Hello world")


@pytest.mark.parametrize("name", ["/nowhere/at-all", "."])
def test_missing_tokenizer(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="embedded"):
        Tokenizer.from_pretrained(name)


def test_vocabulary_below_the_bytes():
    with pytest.raises(UserError, match="256"):
        Tokenizer.train(["a"], 100)
