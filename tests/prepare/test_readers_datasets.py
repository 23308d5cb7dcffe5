"""The NatureLM training set in its four layouts, datasets with an Audio column, tars; and subsets of them."""

import csv
import io
import json
import multiprocessing
import pathlib
import pickle
import re
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from nlm_jax.core import arrow
from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare import audio_sources, tars
from nlm_jax.prepare.annotations import Annotations
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.prepare.readers import registry, subset
from nlm_jax.prepare.rejects import Report

pyarrow = pytest.importorskip("pyarrow", reason="Parquet and Arrow files need pyarrow: pip install nlm_jax[data]")
parquet = pytest.importorskip("pyarrow.parquet")

RATE = 16_000
SPECIES = [
    ("Aves", "Corvidae", "Corvus", "corax", "Common Raven"),
    ("Aves", "Corvidae", "Corvus", "corone", "Carrion Crow"),
    ("Amphibia", "Hylidae", "Hyla", "arborea", "European Tree Frog"),
]
COMMON = "What is the common name for the focal species in the audio?"


def level(k):
    """The value that every sample of recording `k` has."""
    return (k + 1) / 64


def encoded(k, kind="FLAC", seconds=0.25):
    out = io.BytesIO()
    soundfile.write(out, np.full(round(seconds * RATE), level(k), np.float32), RATE, format=kind)
    return out.getvalue()


def row(k):
    """Row `k` of the training set, with its audio as encoded bytes."""
    kind, family, genus, epithet, common = SPECIES[k % 3]
    details = {"recordist": "A. Nyman", "url": f"u/{k}", "source": "Xeno-canto", "duration": 0.25, "class": kind}
    details |= {"family": family, "genus": genus, "species": epithet, "phylum": "Chordata", "order": "", "text": None}
    taxonomy = k % 2
    return {
        "file_name": f"{k}.flac",
        "metadata": json.dumps({**details, "subspecies": "", "data_category": "species", "sample_rate": 44_100}),
        "audio": {"bytes": encoded(k), "path": f"{k}.flac"},
        "source_dataset": "Xeno-canto",
        "id": f"id-{k}",
        "license": "CC BY-NC",
        "instruction": f"<Audio><AudioHere></Audio> {COMMON}",
        "instruction_text": COMMON,
        "output": f"Chordata {kind} {genus} {epithet}" if taxonomy else common,
        "task": "taxonomic-classification" if taxonomy else "common-name",
    }


FEATURES = {"audio": {"sampling_rate": RATE, "_type": "Audio"}, "id": {"dtype": "string", "_type": "Value"}}


def table(rows, features=FEATURES):
    pylist_table = pyarrow.Table.from_pylist(rows)
    return pylist_table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def save_to_disk(folder, rows, shards=1):
    """As `datasets` does it: Arrow streams, and what they are in two JSON files."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05d}-of-{shards:05d}.arrow" for n in range(shards)]
    for n, name in enumerate(names):
        part = table(rows[n * len(rows) // shards : (n + 1) * len(rows) // shards])
        with pyarrow.OSFile(str(folder / name), "wb") as out, pyarrow.ipc.new_stream(out, part.schema) as stream:
            stream.write_table(part, max_chunksize=4)
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "cache-0123.arrow").write_bytes(b"of a map() that nobody asked for")


def lay(layout, folder, count=9):
    """The training set in one of its layouts; where `nlm prepare` finds it."""
    rows = [row(k) for k in range(count)]
    if layout == "parquet":
        folder.mkdir()
        parquet.write_table(table(rows), folder / "train-00000-of-00001.parquet", row_group_size=4)
    elif layout == "one file":
        folder.mkdir()
        parquet.write_table(table(rows), folder / "all.parquet")
        return folder / "all.parquet"
    elif layout == "disk":
        save_to_disk(folder, rows, shards=2)
    elif layout == "splits":
        save_to_disk(folder / "train", rows[:5])
        save_to_disk(folder / "test", rows[5:])
        (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    else:
        (folder / "audio").mkdir(parents=True)
        for k, one in enumerate(rows):
            (folder / "audio" / f"{k}.flac").write_bytes(one.pop("audio")["bytes"])
            one["file_name"] = f"audio/{k}.flac"
        if layout.endswith("CSV"):
            with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as out:
                writer = csv.DictWriter(out, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            return folder
        lines = "".join(json.dumps(one) + "\n" for one in rows)
        (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder


def levels(corpus):
    """Which recording each example hears."""
    waves = [corpus.clip(e, 0) for e in range(len(corpus))]
    assert all(np.ptp(w) < 1e-3 for w in waves)
    return [round(float(w.mean()) * 64) - 1 for w in waves]


@pytest.mark.parametrize("layout", ["parquet", "one file", "disk", "splits", "audio and metadata", "audio and CSV"])
def test_the_training_set_in_each_layout(tmp_path, layout):
    data = lay(layout, tmp_path / "data")
    loaded = sorted(registry.read(data), key=lambda e: e.id)
    assert [e.id for e in loaded] == [f"id-{k}" for k in range(9)]
    assert (loaded[0].prompt, loaded[0].text, loaded[0].task) == (COMMON, "Common Raven", "common-name")
    assert (loaded[1].text, loaded[1].task) == ("Chordata Aves Corvus corone", "taxonomic-classification")
    assert (loaded[0].licence, loaded[0].domain) == ("CC BY-NC", "Xeno-canto")
    expected = {"class": "Aves", "family": "Corvidae", "genus": "Corvus", "species": "Corvus corax"}
    expected |= {"phylum": "Chordata", "scientific_name": "Corvus corax", "recordist": "A. Nyman", "url": "u/0"}
    assert loaded[0].facts == expected
    assert {e.split for e in loaded} == {"splits": {"train", "test"}, "parquet": {"train"}}.get(layout, {""})
    manifest = prepare(PrepareOptions(data, tmp_path / "out", shard_size=4), workers=2)
    assert (manifest["examples"], manifest["clips"], manifest["rejected"]["clips"]) == (9, 9, 0)
    corpus = Corpus([tmp_path / "out"])
    assert [corpus.entry(e).id for e in range(9)] == [f"id-{k}" for k in levels(corpus)]


def test_audio_as_samples(tmp_path):
    """BEANS-Zero stores lists of floats and the rate in the metadata; others a struct with array and sampling_rate."""
    wave = np.linspace(0, 0.5, 8000, dtype=np.float32)
    row_fields = {"output": "a", "task": "t", "instruction_text": "q", "id": "1", "metadata": '{"sample_rate": 8000}'}
    whole = (wave * 32768).astype(np.int16)
    cells = [wave, {"array": wave, "sampling_rate": 8000}, {"array": whole, "sampling_rate": 8000, "path": None}]
    for n, audio in enumerate(cells):
        parquet.write_table(pyarrow.Table.from_pylist([{**row_fields, "audio": audio}]), tmp_path / f"{n}.parquet")
        (one,) = registry.read(tmp_path / f"{n}.parquet")
        samples, cut = audio_sources.load(tmp_path, one.paths[0])
        assert (samples.size, cut) == (16_000, False)
        np.testing.assert_allclose(samples[4000:12000:500], np.linspace(0.125, 0.375, 17)[:-1], atol=2e-3)
        assert audio_sources.load(tmp_path, one.paths[0], 0.5)[1]
        part, cut = audio_sources.load(tmp_path, f"{one.paths[0]}#t=0.25,0.75")
        np.testing.assert_array_equal(part, samples[4000:12000])
        assert not cut
        assert audio_sources.seconds(tmp_path, one.paths[0]) == 1.0


def test_rows_in_any_order_from_threads_and_processes(tmp_path, monkeypatch):
    """Random access gives what was stored, and Parquet keeps a bounded number of batches."""
    monkeypatch.setattr(arrow, "BATCH", 2)
    rows = [{"audio": {"bytes": bytes([k]), "path": None}, "id": str(k)} for k in range(100)]
    parquet.write_table(table(rows), tmp_path / "x.parquet", row_group_size=30)
    save_to_disk(tmp_path / "disk", rows)
    order = np.random.default_rng(0).permutation(100).tolist()
    for file in (tmp_path / "x.parquet", tmp_path / "disk" / "data-00000-of-00001.arrow"):
        with ThreadPoolExecutor(8) as pool:
            loaded = list(pool.map(lambda k, file=file: arrow.row(file, k, ["audio"])["audio"]["bytes"][0], order))
        assert loaded == order
    open_file = arrow._opened(tmp_path / "x.parquet", *_stamp(tmp_path / "x.parquet"), ("audio",))
    assert len(open_file.recent) <= arrow.SLABS
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(arrow.row, (tmp_path / "x.parquet", 77, ["audio"]))["audio"]["bytes"] == b"M"
    with pytest.raises(UserError, match="has 100 rows, none with number 100"):
        arrow.row(tmp_path / "x.parquet", 100, ["audio"])


def _stamp(file):
    return file.stat().st_mtime_ns, file.stat().st_size


def test_options_travel_to_other_processes(tmp_path):
    options = PrepareOptions(lay("parquet", tmp_path / "data"), tmp_path / "out", taxon=("Aves",))
    assert len(list(Annotations(pickle.loads(pickle.dumps(options))).read())) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": "{broken"}, r"x\.parquet: row 1: metadata of 'id-1' is not valid JSON"),
        ({"metadata": "[1]"}, r"x\.parquet: row 1: metadata must be a JSON object"),
        ({"output": None}, r"x\.parquet: row 1: missing field 'output'"),
        ({"instruction": "", "instruction_text": ""}, r"x\.parquet: row 1: neither instruction_text nor instruction"),
    ],
)
def test_a_bad_row(tmp_path, change, message):
    parquet.write_table(table([row(0), {**row(1), **change}]), tmp_path / "x.parquet")
    report = Report()
    assert [e.id for e in registry.read(tmp_path / "x.parquet", report=report)] == ["id-0"]
    (reject,) = report.rejects
    assert re.search(message, f"{reject.where}: {reject.reason}")
    assert reject.name == "x.parquet#row=1"


def test_ids_that_are_there_twice(tmp_path, caplog):
    parquet.write_table(table([row(0), row(0), {**row(0), "instruction_text": "Else?"}]), tmp_path / "x.parquet")
    assert len(list(registry.read(tmp_path / "x.parquet"))) == 3
    assert "1 questions are there again under the same id" in caplog.text


def test_bad_files(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no longer")
    (tmp_path / "y.arrow").write_bytes(b"no stream")
    for name, kind in (("x.parquet", "parquet"), ("y.arrow", "arrow")):
        with pytest.raises(UserError, match=rf"{name}: not a readable {kind} file"):
            list(registry.read(tmp_path / name))
    parquet.write_table(pyarrow.table({"id": ["a"], "label": ["b"]}), tmp_path / "z.parquet")
    with pytest.raises(UserError, match=r"z\.parquet: no column with audio; it has id, label"):
        list(registry.read(tmp_path / "z.parquet"))
    for kind in ("naturelm", "datasets"):
        with pytest.raises(UserError, match="neither Parquet files, nor a folder of save_to_disk"):
            list(registry.read(tmp_path / "none", kind))
    parquet.write_table(table([row(0)]).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(UserError, match=r"empty\.parquet: holds no examples"):
        prepare(PrepareOptions(tmp_path / "empty.parquet", tmp_path / "out"))
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"read with pyarrow; pip install 'nlm_jax\[data\]'"):
        list(registry.read(tmp_path / "z.parquet"))


def test_rows_without_audio_are_rejects(tmp_path):
    rows = [row(0), {**row(1), "audio": None}, {**row(2), "audio": {"bytes": b"no sound", "path": None}}]
    rows.append({**row(3), "audio": {"bytes": None, "path": "elsewhere.flac"}})
    (tmp_path / "beside.wav").write_bytes(encoded(4, "WAV"))
    rows.append({**row(4), "audio": {"bytes": None, "path": "beside.wav"}})
    parquet.write_table(table(rows), tmp_path / "x.parquet")
    manifest = prepare(PrepareOptions(tmp_path / "x.parquet", tmp_path / "out"))
    assert (manifest["examples"], manifest["rejected"]["clips"]) == (2, 3)
    assert levels(Corpus([tmp_path / "out"])) == [0, 4]
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    for entry, reason in zip(rejects, ("the row has no audio", "not readable audio", "no such file"), strict=True):
        assert reason in entry["reason"]


def test_a_dataset_with_labels(tmp_path):
    """Any Audio column, whatever its name, and classes stored as numbers."""
    features = {"sound": {"_type": "Audio"}, "category": {"_type": "ClassLabel", "names": ["dog", "rooster"]}}
    rows = [{"sound": {"bytes": encoded(k), "path": None}, "category": k, "vector": [0.5, 1.0]} for k in range(2)]
    parquet.write_table(table(rows, features), tmp_path / "x.parquet")
    loaded = list(registry.read(tmp_path / "x.parquet"))
    assert [(e.text, e.label, e.task, e.prompt) for e in loaded] == [
        (name, name, "common-name", COMMON) for name in ("dog", "rooster")]  # fmt: skip
    prepare(PrepareOptions(tmp_path / "x.parquet", tmp_path / "out"))
    assert levels(Corpus([tmp_path / "out"])) == [0, 1]
    silent = [{"sound": {"bytes": encoded(0), "path": None}, "number": 3}]
    parquet.write_table(table(silent, features), tmp_path / "y.parquet")
    with pytest.raises(UserError, match="no row says what is heard"):
        list(registry.read(tmp_path / "y.parquet"))


def test_a_table_with_paths(tmp_path):
    """Parquet that names its recordings instead of holding them."""
    (tmp_path / "b.flac").write_bytes(encoded(5))
    rows = [{"file_name": f"{name}.flac", "label": name} for name in "ab"]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "metadata.parquet")
    assert [e.paths[0] for e in registry.read(tmp_path)] == ["a.flac", "b.flac"]
    assert prepare(PrepareOptions(tmp_path / "metadata.parquet", tmp_path / "out"))["rejected"]["clips"] == 1
    assert levels(Corpus([tmp_path / "out"])) == [5]


def test_an_audio_folder(tmp_path):
    for split, k in (("train", 0), ("test", 1)):
        (tmp_path / "data" / split).mkdir(parents=True)
        (tmp_path / "data" / split / "a.wav").write_bytes(encoded(k, "WAV"))
        lines = f"\ufefffile_name;caption;Common Name\na.wav;A bird, calling {k};Wren\n"
        (tmp_path / "data" / split / "metadata.csv").write_text(lines, encoding="utf-8")
    loaded = {e.split: e for e in registry.read(tmp_path / "data")}
    assert loaded["train"].text == "A bird, calling 0"
    assert (loaded["test"].task, loaded["test"].facts["common_name"]) == ("caption", "Wren")
    assert loaded["test"].paths == ("test/a.wav",)
    assert prepare(PrepareOptions(tmp_path / "data", tmp_path / "out", split="test"))["examples"] == 1
    assert levels(Corpus([tmp_path / "out"])) == [1]
    (tmp_path / "data" / "test" / "metadata.csv").write_text("name;caption\na.wav;x\n")
    report = Report()
    assert [e.split for e in registry.read(tmp_path / "data", report=report)] == ["train"]
    assert "missing field 'file_name' or 'file' or 'path'" in report.rejects[0].reason


# Subsets.


def sharded(folder, leave_out=()):
    """Nine rows in three shards of three, and the index."""
    folder.mkdir()
    lines = []
    for shard in range(3):
        rows = [row(k) for k in range(3 * shard, 3 * shard + 3)]
        if shard == 2:  # one species that the others do not have
            rows = [{**r, "metadata": r["metadata"].replace('"corone"', '"frugilegus"')} for r in rows]
        parquet.write_table(table(rows), folder / f"train-{shard:05d}-of-00003.parquet")
        for one in rows:
            row_fields = json.loads(one["metadata"])
            common = "Rook" if row_fields["species"] == "frugilegus" else SPECIES[int(one["id"][3:]) % 3][4]
            entry = {
                "id": one["id"],
                "shard_id": shard,
                "family": row_fields["family"],
                "genus": row_fields["genus"],
            }
            lines.append({**entry, "species": f"{row_fields['genus']} {row_fields['species']}", "common_name": common})
    (folder / "annotations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def ids(examples):
    return [int(e.id[3:]) for e in examples]


@pytest.mark.parametrize(
    ("taxa", "tasks", "expected", "opened"),
    [
        (["corvus FRUGILEGUS"], [], [7], {2}),
        (["rook"], [], [7], {2}),
        (["Carrion Crow"], [], [1, 4], {0, 1}),
        (["Corvidae"], ["common-*"], [0, 4, 6], {0, 1, 2}),
        (["Corvus corax", "Hyla"], [], [0, 2, 3, 5, 6, 8], {0, 1, 2}),
        (["Aves"], [], [0, 1, 3, 4, 6, 7], {0, 1, 2}),  # a class, which only the rows themselves know
        (["Amphibia", "rook"], [], [2, 5, 7, 8], {0, 1, 2}),  # and a common name, which only the index knows
        ([], ["taxonomic-*"], [1, 3, 5, 7], {0, 1, 2}),
    ],
)
def test_a_subset_reads_the_shards_that_hold_it(tmp_path, monkeypatch, taxa, tasks, expected, opened):
    data, read, real = sharded(tmp_path / "data"), set(), arrow.batches
    monkeypatch.setattr(arrow, "batches", lambda file, *a: read.add(int(file.stem[6:11])) or real(file, *a))
    assert ids(subset.read(data, taxa=taxa, tasks=tasks)) == expected
    assert read == opened
    assert ids(subset.read(data / "annotations.jsonl", taxa=taxa, tasks=tasks)) == expected


def test_a_subset_through_the_command(nlm, tmp_path):
    data, out = sharded(tmp_path / "data"), tmp_path / "out"
    assert nlm("prepare", data, "--out", out, "--taxon", "Rook", "--taxon=Hyla", "--task=taxonomic*")[0] == 0
    assert levels(Corpus([out])) == [5, 7]
    assert nlm("prepare", data, "--out", out, "--taxon", "Rook", "--taxon=Hyla", "--task=taxonomic*")[0] == 0
    status, _, row_fields = nlm("prepare", data, "--out", out, "--taxon", "Rook")
    assert (status, "made with other taxon" in row_fields) == (2, True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--taxon=Corvus coraks"], "--taxon 'Corvus coraks': nothing in .* has it; close to it: Corvus corax"),
        (["--taxon=Rook", "--taxon=Huhn"], "--taxon 'Huhn': nothing in"),
        (["--task=common-nam"], "--task 'common-nam': nothing in .* close to it: common-name"),
        (["--taxon=Hyla", "--task=x"], "--task 'x': nothing in .* close to it: common-name, taxonomic"),
        (["--taxon=Rook", "--task=common-name"], "--task 'common-name': nothing in .* has it"),
    ],
)
def test_an_unknown_taxon_or_task(nlm, tmp_path, flags, message):
    status, _, row_fields = nlm("prepare", sharded(tmp_path / "data"), "--out", tmp_path / "out", *flags)
    assert status == 2
    assert pytest.raises(UserError, match=message)
    assert re.search(message, row_fields.replace("\n", " ")), row_fields
    assert not (tmp_path / "out").exists()


def test_shards_numbered_otherwise_and_a_broken_index(tmp_path):
    data = sharded(tmp_path / "data")
    index = data / "annotations.jsonl"
    lines = index.read_text()
    index.write_text(lines.replace('"shard_id": 2', '"shard_id": 0'))
    assert ids(subset.read(data, taxa=["Rook"])) == [7]
    index.write_text(lines.replace('"id-7"', '"id-70"'))
    with pytest.raises(UserError, match="names 1 recordings that are not in it"):
        list(subset.read(data, taxa=["Rook"]))
    index.write_text(lines + "{broken Rook\n")
    with pytest.raises(UserError, match=r"annotations\.jsonl:10: not valid JSON"):
        list(subset.read(data, taxa=["Rook"]))


def test_other_sources_are_chosen_by_their_facts(tmp_path):
    lines = "file,label,class,order,family,scientific_name\na.wav,Raven,Aves,Passeriformes,Corvidae,Corvus corax\n"
    (tmp_path / "labels.csv").write_text(lines + "b.wav,Wren,,,,\nc.wav,Fox,Mammalia,,Canidae,Vulpes vulpes\n")
    for taxon, loaded in (("aves", "a"), ("corvus", "a"), ("CORVUS CORAX", "a"), ("wren", "b"), ("Canidae", "c")):
        assert [e.id for e in subset.read(tmp_path, taxa=[taxon])] == [f"{loaded}.wav"]
    with pytest.raises(UserError, match=r"'Corvida': nothing in .* close to it: Corvidae"):
        list(subset.read(tmp_path, taxa=["Corvida"]))


class Hub:
    """Stands in for the hub: copies what is asked for into a cache of its layout, and remembers it."""

    def __init__(self, remote, cache, listing=True):
        self.remote, self.asked, self.lists = remote, [], listing
        self.folder = cache / "datasets--owner--set" / "snapshots" / "0123abcd"

    def snapshot_download(self, source, repo_type, allow_patterns):
        import fnmatch

        assert (source, repo_type) == ("EarthSpeciesProject/NatureLM-audio-training", "dataset")
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(p for p in self.remote.rglob("*") if p.is_file()):
            name = file.relative_to(self.remote).as_posix()
            if allow_patterns is None or any(fnmatch.fnmatch(name, p) for p in allow_patterns):
                self.asked.append(name)
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(file.read_bytes())
        return str(self.folder)

    def HfApi(self):
        return self

    def list_repo_files(self, source, repo_type):
        if not self.lists:
            raise OSError("no network")
        return [p.relative_to(self.remote).as_posix() for p in self.remote.rglob("*") if p.is_file()]


@pytest.mark.parametrize("listing", [True, False])
def test_a_hub_id(nlm, tmp_path, monkeypatch, listing):
    import huggingface_hub

    hub = Hub(sharded(tmp_path / "remote"), tmp_path / "cache", listing)
    for name in ("snapshot_download", "HfApi"):
        monkeypatch.setattr(huggingface_hub, name, getattr(hub, name))
    name = "EarthSpeciesProject/NatureLM-audio-training"
    assert nlm("prepare", name, "--out", tmp_path / "rook", "--taxon=Rook")[0] == 0
    assert set(hub.asked) == {"annotations.jsonl", "train-00002-of-00003.parquet"}
    assert levels(Corpus([tmp_path / "rook"])) == [7]
    status, _, row_fields = nlm("prepare", name, "--out", tmp_path / "typo", "--taxon=Corvus coron")
    assert (status, "close to it: Corvus corone" in row_fields.replace("\n", " ")) == (2, True)
    assert len(set(hub.asked)) == 2
    assert nlm("prepare", name, "--out", tmp_path / "all")[0] == 0
    assert levels(Corpus([tmp_path / "all"])) == list(range(9))
    assert nlm("prepare", name, "--out", tmp_path / "rook", "--taxon=Rook")[0] == 0  # still the same corpus


def test_a_hub_id_with_recordings_and_one_that_is_none(nlm, tmp_path, monkeypatch):
    import huggingface_hub

    hub = Hub(lay("audio and metadata", tmp_path / "remote"), tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    name = pathlib.Path("EarthSpeciesProject/NatureLM-audio-training")
    assert prepare(PrepareOptions(name, tmp_path / "out"))["clips"] == 9

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    status, _, row_fields = nlm("prepare", "owner/none", "--out", tmp_path / "none")
    assert (status, "owner/none: no such folder, and could not be downloaded from the Hub" in row_fields) == (2, True)


# Tars.


def tar(file, members):
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as out:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
    return file


def test_webdataset(tmp_path):
    first = {"a/001.flac": encoded(0), "a/001.json": b'{"Common_Name": "Raven", "License": "CC0"}'}
    first |= {"a/002.wav": encoded(1, "WAV"), "a/002.txt": "A raven, far off: Rábe\n".encode()}
    second = {"x.ogg": encoded(2, "OGG"), "x.cls": b"1", "y.json": b'{"label": "without sound"}'}
    row_fields = {"prompt": "Who?", "text": "A wren", "task": "who", "label": "Wren"}
    second |= {"z.v2.mp3": b"", "z.flac": encoded(3), "z.json": json.dumps(row_fields).encode()}
    tar(tmp_path / "s-000.tar", first)
    tar(tmp_path / "s-001.tar", second)
    (tmp_path / "classes.txt").write_text("dog\nrooster\n")
    loaded = list(registry.read(tmp_path))
    assert [(e.task, e.text) for e in loaded] == [
        ("common-name", "Raven"), ("caption", "A raven, far off: Rábe"), ("common-name", "rooster"), ("who", "A wren"),
    ]  # fmt: skip
    assert (loaded[0].licence, loaded[0].paths) == ("CC0", ("s-000.tar#member=a/001.flac",))
    assert loaded[3].prompt == "Who?"
    for pattern in ("s-{000..001}.tar", "s-*.tar", "s-00[01].tar", "s-{000,001}.tar"):
        assert list(registry.read(tmp_path / pattern)) == loaded
    manifest = prepare(PrepareOptions(tmp_path / "s-{000..001}.tar", tmp_path / "out"), workers=2)
    assert (manifest["clips"], manifest["rejected"]["clips"]) == (4, 0)
    corpus = Corpus([tmp_path / "out"])
    assert [round(float(np.median(corpus.clip(e, 0))) * 64) - 1 for e in (0, 1, 3)] == [0, 1, 3]
    part, _ = audio_sources.load(tmp_path, "s-000.tar#member=a/002.wav#t=0.1,0.2")
    np.testing.assert_allclose(part, np.full(1600, level(1)), atol=1e-4)


def test_tars_next_to_recordings_and_labels(tmp_path):
    """A tar from which the recordings came, or labels that somebody made, do not change what the folder is."""
    (tmp_path / "Wren").mkdir()
    (tmp_path / "Wren" / "a.wav").write_bytes(encoded(0, "WAV"))
    tar(tmp_path / "all.tar", {"b.wav": encoded(1, "WAV"), "b.cls": b"Robin"})
    assert [e.text for e in registry.read(tmp_path)] == ["Wren"]
    (tmp_path / "Wren" / "a.wav").unlink()
    assert [e.text for e in registry.read(tmp_path)] == ["Robin"]
    (tmp_path / "labels.csv").write_text("file,label\nall.tar#member=b.wav,Owl\n")
    (one,) = registry.read(tmp_path)
    assert (one.text, audio_sources.load(tmp_path, one.paths[0])[0].size) == ("Owl", 4000)


def test_bad_tars(tmp_path):
    file = tar(tmp_path / "x.tar", {"a.flac": encoded(0), "a.json": b"{broken"})
    with pytest.raises(UserError, match=r"x\.tar: a\.json is not valid JSON"):
        list(registry.read(file))
    for content in (b"[1]", b'"text"'):
        tar(tmp_path / "y.tar", {"a.flac": encoded(0), "a.json": content})
        with pytest.raises(UserError, match=r"y\.tar: a\.json must be a JSON object"):
            list(registry.read(tmp_path / "y.tar"))
    (tmp_path / "z.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    with pytest.raises(UserError, match=r"z\.tar: not a plain tar file"):
        list(registry.read(tmp_path / "z.tar"))
    with pytest.raises(UserError, match=r"none-000\.tar: no such file"):
        list(registry.read(tmp_path / "none-{000..002}.tar"))
    with pytest.raises(UserError, match=r"holds no member b\.flac"):
        tars.read(file, "b.flac")
    tar(tmp_path / "n.tar", {"a.flac": encoded(0), "a.cls": b"3"})
    with pytest.raises(UserError, match=r"n\.tar: a is of class 3; put classes\.txt with the names"):
        list(registry.read(tmp_path / "n.tar"))
    tar(tmp_path / "s.tar", {"a.flac": encoded(0), "a.npy": b""})
    with pytest.raises(UserError, match="no row says what is heard"):
        list(registry.read(tmp_path / "s.tar"))
    whole = tar(tmp_path / "c.tar", {"a.flac": encoded(0), "a.txt": b"one", "b.flac": encoded(1), "b.txt": b"two"})
    whole.write_bytes(whole.read_bytes()[: tars.members(whole)["b.flac"][0] + 9])
    assert [e.text for e in registry.read(whole)] == ["one"]  # what a cut file still holds
