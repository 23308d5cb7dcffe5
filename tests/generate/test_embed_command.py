"""`nlm embed`: vectors of windows and of recordings, equal to the model's own, padding left out."""

import weakref

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from nlm_jax import NatureLM
from nlm_jax.core.frames import n_tokens
from nlm_jax.generate.vector_files import write_npz


@pytest.fixture
def recording(tmp_path):
    """A recording of three and a half seconds, and a file that is not audio."""
    (tmp_path / "in").mkdir()
    soundfile.write(
        tmp_path / "in" / "a.wav", 0.1 * np.random.default_rng(0).normal(size=56_000), 16_000, subtype="FLOAT"
    )
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF")
    return tmp_path


@pytest.fixture
def embed(nlm, golden, recording):
    """`embed(*flags)`: the columns that the command writes."""

    def run(*flags, out="out.npz"):
        file = recording / out
        model = (f"--model={golden / 'model'}", f"--qformer-config={golden / 'qformer_config.json'}")
        status, _, err = nlm(
            "embed", *model, f"--audio={recording / 'in'}", f"--out={file}", "--window=2", "--hop=2", *flags
        )
        assert status == 0, err
        assert "left out: " in err
        return np.load(file) if out.endswith("npz") else file

    return run


def test_windows_in_the_space_of_the_language_model(embed, golden, recording):
    columns = embed("--level=llm", "--batch-size=3")
    assert columns["file"].tolist() == [str(recording / "in" / "a.wav")] * 2
    assert list(zip(columns["start"], columns["end"], strict=True)) == [(0.0, 2.0), (2.0, 3.5)]
    model = NatureLM.from_pretrained(golden / "model", dtype="float32", qformer_config=golden / "qformer_config.json")
    sound = soundfile.read(recording / "in" / "a.wav", dtype="float32")[0]
    whole = np.asarray(model.encode_audio(sound[None, :32_000]))[0]
    np.testing.assert_allclose(columns["embedding"][0], whole.mean(0), rtol=0, atol=1e-5)


def test_padding_is_excluded_from_the_mean(embed, golden, recording):
    columns = embed("--level=encoder")
    model = NatureLM.from_pretrained(golden / "model", dtype="float32", qformer_config=golden / "qformer_config.json")
    sound = soundfile.read(recording / "in" / "a.wav", dtype="float32")[0]
    padded = np.concatenate([sound[32_000:], np.zeros(8_000, np.float32)])[None]
    tokens = np.asarray(model.checkpoint.model().beats(jnp.asarray(padded)))[0]
    real = n_tokens(24_000)
    assert real < len(tokens)
    np.testing.assert_allclose(columns["embedding"][1], tokens[:real].mean(0), rtol=0, atol=1e-5)


def test_one_vector_per_recording(embed):
    windows, files = embed("--level=qformer"), embed("--level=qformer", "--pool=file", out="file.npz")
    assert files["embedding"].shape == (1, windows["embedding"].shape[1])
    assert (files["start"].tolist(), files["end"].tolist()) == ([0.0], [3.5])
    low, high = np.sort(windows["embedding"], axis=0)
    assert np.all((files["embedding"][0] >= low - 1e-6) & (files["embedding"][0] <= high + 1e-6))


def test_parquet(embed):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(embed("--level=encoder", out="out.parquet"))
    assert table.column_names == ["file", "start", "end", "embedding"]
    assert table.num_rows == 2


def test_rows_do_not_stay_in_memory(tmp_path):
    """At most two vectors are alive at a time; numpy reads the columns of all."""
    alive = most = 0

    def on_free():
        nonlocal alive
        alive -= 1

    def rows():
        nonlocal alive, most
        for i in range(500):
            vector = np.full(4, i, np.float32)
            weakref.finalize(vector, on_free)
            alive += 1
            most = max(most, alive)
            yield f"ü {'x' * (i % 7)}\n.wav", i / 2, i / 2 + 1, vector

    assert write_npz(tmp_path / "new" / "a.npz", rows()) == (500, 4)
    assert most <= 2
    columns = np.load(tmp_path / "new" / "a.npz")
    assert {name: columns[name].dtype.str for name in columns} == {
        "file": "<U13", "start": "<f8", "end": "<f8", "embedding": "<f4"
    }  # fmt: skip
    assert columns["file"].tolist() == [f"ü {'x' * (i % 7)}\n.wav" for i in range(500)]
    assert (columns["start"].tolist(), columns["end"][-1]) == ([i / 2 for i in range(500)], 250.5)
    np.testing.assert_array_equal(columns["embedding"], np.repeat(np.arange(500.0), 4).reshape(500, 4))


def test_an_interrupted_file_leaves_the_earlier_one(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"earlier")

    def rows():
        yield "a.wav", 0.0, 1.0, np.zeros(4, np.float32)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        write_npz(tmp_path / "a.npz", rows())
    assert write_npz(tmp_path / "a.npz", iter(())) == (0, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == b"earlier"


def test_a_window_that_cannot_be_read_is_left_out(nlm, golden, tmp_path):
    """The second window has a NaN sample; the rest of the recording is in the file."""
    sound = 0.1 * np.random.default_rng(0).normal(size=96_000).astype(np.float32)
    sound[40_000] = np.nan
    soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
    model = (f"--model={golden / 'model'}", f"--qformer-config={golden / 'qformer_config.json'}")
    flags = (*model, f"--audio={tmp_path / 'a.wav'}", "--window=2", "--hop=2", "--level=qformer")
    status, _, err = nlm("embed", *flags, f"--out={tmp_path / 'a.npz'}", "--batch-size=2")
    assert status == 0
    assert "holds samples that are NaN or infinite" in " ".join(err.split())
    assert np.load(tmp_path / "a.npz")["start"].tolist() == [0.0, 4.0]


def test_invalid_flags(nlm, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 16_000)
    (tmp_path / "config.json").write_text('{"llama_path": "llama"}')
    flags = ("embed", f"--model={tmp_path}", f"--audio={tmp_path / 'a.wav'}")
    for more, message in ((("--out=x.csv",), "give a file that ends in .npz or .parquet"),
                       (("--out=x.npz", "--window=60"), "window=60: the model takes"),
                       (("--out=x.npz", "--batch-size=0"), "--batch-size 0: must be at least 1")):  # fmt: skip
        status, _, err = nlm(*flags, *more)
        assert status == 2
        assert message in err
