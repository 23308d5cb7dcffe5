"""nlm prepare --hold-out: a validation part drawn by recording."""

import json

import numpy as np
import pytest
import soundfile

from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.schema import Example
from nlm_jax.prepare import splits
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare


def labelled(counts, parts=1):
    for label, count in counts.items():
        for k in range(count):
            for p in range(parts):
                name = f"{label}{k}.wav" + (f"#t={p},{p + 1}" if parts > 1 else "")
                yield Example(name, (name,), "What?", label, "t", label=label)


def test_share_of_every_label():
    counts = {"owl": 10, "wren": 3, "crow": 2, "rail": 1, "tit": 40}
    held_out, lonely = splits.draw(labelled(counts), 0.2)
    drawn = {label: sum(name.startswith(label) for name in held_out) for label in counts}
    assert drawn == {"owl": 2, "wren": 1, "crow": 1, "rail": 0, "tit": 8}
    assert lonely == ["rail"]


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_something_is_left_on_both_sides(fraction):
    counts = {"a": 2, "b": 7}
    held_out, _ = splits.draw(labelled(counts), fraction)
    for label, count in counts.items():
        assert 1 <= sum(name.startswith(label) for name in held_out) < count


def test_parts_of_a_recording_stay_together():
    examples = list(labelled({"owl": 8, "wren": 8}, parts=5))
    split = {}
    for example in splits.assign(examples, splits.draw(examples, 0.25)[0]):
        split.setdefault(splits.recording(example), set()).add(example.split)
    assert len(split) == 16
    assert all(len(sides) == 1 for sides in split.values())
    assert sum(sides == {"valid"} for sides in split.values()) == 4


def test_splits_do_not_depend_on_order_and_are_stable():
    examples = list(labelled({"owl": 30}))
    held_out = splits.draw(examples, 0.2)[0]
    assert splits.draw(examples[::-1], 0.2)[0] == held_out
    grown = splits.draw(list(labelled({"owl": 31})), 0.2)[0]
    assert len(held_out - grown) <= 1


def test_splits_that_a_file_gives_stay():
    with_split = [Example(str(k), (f"{k}.wav",), "q", "a", "t", label="owl", split="test") for k in range(5)]
    free = list(labelled({"owl": 5}))
    held_out, _ = splits.draw([*with_split, *free], 0.4)
    assert not held_out & {e.paths[0] for e in with_split}
    sides = [e.split for e in splits.assign([*with_split, *free], held_out)]
    assert sides[:5] == ["test"] * 5
    assert sorted(sides[5:]) == ["train"] * 3 + ["valid"] * 2


def test_examples_without_audio_go_by_their_id():
    text = [Example(str(k), (), "2+2?", "4", "t") for k in range(10)]
    assert len(splits.draw(text, 0.3)[0]) == 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("owls")
    rng = np.random.default_rng(1)
    for label, count in (("owl", 5), ("wren", 5), ("rail", 1)):
        (folder / label).mkdir()
        for k in range(count):
            soundfile.write(folder / label / f"{k}.wav", rng.uniform(-0.1, 0.1, 4000), 16000)
    return folder


def test_command(nlm, folder, tmp_path):
    status, printed, _ = nlm("prepare", folder, "--out", tmp_path / "out", "--hold-out=0.2")
    assert status == 0
    assert "in training only, for there is one recording of each: rail" in printed
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["splits"] == {"train": 9, "valid": 2}
    valid = Corpus([tmp_path / "out"], split="valid")
    assert sorted(valid.entry(e).label for e in range(len(valid))) == ["owl", "wren"]
    status, printed, _ = nlm("prepare", folder, "--out", tmp_path / "valid", "--hold-out=0.2", "--split=valid")
    assert (status, "2 examples, 2 clips" in printed) == (0, True)


def test_a_stopped_run_resumes_with_the_same_split(folder, tmp_path, monkeypatch):
    from nlm_jax.prepare import write_clips

    real, seen = write_clips.convert, []

    def convert(recipe, path):
        if len(seen) == 6:
            raise KeyboardInterrupt
        seen.append(path)
        return real(recipe, path)

    straight = prepare(PrepareOptions(folder, tmp_path / "straight", hold_out=0.4, shard_size=2))
    monkeypatch.setattr(write_clips, "convert", convert)
    options = PrepareOptions(folder, tmp_path / "out", hold_out=0.4, shard_size=2)
    with pytest.raises(KeyboardInterrupt):
        prepare(options)
    with pytest.raises(UserError, match="made with other hold_out"):
        prepare(PrepareOptions(folder, tmp_path / "out", hold_out=0.2, shard_size=2))
    with pytest.raises(UserError, match="made with other hold_out"):
        prepare(PrepareOptions(folder, tmp_path / "out", shard_size=2))
    monkeypatch.setattr(write_clips, "convert", real)
    assert prepare(options)["files"] == straight["files"]


@pytest.mark.parametrize("value", ["1", "-0.1", "nan", "inf", "20"])
def test_absurd_values(nlm, folder, tmp_path, value):
    status, _, printed = nlm("prepare", folder, "--out", tmp_path / "out", f"--hold-out={value}")
    assert (status, "the share of recordings to hold out lies between 0 and 1, as in 0.2" in printed) == (2, True)
    assert not (tmp_path / "out").exists()


def test_what_has_one_sound_is_one_recording_when_duplicates_are_dropped(tmp_path):
    """Else a label would be in the held-out part alone, once its copy is dropped from training."""
    rng = np.random.default_rng(0)
    for name in ("owl/a.wav", "wren/1.wav", "wren/2.wav", "wren/3.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "in" / name, rng.uniform(-0.3, 0.3, 16_000), 16_000)
    (tmp_path / "in/owl/copy.wav").write_bytes((tmp_path / "in/owl/a.wav").read_bytes())
    prepared = prepare(PrepareOptions(tmp_path / "in", tmp_path / "out", hold_out=0.4, duplicates="drop"))
    corpus = Corpus([str(tmp_path / "out")])
    names, codes = corpus.codes("split")
    splits = {corpus.entry(k).text: set() for k in range(len(corpus))}
    for k in range(len(corpus)):
        splits[corpus.entry(k).text].add(names[codes[k]])
    assert splits == {"owl": {"train"}, "wren": {"train", "valid"}}
    assert prepared["hold_out"]["training_only"] == ["owl"]
    assert prepared["duplicates"]["exact"] == {"within": 1, "across": 0}
