"""Instructions through `nlm prepare` and the training pipeline: splits, a directory's plan, several clips a row."""

import argparse
import json

import numpy as np
import pytest
import soundfile

from nlm_jax.core.errors import UserError
from nlm_jax.data.config import DataConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.pipeline import train_set
from nlm_jax.data.schema import Example
from nlm_jax.prepare import command
from nlm_jax.prepare.annotations import Annotations
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.prepare.resume import resume_key
from nlm_jax.prepare.tasks import templates
from nlm_jax.prepare.tasks.generate import with_instructions
from nlm_jax.prepare.tasks.schema import comparable

NAMES = (("Common Toad", "Bufo bufo"), ("Tawny Owl", "Strix aluco"), ("Red Fox", "Vulpes vulpes"))
DEFAULT = "What is the common name for the focal species in the audio?"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """18 clips of 0.2 s."""
    folder = tmp_path_factory.mktemp("toads")
    for k in range(18):
        wave = 0.3 * np.sin(2 * np.pi * (300 + 50 * k) * np.arange(3200) / 16000)
        soundfile.write(folder / f"{k}.wav", wave, 16000)
    return folder


@pytest.fixture(scope="module")
def annotated(recordings):
    """Their annotations: a default question with facts, an own question, and one without facts."""
    rows = []
    for k in range(18):
        common, scientific = NAMES[k % 3]
        row = {"id": f"clip{k}", "path": f"{k}.wav", "prompt": DEFAULT, "text": common, "task": "common-name"}
        row |= {"common_name": common, "scientific_name": scientific, "individuals": str(k % 2 + 1)}
        rows.append({**row, "split": "valid" if k > 11 else "train"})
    rows.append({**rows[2], "id": "own", "path": "3.wav", "prompt": "Is it loud?", "text": "no", "task": "loudness"})
    bare = {"id": "bare", "path": "4.wav", "prompt": DEFAULT, "text": "something", "task": "common-name"}
    rows.append({**bare, "split": "train"})
    (recordings / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return recordings / "a.jsonl"


def test_prepare_writes_instructions_by_split(annotated, tmp_path):
    tasks = "common-classification,common-detection-random,icl-individual-count,compare-same-species"
    options = PrepareOptions(annotated, tmp_path / "out", instruct=tasks, max_clips=4, encoding="pcm16", seed=7)
    manifest = prepare(options)
    counts = manifest["tasks"]
    assert counts["common-classification"] == 19
    assert counts["common-detection-random"] == 19
    assert counts["compare-same-species"] >= 15
    assert counts["loudness"] == 1, "an own question stays"
    assert counts["common-name"] == 1, "the reader's question about a recording without facts"
    assert manifest["clips"] == 18
    templates_ = templates.load()
    for split, side in (("train", "train"), ("valid", "test")):
        corpus = Corpus([tmp_path / "out"], split)
        for e in range(len(corpus)):
            entry = corpus.entry(e)
            if entry.task not in templates_ or entry.id == "bare":
                continue
            task, prompt = templates_[entry.task], comparable(entry.prompt)
            texts = [comparable(text).partition("{")[0] for text in getattr(task, side)]
            assert any(text in prompt for text in texts), (entry.task, split, entry.prompt)
            assert entry.n_clips == entry.prompt.count("<AudioHere>")
            assert entry.n_clips <= 4


def test_several_clips_reach_the_batch(annotated, tmp_path, tokenizer, fmt):
    options = PrepareOptions(
        annotated, tmp_path / "out", split="train", instruct="icl-individual-count", encoding="pcm16"
    )
    prepare(options)
    config = DataConfig(
        train=(str(tmp_path / "out"),), tasks=("icl-*",), seconds=0.2, rows=2, row_tokens=512, window_rows=4
    )
    batch = next(iter(train_set(config, tokenizer, fmt).batches()))
    corpus = Corpus([tmp_path / "out"], tasks=("icl-*",))
    sizes = {int(n) for n in corpus.n_clips}
    assert sizes <= {3, 5, 7}, "1 to 3 examples of One and of More, and the query"
    assert len(sizes) > 1
    assert batch.audio.shape[:2] == (2, config.row_clips)
    audible = np.abs(batch.audio).max(axis=-1) > 0.1
    assert audible.sum() >= 6
    wave, stored = corpus.clip(0, int(corpus.n_clips[0]) - 1), soundfile.read(annotated.parent / "0.wav")[0]
    assert np.abs(wave - stored).max() < 1e-3, "the query comes last"


def test_a_directory_records_its_tasks(annotated, tmp_path, recordings):
    out, own_tasks = tmp_path / "out", tmp_path / "mine"
    own_tasks.mkdir()
    text = (
        'voice:\n  about: x\n  needs: [species]\n  answer: "{species}"\n'
        '  train: ["Who is it?", "Who calls?", "Name it."]\n  test: ["Who goes there?"]\n'
    )
    (own_tasks / "a.yaml").write_text(text)
    options = {"instruct": "voice,common-*-options", "templates": own_tasks, "seed": 1, "tasks_per_recording": 1}
    first = prepare(PrepareOptions(annotated, out, encoding="pcm16", **options))
    assert first["tasks"]["voice"] + first["tasks"]["common-classification-options"] == 19
    assert prepare(PrepareOptions(annotated, out, encoding="pcm16", **options)) == first
    for change in (
        {"seed": 2},
        {"tasks_per_recording": 0},
        {"instruct": "voice"},
        {"max_clips": 3},
    ):
        with pytest.raises(UserError, match=f"other {next(iter(change))}"):
            prepare(PrepareOptions(annotated, out, encoding="pcm16", **(options | change)))
    (own_tasks / "a.yaml").write_text(text.replace("Name it", "Say who it is"))
    with pytest.raises(UserError, match="other templates"):
        prepare(PrepareOptions(annotated, out, encoding="pcm16", **options))
    plain = PrepareOptions(annotated, tmp_path / "plain", encoding="pcm16")
    assert not {"instruct", "templates", "seed", "tasks_per_recording", "max_clips"} & set(resume_key(plain, annotated))


def test_held_out_taxa_are_heard_in_no_training_question(annotated, tmp_path):
    (tmp_path / "taxa.txt").write_text("Strix aluco\n")
    tasks = "common-classification,common-*-options,icl-individual-count,compare-*"
    options = PrepareOptions(
        annotated, tmp_path / "out", instruct=tasks, held_out_taxa=str(tmp_path / "taxa.txt"), encoding="pcm16"
    )
    questions = list(Annotations(options).examples())
    owls = {f"{k}.wav" for k in range(18) if k % 3 == 1}
    training = [e for e in questions if e.split == "train" and e.id != "bare"]
    assert len({e.task for e in training}) >= 5
    for e in training:
        assert not owls & set(e.paths), e
        assert "Owl" not in e.prompt + e.text, e
    assert any("Tawny Owl" in e.text for e in questions if e.split == "valid"), "they are asked about in evaluation"
    assert prepare(options)["examples"] == len(questions)


def test_mistakes_of_the_flags(annotated, tmp_path):
    for invalid, message in (
        ({"instruct": "common-clasification"}, "did you mean 'common-classification'"),
        ({"instruct": "call-type"}, r"--instruct=call-type: .*a\.jsonl has no recording with the facts .*call_type"),
        ({"instruct": "all", "templates": tmp_path / "none"}, "--templates .*no such folder"),
        ({"templates": tmp_path}, "--templates goes with --instruct"),
        ({"instruct": "all", "tasks_per_recording": -1}, "--tasks-per-recording must be at least 0"),
        ({"instruct": "all", "max_clips": 0}, "--max-clips at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            prepare(PrepareOptions(annotated, tmp_path / "out", **invalid))
    assert not (tmp_path / "out").exists()


def test_flags():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    flags = ["a", "--out", "b", "--seed", "3", "--templates", "t", "--tasks-per-recording", "4", "--max-clips", "5"]
    args = parser.parse_args([*flags, "--instruct"])
    assert (args.instruct, args.seed, str(args.templates), args.tasks_per_recording) == ("all", 3, "t", 4)
    assert parser.parse_args([*flags, "--instruct", "call-type,icl-*"]).instruct == "call-type,icl-*"
    assert parser.parse_args(flags).instruct == ""


def test_tasks_use_a_recording_with_several_questions_once():
    facts = {"common_name": "Common Toad"}
    several = [Example(f"a#{k}", ("a.wav",), f"q{k}", "t", "own", facts=facts) for k in range(3)]
    several += [Example("b", ("b.wav",), f"<Audio><AudioHere></Audio> {DEFAULT}", "Common Toad", "x", facts=facts)]
    several += [Example("c", ("c.wav",), DEFAULT, "a toad, I think", "x", facts=facts)]
    questions = list(with_instructions(several, lambda e: [Example(e.id + "!", e.paths, "?", "!", "made")]))
    assert [e.id for e in questions] == ["a#0", "a#0!", "a#1", "a#2", "b!", "c", "c!"]
