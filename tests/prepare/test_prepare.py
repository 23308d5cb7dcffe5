"""Annotations to shards: readers, rejects, resuming, determinism, and what users get wrong."""

import argparse
import json

import numpy as np
import pytest
import soundfile

from nlm_jax.audio import wave
from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare import command, write_clips
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.prepare.readers import registry


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


ROW = {"path": "a.wav", "prompt": "p?", "text": "t", "task": "k"}


def test_official_format_in_all_its_shapes(tmp_path):
    rows = [ROW, {**ROW, "files": ["a.wav", "b.wav"], "path": "ignored.wav", "prompt": "q"}]
    files = [write(tmp_path / "lines.jsonl", rows)]
    for name, content in (("object.json", {"annotation": rows}), ("list.json", rows)):
        for indent in (None, 2):
            files.append(tmp_path / f"{indent}{name}")
            files[-1].write_text(json.dumps(content, indent=indent))
    files.append(tmp_path / "by hand.json")  # neither one line nor what json.dump makes
    files[-1].write_text('{"annotation": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]}\n")
    files.append(tmp_path / "bom.jsonl")
    files[-1].write_text("\ufeff" + "\r\n".join(map(json.dumps, rows)), encoding="utf-8")
    for file in files:
        result = list(registry.read(file))
        assert [e.paths for e in result] == [("a.wav",), ("a.wav", "b.wav")]
        assert [(e.prompt, e.text, e.task) for e in result] == [("p?", "t", "k"), ("q", "t", "k")]


def test_manifest_gives_every_task_of_a_clip(annotations):
    result = list(registry.read(annotations, split="valid"))
    assert {e.split for e in result} == {"valid"}
    assert [e.task for e in result[:3]] == ["common-name", "common-simple-detection", "caption"]
    assert len({e.paths for e in result[:3]}) == 1
    assert len({e.id for e in result}) == len(result)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([ROW, {"path": "a.wav", "prompt": "p", "task": "k"}], r"x\.jsonl:2: missing field 'text'"),
        ([{"prompt": "p", "text": "t", "task": "k"}], r"x\.jsonl:1: missing field 'path'"),
        ([{**ROW, "text": ["t"]}], r"x\.jsonl:1: field 'text' must be text"),
        ([{**ROW, "files": "a.wav"}], r"x\.jsonl:1: field 'files' must be a list"),
        ([ROW, "{broken"], r"x\.jsonl:2: not valid JSON"),
        (["{broken", ROW], r"x\.jsonl:1: not valid JSON"),
        ([ROW, "[1]"], r"x\.jsonl:2: expected a JSON object"),
        ([], r"holds no examples; check"),
        (
            [{**ROW, "extra_tasks": [{"task": "z", "text": "t"}]}],
            r"x\.jsonl:1: extra_tasks\[0\]: missing field 'prompt'",
        ),
        ([{**ROW, "extra_tasks": "no"}], r"x\.jsonl:1: field 'extra_tasks'"),
    ],
)
def test_bad_annotations(tmp_path, lines, message):
    file = write(tmp_path / "x.jsonl", lines)
    with pytest.raises(UserError, match=message):
        prepare(PrepareOptions(file, tmp_path / "out"))


def test_other_mistakes(tmp_path, annotations):
    for options, message in (
        (PrepareOptions(tmp_path / "none.jsonl", tmp_path / "o"), r"none\.jsonl: no such annotation file"),
        (PrepareOptions(annotations, tmp_path / "o", split="tset"), r"no examples of split 'tset'"),
        (PrepareOptions(annotations, tmp_path), r"exists and is no prepared corpus"),
        (PrepareOptions(annotations, tmp_path / "o", format="csv"), r"--format=csv"),
        (PrepareOptions(annotations, tmp_path / "o", shard_size=0), r"--shard-size"),
    ):
        (tmp_path / "something").touch()
        with pytest.raises(UserError, match=message):
            prepare(options)
    for name in ("plan.json", "manifest.json"):
        prepare(PrepareOptions(annotations, tmp_path / name, split="valid"))
        (tmp_path / name / name).write_text("{cut")
        with pytest.raises(UserError, match=rf"{name}: not valid JSON"):
            prepare(PrepareOptions(annotations, tmp_path / name, split="valid"))
    with pytest.raises(UserError, match=r"manifest\.json: not valid JSON"):
        Corpus([tmp_path / "manifest.json"])
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="UTF-8"):
        list(registry.read(tmp_path / "binary.jsonl"))


def test_bad_audio_is_rejected_by_name(tmp_path):
    soundfile.write(tmp_path / "good.wav", np.zeros(8000) + 0.25, 8000)
    soundfile.write(tmp_path / "nan.wav", np.full(10, np.nan), 8000, subtype="FLOAT")
    (tmp_path / "zero.wav").touch()
    (tmp_path / "text.wav").write_text("hello" * 30)
    names = ("good", "nan", "zero", "text", "a" * 300)  # no file system has names as long as the last one
    rows = [{**ROW, "path": f"{name}.wav"} for name in names] + [
        {**ROW, "path": "good.wav", "prompt": "<AudioHere>" * 2}
    ]
    manifest = prepare(PrepareOptions(write(tmp_path / "x.jsonl", rows), tmp_path / "out"), workers=2)
    assert (manifest["examples"], manifest["clips"]) == (1, 1)
    assert manifest["rejected"] == {"clips": 4, "examples": 5}
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    reasons = {r["file"]: r["reason"] for r in rejects}
    for file, word in (
        ("nan.wav", "NaN"),
        ("zero.wav", "empty"),
        ("text.wav", "readable"),
        ("a" * 300 + ".wav", "no such"),
    ):
        assert word in reasons[file]
    assert "2 <AudioHere> for 1 audio clip" in rejects[-1]["reason"]
    assert rejects[-1]["file"].endswith("x.jsonl:6")
    with pytest.raises(UserError, match=r"none of its 4 examples can be used.*rejects\.jsonl"):
        prepare(PrepareOptions(write(tmp_path / "y.jsonl", rows[1:5]), tmp_path / "out2"))


def test_workers_do_not_change_a_byte(annotations, prepared, tmp_path):
    prepare(PrepareOptions(annotations, tmp_path / "again", shard_size=16, encoding="pcm16"), workers=1)
    assert contents(tmp_path / "again") == contents(prepared)


def test_processes_do_not_change_a_byte(annotations, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(write_clips, "PROCESSES_FROM", 10)
    prepare(PrepareOptions(annotations, tmp_path / "again", shard_size=16, encoding="pcm16"), workers=2)
    assert contents(tmp_path / "again") == contents(prepared)


def test_a_worker_prefetches_few_recordings(annotations, tmp_path, monkeypatch):
    """What bounds memory: no more recordings are converted than the shard that is written needs soon."""
    started, written, real, write = [], [], write_clips.convert, shards.write_records

    def convert(recipe, path):
        started.append(path)
        assert len(started) <= len(written) + write_clips.AHEAD * 2 + 1
        return real(recipe, path)

    def writing(path, records, options):
        return write(path, (written.append(record) or record for record in records), options)

    monkeypatch.setattr(write_clips, "convert", convert)
    monkeypatch.setattr(shards, "write_records", writing)
    manifest = prepare(PrepareOptions(annotations, tmp_path / "out", shard_size=50), workers=2)
    assert manifest["rejected"]["clips"] == 0
    assert len(started) == 60


def test_a_killed_run_continues(annotations, prepared, tmp_path, monkeypatch):
    decoded, real = [], write_clips.convert

    def clip(recipe, path):
        if len(decoded) == 40:
            raise KeyboardInterrupt
        decoded.append(path)
        return real(recipe, path)

    options = PrepareOptions(annotations, tmp_path / "out", shard_size=16, encoding="pcm16")
    monkeypatch.setattr(write_clips, "convert", clip)
    with pytest.raises(KeyboardInterrupt):
        prepare(options)
    with pytest.raises(UserError, match="finish it with nlm prepare"):
        Corpus([tmp_path / "out"])
    written_at = (tmp_path / "out" / "clips-00001.arrayrecord").stat().st_mtime_ns
    decoded.clear()
    prepare(options)
    assert len(decoded) == 60 - 32  # two shards of 16 were finished
    assert (tmp_path / "out" / "clips-00001.arrayrecord").stat().st_mtime_ns == written_at
    assert contents(tmp_path / "out") == contents(prepared)
    decoded.clear()
    assert prepare(options)["clips"] == 60  # finished: nothing is done again
    assert not decoded
    with pytest.raises(UserError, match=r"made with other max_seconds"):
        prepare(PrepareOptions(annotations, tmp_path / "out", shard_size=16, encoding="pcm16", max_seconds=3.0))


def test_manifest(annotations, prepared):
    manifest = json.loads((prepared / "manifest.json").read_text())
    examples = list(registry.read(annotations))
    assert manifest["examples"] == len(examples) == 60 * 3 + 15
    assert manifest["clips"] == 60  # shared by its tasks, stored once
    assert manifest["tasks"] == {"common-name": 60, "common-simple-detection": 60, "caption": 60, "same": 15}
    assert set(manifest["domains"]) == {"animal", "speech", "music"}
    assert manifest["licences"] == {"CC0": 195}
    assert manifest["hours"] == pytest.approx(manifest["seconds"] / 3600, abs=1e-4)
    assert len(manifest["files"]) == 4 + 1 + len(list((prepared / "index").iterdir())) + 1  # duplicates.jsonl
    for name, digest in manifest["files"].items():
        assert shards.file_digest(prepared / name) == digest


def test_what_went_in_comes_out(annotations, prepared, tokenizer, fmt):
    corpus = Corpus([prepared])
    needs = corpus.sizes(tokenizer, fmt)
    for e, example in enumerate(registry.read(annotations)):
        entry = corpus.entry(e)
        assert (entry.id, entry.text, entry.task, entry.domain) == (
            example.id,
            example.text,
            example.task,
            example.domain,
        )
        sequence = fmt.sequence(tokenizer, entry.prompt, entry.text, entry.n_clips)
        assert needs[e].tolist() == [len(sequence), sequence.n_clips, sequence.n_answers]
        if e % 9 == 0:
            for k, path in enumerate(example.paths):
                want = wave.load(annotations.parent / path)
                np.testing.assert_array_equal(corpus.clip(e, k), want)
                np.testing.assert_array_equal(corpus.clip(e, k, 1000, 2000), want[1000:3000])
                np.testing.assert_array_equal(corpus.audio(e, 160000)[k], wave.fit(want, 160000))


def test_lengths_for_another_tokenizer(prepared, golden, fmt):
    from nlm_jax.data.text import Tokenizer

    official, corpus = Tokenizer.from_pretrained(golden / "llama"), Corpus([prepared])
    needs = corpus.sizes(official, fmt)
    entry = corpus.entry(7)
    assert needs[7, 0] == len(fmt.sequence(official, entry.prompt, entry.text, entry.n_clips))


def test_selection_and_several_directories(prepared, tmp_path):
    once, twice = Corpus([prepared]), Corpus([prepared, prepared])
    assert len(twice) == 2 * len(once)
    assert twice.entry(len(once) + 3).text == once.entry(3).text
    some = Corpus([prepared], split="valid", tasks=("common-*",), domains=("music",))
    assert {some.entry(e).task for e in range(len(some))} == {"common-name", "common-simple-detection"}
    assert {some.entry(e).domain for e in range(len(some))} == {"music"}
    with pytest.raises(UserError, match="no example of split 'test'"):
        Corpus([prepared], split="test")
    with pytest.raises(UserError, match="no such directory"):
        Corpus([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no data given"):
        Corpus([])


def test_flac_and_pcm_records_agree():
    x = np.random.default_rng(0).uniform(-1, 1, 20000).astype(np.float32)
    encoded = {kind: shards.encode_clip(x, "x", kind)[0] for kind in ("flac", "pcm16")}
    for start, samples in ((0, None), (500, 1000), (19000, 5000)):
        a, b = (shards.decode_clip(record, start, samples) for record in encoded.values())
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - x[start:][:samples]).max() <= 1.01 / 32768
    for record in (
        b"",
        b"NLM1",
        encoded["flac"][:-4000],
        encoded["pcm16"][:-10],
        b"NLM1\x05\x00\x00\x00hello",
        encoded["flac"][5:],
    ):
        with pytest.raises(shards.CorruptRecord):
            shards.decode_clip(record)


def test_command(annotations, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args([str(annotations), "--out", str(tmp_path / "o"), "--split", "valid", "--max-seconds", "5"])
    assert command.run(args) == 0
    assert "15 clips" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert manifest["clips_cut_short"] > 0
    assert max(np.load(tmp_path / "o" / "index" / "clip_samples.npy")) == 80000


def test_real_recordings(shared, tmp_path):
    """A few clips of every domain of the real corpus; the stored samples have the digests its manifest states."""
    source = shared / "corpus" / "manifest.jsonl"
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    mini = [row for row in rows if row["mini"]]
    chosen = [row for d in ("bioacoustic", "environment", "music", "speech") for row in mini if row["domain"] == d][::9]
    file = write(tmp_path / "mini.jsonl", chosen)
    manifest = prepare(PrepareOptions(file, tmp_path / "out", audio_root=source.parent), workers=2)
    assert manifest["clips"] == len(chosen) >= 10
    assert manifest["rejected"] == {"clips": 0, "examples": 0}
    assert set(manifest["domains"]) == {row["domain"] for row in chosen}
    corpus = Corpus([tmp_path / "out"])
    part, digests = corpus.parts[0], {row["path"]: row["sha256"] for row in chosen}
    for clip in range(len(chosen)):
        header, _ = shards.clip_header(part.clip_records.read(*part.address(clip)))
        assert header["sha256"].startswith(digests[header["name"]])
