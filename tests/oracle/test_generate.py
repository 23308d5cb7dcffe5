"""Greedy decoding and beam search, token for token, against the official answers; the facade from file to text."""

import json

import pytest

from nlm_jax.core.errors import UserError


@pytest.fixture(scope="module")
def every_case(golden):
    return json.loads((golden / "generate.json").read_text())["cases"]


@pytest.fixture(scope="module")
def cases(every_case):
    return [c for c in every_case if c["config"]["num_beams"] == 1]


@pytest.fixture(scope="module")
def beam_cases(every_case):
    return [c for c in every_case if c["config"]["num_beams"] > 1]


def ask(load_model, clips, case, **options):
    waves, audios = iter(clips(name) for name in case["audio"]), []
    for count in case["audio_chunk_sizes"]:
        audios.append([next(waves) for _ in range(count)])
    how = case["config"]
    model = load_model(case["weights"], how["merging_alpha"])
    return model.generate(
        audios,
        case["prompts"],
        max_new_tokens=how["max_new_tokens"],
        num_beams=how["num_beams"],
        length_penalty=how["length_penalty"],
        repetition_penalty=how["repetition_penalty"],
        return_ids=True,
        **options,
    )


def expected(case):
    """The official rows without the padding behind their end symbol."""
    rows = []
    for row in case["token_ids"]:
        end = next((i for i, t in enumerate(row) if t in (396, 399)), len(row) - 1)
        assert all(t == 400 for t in row[end + 1 :])
        rows.append(row[: end + 1])
    return rows


def test_every_official_greedy_answer(load_model, clips, cases):
    assert len(cases) == 53
    kinds = {"quirk": 0, "batch": 0, "several clips": 0, "merged": 0}
    for case in cases:
        quirk = case.get("right_padded_quirk", False)
        stops = case["contains_id_2"]
        kinds["quirk"] += quirk
        kinds["batch"] += len(case["prompts"]) > 1
        kinds["several clips"] += max(case["audio_chunk_sizes"]) > 1
        kinds["merged"] += case["config"]["merging_alpha"] != 1.0
        ids = ask(load_model, clips, case, right_pad=quirk, stop_batch_at_id_2=stops)
        assert ids == expected(case), case["options"]
    assert all(kinds.values()), kinds


def test_official_beams(load_model, clips, beam_cases):
    """One clip of 4.7 s and all settings of beams, penalties and adapter; the slow test has the other shapes."""
    chosen = [c for c in beam_cases if c["audio"] == ["clip_4p7s"] and c["config"]["max_new_tokens"] <= 24]
    assert {c["config"]["length_penalty"] for c in chosen} == {-1.0, 0.2, 1.0, 2.0}
    assert {c["config"]["num_beams"] for c in chosen} == {2, 4}
    assert any(c["config"]["repetition_penalty"] > 1 for c in chosen)
    for case in chosen:
        ids = ask(load_model, clips, case, stop_batch_at_id_2=case["contains_id_2"])
        assert ids == expected(case), case["options"]


@pytest.mark.slow
def test_every_official_beam_answer(load_model, clips, beam_cases):
    assert len(beam_cases) == 67
    for case in beam_cases:
        quirk, stops = case.get("right_padded_quirk", False), case["contains_id_2"]
        assert ask(load_model, clips, case, right_pad=quirk, stop_batch_at_id_2=stops) == expected(case)


def test_a_batch_answers_as_each_alone(load_model, clips, cases):
    """Different prompts and clip counts in one batch: padding on the left must not show."""
    chosen = [c for c in cases if c["weights"] == "fitted" and len(c["prompts"]) == 1 and not c["contains_id_2"]]
    chosen = [c for c in chosen if c["config"]["merging_alpha"] == 1.0 and c["config"]["repetition_penalty"] == 1.0][:6]
    audios = [[clips(name) for name in c["audio"]] for c in chosen]
    limit = min(c["config"]["max_new_tokens"] for c in chosen)
    ids = load_model("fitted").generate(
        audios, [c["prompts"][0] for c in chosen], max_new_tokens=limit, batch_size=4, return_ids=True
    )
    assert ids == [expected(c)[0][:limit] for c in chosen]
    assert len({len(c["prompts"][0]) for c in chosen}) > 1


def test_files_to_answers(load_model, golden):
    info = json.loads((golden / "pipeline.json").read_text())
    greedy = [c for c in info["cases"] if c["config"]["num_beams"] == 1]
    assert greedy
    for case in greedy:
        model, n = load_model(case["weights"]), case["config"]["max_new_tokens"]
        ids = model.generate([golden / case["wav"]], [case["instruction"]], max_new_tokens=n, return_ids=True)
        assert ids == case["token_ids"]
        assert model.generate([golden / case["wav"]], [case["instruction"]], max_new_tokens=n) == case["text"]


def test_a_mesh_gives_the_same_answers(golden, load_model, clips):
    from nlm_jax.generate.api import NatureLM
    from nlm_jax.mesh.build import make_mesh

    sharded = NatureLM.from_pretrained(
        golden / "model",
        dtype="float32",
        qformer_config=golden / "qformer_config.json",
        mesh=make_mesh(data=2, fsdp=2, tensor=2),
    )
    audios, queries = [clips("clip_2s"), clips("clip_4p7s")], ["Caption the audio.", "What is it?"]
    assert sharded.generate(audios, queries, 12) == load_model().generate(audios, queries, 12)


def test_messages(model, clips):
    clip = clips("clip_2s")
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
