"""Greedy decoding and beam search, token for token, against the official answers; the facade from file to text."""

import json

import numpy as np
import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.generate.api import NatureLM
from nlm_jax.generate.prompts import check_texts


@pytest.fixture(scope="module")
def every_case(golden):
    return json.loads((golden / "generate.json").read_text())["cases"]


@pytest.fixture(scope="module")
def cases(every_case):
    return [c for c in every_case if c["config"]["num_beams"] == 1]


@pytest.fixture(scope="module")
def beam_cases(every_case):
    return [c for c in every_case if c["config"]["num_beams"] > 1]


def answers(load_model, clips, case, **options):
    """Token ids of our answers to the queries of a golden case."""
    waves, audios = iter(clips(name) for name in case["audio"]), []
    for count in case["audio_chunk_sizes"]:
        audios.append([next(waves) for _ in range(count)])
    config = case["config"]
    model = load_model(case["weights"], config["merging_alpha"])
    return model.generate(
        audios,
        case["prompts"],
        max_new_tokens=config["max_new_tokens"],
        num_beams=config["num_beams"],
        length_penalty=config["length_penalty"],
        repetition_penalty=config["repetition_penalty"],
        return_ids=True,
        **options,
    )


def expected(case):
    """The official rows without the padding after their end symbol."""
    rows = []
    for row in case["token_ids"]:
        end = next((i for i, t in enumerate(row) if t in (396, 399)), len(row) - 1)
        assert all(t == 400 for t in row[end + 1 :])
        rows.append(row[: end + 1])
    return rows


def test_every_official_greedy_answer(load_model, clips, cases, golden_set):
    assert len(cases) == (27 if golden_set.is_small else 53)
    kinds = {"quirk": 0, "batch": 0, "several clips": 0, "merged": 0}
    for case in cases:
        quirk = case.get("right_padded_quirk", False)
        stops = case["contains_id_2"]
        kinds["quirk"] += quirk
        kinds["batch"] += len(case["prompts"]) > 1
        kinds["several clips"] += max(case["audio_chunk_sizes"]) > 1
        kinds["merged"] += case["config"]["merging_alpha"] != 1.0
        ids = answers(load_model, clips, case, right_pad=quirk, stop_batch_at_id_2=stops)
        assert ids == expected(case), case["options"]
    assert all(kinds.values()), kinds


def test_official_beams(load_model, clips, beam_cases):
    """One clip of 4.7 s and all settings of beams, penalties and adapter; the slow test has the other shapes."""
    selected = [c for c in beam_cases if c["audio"] == ["clip_4p7s"] and c["config"]["max_new_tokens"] <= 24]
    assert {c["config"]["length_penalty"] for c in selected} == {-1.0, 0.2, 1.0, 2.0}
    assert {c["config"]["num_beams"] for c in selected} == {2, 4}
    assert any(c["config"]["repetition_penalty"] > 1 for c in selected)
    for case in selected:
        ids = answers(load_model, clips, case, stop_batch_at_id_2=case["contains_id_2"])
        assert ids == expected(case), case["options"]


@pytest.mark.slow
def test_every_official_beam_answer(load_model, clips, beam_cases, golden_set):
    assert len(beam_cases) == (35 if golden_set.is_small else 67)
    for case in beam_cases:
        quirk, stops = case.get("right_padded_quirk", False), case["contains_id_2"]
        assert answers(load_model, clips, case, right_pad=quirk, stop_batch_at_id_2=stops) == expected(case)


def test_a_batch_answers_as_each_alone(load_model, clips, cases):
    """Different prompts and clip counts in one batch: padding must not change an answer."""
    model = load_model("fitted")
    selected = [c for c in cases if c["weights"] == "fitted" and len(c["prompts"]) == 1 and not c["contains_id_2"]]
    selected = [
        c for c in selected if c["config"]["merging_alpha"] == 1.0 and c["config"]["repetition_penalty"] == 1.0
    ][:6]
    audios = [[clips(name) for name in c["audio"]] for c in selected]
    limit = min(c["config"]["max_new_tokens"] for c in selected)
    ids = model.generate(
        audios, [c["prompts"][0] for c in selected], max_new_tokens=limit, batch_size=4, return_ids=True
    )
    assert ids == [expected(c)[0][:limit] for c in selected]
    assert len({len(c["prompts"][0]) for c in selected}) > 1


def test_files_to_answers(load_model, golden):
    cases = json.loads((golden / "pipeline.json").read_text())["cases"]
    assert {c["config"]["num_beams"] for c in cases} == {1, 2}
    for case in cases:
        model, query = load_model(case["weights"]), ([golden / case["wav"]], [case["instruction"]])
        config = {"max_new_tokens": case["config"]["max_new_tokens"], "num_beams": case["config"]["num_beams"]}
        assert model.generate(*query, **config, return_ids=True) == case["token_ids"]
        assert model.generate(*query, **config) == case["text"]


def test_prepared_files_to_vectors(load_model, arrays, limit):
    """The official processor's samples of two files, padded to 10 s, as input of the fitted model."""
    processed = arrays("processor")
    for name in ("stereo", "mono"):
        wave = np.zeros((1, int(processed[f"{name}__n_total"])), np.float32)
        wave[0, : len(processed[f"{name}__prepared"])] = processed[f"{name}__prepared"]
        ours = np.asarray(load_model("fitted").encode_audio(wave))
        allowed = limit("qformer.npz", "clip_10s__audio_embeds") + 10 * max(limit.input_noise["audio_embeds"].values())
        assert np.abs(ours - processed[f"{name}__fitted_audio_embeds"]).max() <= allowed


def test_beam_scores(load_model, clips, beam_cases, limit):
    """The sum of log-probabilities over length ** length_penalty, as in the official search."""
    selected = [c for c in beam_cases if c["audio"] == ["clip_4p7s"] and not c["contains_id_2"]]
    selected = [c for c in selected if c["config"]["max_new_tokens"] <= 24][:8]
    assert len({c["config"]["length_penalty"] for c in selected}) > 1
    for case in selected:
        config = case["config"]
        engine = load_model(case["weights"], config["merging_alpha"]).engine(slots=1, num_beams=config["num_beams"])
        options = {name: config[name] for name in ("max_new_tokens", "length_penalty", "repetition_penalty")}
        future = engine.submit(clips("clip_4p7s"), case["prompts"][0], **options)
        engine.run()
        assert future.result().ids == expected(case)[0]
        scale = max(1.0, len(expected(case)[0]) ** (1 - config["length_penalty"]))
        difference = abs(future.result().score - case["sequences_scores"][0])
        assert difference <= limit("fitted_forward.npz", "batch1__logits") * scale, case["options"]


def test_bfloat16_decides_as_the_reference_does(golden, arrays, clips):
    """Ours differ from the float32 arrays by at most twice as much as the official code under bfloat16 autocast."""
    info = json.loads((golden / "bf16_reference.json").read_text())
    model = NatureLM.from_pretrained(golden / "model", qformer_config=golden / "qformer_config.json")
    exact = arrays("qformer")
    for clip, theirs in info["audio_embeds"].items():
        off = np.abs(np.asarray(model.encode_audio(clips(clip)[None])) - exact[f"{clip}__audio_embeds"])
        assert off.mean() <= 2 * theirs["f32_wave_mean_abs_diff"], clip


def test_a_mesh_gives_the_same_answers(golden, load_model, clips):
    from nlm_jax.mesh.build import make_mesh

    sharded = NatureLM.from_pretrained(
        golden / "model",
        dtype="float32",
        qformer_config=golden / "qformer_config.json",
        mesh=make_mesh(data=2, fsdp=2, tensor=2),
    )
    audios, queries = [clips("clip_2s"), clips("clip_4p7s")], ["Caption the audio.", "What is it?"]
    assert sharded.generate(audios, queries, 12) == load_model().generate(audios, queries, 12)


def test_encode_audio_refuses_invalid_arrays(model, clips):
    clip = clips("clip_2s")
    for waves, padding, message in (
        (clip, None, r"waveforms of shape \(32000,\): give f32\[B, T\]"),
        (clip[None, None], None, r"waveforms of shape \(1, 1, 32000\)"),
        (np.zeros((0, 32000), np.float32), None, r"waveforms of shape \(0, 32000\)"),
        ([clip, clip[:-1]], None, "rows differ in length"),
        ((clip[None] * 32767).astype(np.int16), None, "divide integers"),
        (clip[None] > 0, None, "array of bool"),
        (np.full((1, 32000), np.nan, np.float32), None, "NaN"),
        (clip[None, :2000], None, "too short"),
        (clip[None], np.zeros((1, 100), bool), r"padding_mask of shape \(1, 100\)"),
        (clip[None], np.zeros(32000, bool), "padding_mask of shape"),
    ):
        with pytest.raises(UserError, match=message):
            model.encode_audio(waves, padding)
    same = model.encode_audio(clip[None])
    np.testing.assert_array_equal(model.encode_audio([clip.astype(np.float64)]), same)  # a list of rows


def test_teacher_forcing_refuses_invalid_arguments(model, clips):
    clip = clips("clip_2s")
    one = model.loss(["<AudioHere> What?"], ["a"], [[clip]])
    assert model.loss(["<AudioHere> What?"], ["a"], [clip]) == one  # a bare array is one clip
    for prompts, texts, audios, message in (
        ([], [], [], "one or more prompts"),
        (["What?"], ["a", "b"], [[clip]], "2 texts for 1 prompts"),
        (["What?", "Who?"], "ab", [[clip], [clip]], "texts: give a list of texts"),
        (["What?"], ["a"], [["a.wav"]], "audio 'a.wav': give an array"),
        (["What?"], ["a"], [[np.stack([clip, clip])]], r"shape \(2, 32000\)"),
        (["<AudioHere> <AudioHere>?"], ["a"], [[clip]], "2 <AudioHere> for 1 audio"),
    ):
        for method in (model.loss, model.logits):
            with pytest.raises(UserError, match=message):
                method(prompts, texts, audios)


def test_messages(model, clips, golden):
    clip = clips("clip_2s")
    for audio, message in ((None, "audio 'None'"), (clip.tolist()[:3], "give an array of samples"), ({}, "audio '{}'"),
                        (np.array(["a"]), "array of <U1"), (clip.astype(np.complex64), "complex64")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            model.generate([audio], ["What?"])
    with pytest.raises(UserError, match="queries: holds None"):
        check_texts("queries", ["What?", None])
    with pytest.raises(UserError, match="repetition_penalty=0"):
        model.generate([clip], ["What?"], repetition_penalty=0.0)
    with pytest.raises(UserError, match="batch_size=0"):
        model.generate_windows(golden / "wav" / "mono.wav", "What?", batch_size=0)
    with pytest.raises(UserError, match="1 audios for 2 queries"):
        model.generate([clip], ["a", "b"])
    with pytest.raises(UserError, match=r"2 <AudioHere> for 1 audio"):
        model.generate([clip], ["<AudioHere> <AudioHere> same?"])
    with pytest.raises(UserError, match="too short"):
        model.generate([clip[:2000]], ["What is it?"])
    with pytest.raises(UserError, match="no such file"):
        model.generate(["nowhere.wav"], ["What is it?"])
    with pytest.raises(UserError, match="max_new_tokens=0"):
        model.generate([clip], ["What is it?"], max_new_tokens=0)
