"""The figures of every stage of a model, and the signs of failure: all of them, and no others."""

import dataclasses

import numpy as np
import pytest

from nlm_jax import NatureLM
from nlm_jax.generate.check_command import show
from nlm_jax.generate.diagnostics import examine, mean_cosine, repeated, signs, statistics


def report(**changes):
    """The report of a model that works, with some of its figures changed (`part__name=value`)."""
    stage = {"shape": [1], "finite": True, "mean": 0.0, "deviation": 1.0, "least": -1.0, "largest": 1.0}
    vectors = {"norm": 2.0, "embedding_norm": 1.0, "cosine_windows": 0.5, "cosine_clips": 0.5, "nearest": []}
    first = {"entropy": 0.2, "likeliest": [("Owl", 0.9)]}
    answers = {"a": "Owl", "b": "Fox"}
    content = {"stages": {"BEATs": stage}, "vectors": vectors, "first_token": first, "answers": answers}
    for path, value in changes.items():
        part, _, name = path.partition("__")
        content[part] = value if not name else content[part] | {name: value}
    return content


def kinds(report_) -> list[str]:
    """The kind of failure of each sign."""
    return [sign.partition(":")[0] for sign in report_["signs"]]


def test_a_model_that_works():
    assert signs(report()) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"stages__BEATs": {"finite": False}},
            ["BEATs holds infinity or NaN: the weights or the recording are damaged"],
        ),
        (
            {"vectors__norm": 0.001},
            ["random outputs are likely: the vectors are 0.001 times as long as word embeddings"],
        ),
        ({"vectors__norm": 900.0}, ["random outputs are likely: the vectors are 900 times as long as word embeddings"]),
        (
            {"first_token__entropy": 0.97},
            [
                "random outputs: the distribution of the first token is nearly uniform (entropy 97% of chance)",
            ],
        ),
        (
            {"first_token__entropy": float("nan")},
            [
                "random outputs: the distribution of the first token is nearly uniform (entropy nan% of chance)",
            ],
        ),
        ({"vectors__cosine_windows": 0.99999}, ["mode collapse: all windows of a recording give the same vector"]),
        ({"vectors__cosine_clips": 0.99999}, ["mode collapse: different recordings give the same vectors"]),
        ({"answers": {"a": "Owl", "b": "Owl"}}, ["constant answers: 'Owl' for every recording"]),
        (
            {"answers": {"a": " ", "b": ""}},
            ["constant answers: '' for every recording", "empty answers: the end symbol comes first"],
        ),
        (
            {"answers": {"a": None, "b": "Owl"}},
            ["1 of 2 answers are NaN or infinite: the weights of the language model are damaged, or its input vectors"],
        ),
        (
            {"answers": {"a": None}},
            ["1 of 1 answers are NaN or infinite: the weights of the language model are damaged, or its input vectors"],
        ),
        (
            {"answers": dict(zip("abcdef", ["Owl", "Fox"] * 3, strict=True))},
            ["mode collapse: 2 different answers to 6 recordings"],
        ),
        (
            {"answers": {"a": "Owl", "b": "so on and on and on and on and on"}},
            ["an answer is in a loop: 'on and' again and again"],
        ),
    ],
)
def test_signs(changes, expected):
    assert [sign.partition(";")[0] for sign in signs(report(**changes))] == expected


@pytest.fixture(scope="module")
def failing(shared):
    """`failing(path=change, ...)`: the report of the golden model with some of its weights changed."""
    golden = shared / "golden"
    model = NatureLM.from_pretrained(golden / "model", dtype="float32", qformer_config=golden / "qformer_config.json")
    time = np.arange(16_000) / 16_000
    tone, chirp = np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * (500 + 3_000 * time) * time)
    noise = np.random.default_rng(0).normal(0, 0.3, 16_000)
    waves = {name: (0.3 * wave).astype(np.float32) for name, wave in zip("abc", (tone, chirp, noise), strict=True)}

    def build(**changes):
        leaves = dict(model.checkpoint.leaves)
        for path, change in changes.items():
            leaves[path.replace("__", "/")] = change(leaves[path.replace("__", "/")])
        changed = NatureLM(dataclasses.replace(model.checkpoint, leaves=leaves), model.tokenizer)
        return examine(changed, waves, "What is it?", 3)

    return build


def test_a_model_that_overflows(failing, capsys):
    """Missing answers are a sign among others, and the figures are shown all the same."""
    content = failing(llama__lm_head__kernel=lambda x: 1e38 * x)
    assert set(content["answers"].values()) == {None}
    assert kinds(content) == ["random outputs", "3 of 3 answers are NaN or infinite"]
    show(content, "What?")
    assert "a: no answer" in capsys.readouterr().out


def test_a_model_with_uniform_outputs(failing):
    """Weights of the output that do not distinguish tokens, and some that do."""
    content = failing(llama__lm_head__kernel=lambda x: 1e-4 * x)
    assert content["first_token"]["entropy"] > 0.999
    assert kinds(content) == ["random outputs", "constant answers"]
    surer = failing(llama__lm_head__kernel=lambda x: 3 * x)
    assert surer["first_token"]["entropy"] < 0.3
    assert kinds(surer) == ["constant answers"]


def test_a_model_whose_vectors_are_all_one(failing):
    """A projection without output: the same vector and the same answer for every recording."""
    content = failing(audio_proj__kernel=lambda x: 1e-6 * x, llama__lm_head__kernel=lambda x: 3 * x)
    assert kinds(content) == ["mode collapse", "mode collapse", "constant answers"]


def test_a_model_without_encoder_output(failing):
    content = failing(ln_audio__scale=lambda x: 1e-6 * x)
    assert kinds(content) == ["random outputs", "mode collapse", "mode collapse", "constant answers"]


def test_a_model_of_another_language_model(failing):
    content = failing(audio_proj__kernel=lambda x: 1e3 * x)
    assert kinds(content) == ["random outputs are likely", "random outputs"]


def test_a_model_with_one_answer(failing):
    """Its audio vectors differ, but do not affect the output: one token always wins."""
    content = failing(llama__norm__scale=lambda x: 1e-9 * x)
    assert kinds(content) == ["random outputs", "constant answers"]


def test_repeated():
    assert repeated("la la la la") == "la"
    assert repeated("an owl, an owl, an owl, an owl,") == "an owl,"
    assert repeated("Owl, Owl, Owl") == ""


def test_figures():
    figures = statistics(np.array([[1.0, 3.0]], np.float32))
    assert figures == {"shape": [1, 2], "finite": True, "mean": 2.0, "deviation": 1.0, "least": 1.0, "largest": 3.0}
    assert mean_cosine(np.array([[1.0, 0.0], [0.0, 1.0]])) == 0.0
    np.testing.assert_allclose(mean_cosine(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])), 1.0)
