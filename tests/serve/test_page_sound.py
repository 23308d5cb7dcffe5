"""What the page reads of recordings: every plain WAV in slices, others whole up to a limit, and when each was made."""

import base64
import io
import struct

import numpy as np
import pytest
import soundfile
import soxr

from nlm_jax.audio.resample import resample

pytest.importorskip("selenium", reason="the page's tests need selenium, of the extra [test]")

READ = """
const { source } = await import('/web/audio.js');
const bytes = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0)), one = await source(new File([bytes], given[1]));
await one.load();
return [one.seconds, one.rate, [...await one.read(given[2], given[3])]];
"""
RATE = 48_000


def tones(seconds, rate, channels=1):
    """f64[T, C]: tones of another pitch in each channel, up to 6.8 kHz or what the rate holds, and one above 8 kHz."""
    t = np.arange(round(seconds * rate)) / rate
    top = min(6800, 0.42 * rate)
    above = 0.1 * np.sin(2 * np.pi * 9000 * t) * (rate > 20_000)
    sides = [
        sum(0.2 * np.sin(2 * np.pi * share * (top - 90 * c) * t + share) for share in (0.05, 0.4, 1))
        for c in range(channels)
    ]
    return np.stack([side + above for side in sides], 1)


def written(samples, rate, subtype, kind="WAV"):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


def expected(samples, rate, start, end):
    """The mean of the channels at 16 kHz, by soxr."""
    whole = soxr.resample(samples.mean(1), rate, 16_000) if rate != 16_000 else samples.mean(1)
    out = np.zeros(round((end - start) * 16_000))
    part = whole[round(start * 16_000) :][: out.size]
    out[: part.size] = part
    return out


def read(page, content, name="x.wav", start=1.3, end=2.1):
    return page.script(READ, base64.b64encode(content).decode(), name, start, end)


@pytest.mark.parametrize(
    ("kind", "subtype", "rate", "channels", "error"),
    [
        ("WAV", "PCM_U8", 16_000, 1, 9e-3),
        ("WAV", "PCM_16", 48_000, 2, 1e-3),
        ("WAV", "PCM_24", 44_100, 1, 1e-3),
        ("WAVEX", "PCM_24", 48_000, 6, 1e-3),
        ("WAV", "PCM_32", 22_050, 2, 1e-3),
        ("WAV", "FLOAT", 250_000, 1, 1e-3),
        ("WAVEX", "DOUBLE", 8_000, 3, 1e-3),
        ("WAV", "PCM_16", 47_999, 1, 1e-3),
        ("WAV", "PCM_16", 500, 1, 1e-3),  # infrasound
        ("RF64", "PCM_16", 32_000, 1, 1e-3),
    ],
)
def test_a_part_of_a_wav(modules, kind, subtype, rate, channels, error):
    """Each sample as the mean of the channels, resampled by the browser as by soxr, in the right place."""
    samples = tones(3.0, rate, channels)
    seconds, native, decoded = read(modules, written(samples, rate, subtype, kind))
    assert (seconds, native) == (pytest.approx(3.0), rate)
    assert np.abs(np.array(decoded) - expected(samples, rate, 1.3, 2.1)).max() < error


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_the_filter_of_the_checkpoint(modules, rate):
    """`GET /info` names it; noise has energy where the filters differ."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2 * rate, 1))
    script = f"""
    const {{ server }} = await import('/web/server.js'), before = server.info;
    server.info = {{ ...before, audio_resampling: 'kaiser_best' }};
    try {{ {READ} }} finally {{ server.info = before; }}
    """
    arguments = (base64.b64encode(written(noise, rate, "FLOAT")).decode(), "x.wav", 0.3, 1.1)
    *_, decoded = modules.script(script, *arguments)
    theirs, ours = (resample(noise[:, 0], rate, quality)[4_800:17_600] for quality in ("HQ", "kaiser_best"))
    assert np.abs(np.array(decoded) - ours).max() < 2e-3  # the table of resampy is stepped through in whole numbers
    assert np.abs(np.array(decoded) - theirs).max() > 0.05


def test_behind_the_end_there_is_silence(modules):
    samples = tones(3.0, 16_000)
    _, _, decoded = read(modules, written(samples, 16_000, "FLOAT"), start=2.5, end=4.0)
    np.testing.assert_allclose(decoded, expected(samples, 16_000, 2.5, 4.0), atol=1e-6)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, None], ids=["zero", "ones", "too long", "right"])
def test_size_fields_of_streams_and_of_recorders_that_stopped(modules, size):
    samples = tones(2.5, 16_000)
    content = bytearray(written(samples, 16_000, "PCM_16"))
    at = content.index(b"data")
    if size is not None:
        struct.pack_into("<I", content, at + 4, size)
        struct.pack_into("<I", content, 4, size)
    seconds, _, decoded = read(modules, bytes(content), start=0.2, end=2.4)
    assert seconds == 2.5
    assert np.abs(np.array(decoded) - expected(samples, 16_000, 0.2, 2.4)).max() < 1e-4


def test_notes_of_a_recorder_before_and_behind_the_samples(modules):
    samples = tones(2.5, 16_000)
    plain = written(samples, 16_000, "PCM_16")
    at = plain.index(b"data")
    note = b"LIST" + struct.pack("<I", 13) + b"ICMTRecorded." + b"\0"  # an odd length is filled up
    content = plain[:at] + note + plain[at:] + note
    seconds, _, decoded = read(modules, content, start=0.2, end=2.4)
    assert seconds == 2.5
    assert np.abs(np.array(decoded) - expected(samples, 16_000, 0.2, 2.4)).max() < 1e-4
    assert "holds no sound" in read(modules, plain[: at + 4] + struct.pack("<I", 0) + note)


def test_samples_that_are_no_numbers_are_named(modules):
    samples = tones(3.0, 48_000).astype(np.float32)
    samples[RATE * 2] = np.nan
    content = written(samples, 48_000, "FLOAT")
    assert "not finite numbers" in read(modules, content, start=1.5, end=2.5)
    assert len(read(modules, content, start=0.0, end=1.0)[2]) == 16_000


def test_floats_of_another_scale_are_named(modules):
    """As in training: what reaches beyond 18 dB above full scale is no recording's loudness."""
    assert "where full scale is 1" in read(modules, written(tones(3.0, 48_000) * 32768, 48_000, "FLOAT"))
    assert len(read(modules, written(tones(3.0, 48_000) * 2, 48_000, "FLOAT"))[2]) == 12_800  # too hot is clipped


def test_other_formats_are_decoded_by_the_browser(modules):
    samples = tones(3.0, 44_100, 2)
    seconds, _, decoded = read(modules, written(samples, 44_100, "PCM_16", "FLAC"), "x.flac")
    assert seconds == pytest.approx(3.0, abs=0.01)
    assert np.abs(np.array(decoded) - expected(samples, 44_100, 1.3, 2.1)).max() < 1e-3


@pytest.fixture(scope="module")
def gigabytes(tmp_path_factory):
    """A stereo WAV of 5 GiB with a wrapped size field, silent but for a tone in its last ten seconds; takes no disk."""
    file = tmp_path_factory.mktemp("large") / "night_20240501_213000.wav"
    frames = (5 << 30) // 4
    header = b"RIFF" + struct.pack("<I", (5 << 30) % 2**32) + b"WAVEfmt "
    header += struct.pack("<IHHIIHH", 16, 1, 2, RATE, 4 * RATE, 4, 16)
    header += b"data" + struct.pack("<I", (5 << 30) % 2**32)
    tone = np.round(8000 * np.sin(2 * np.pi * 1500 * np.arange(10 * RATE) / RATE)).astype("<i2")
    with file.open("wb") as out:
        out.write(header)
        out.seek(len(header) + 4 * frames - 4 * tone.size)
        out.write(np.stack([tone, tone], 1).tobytes())
    return file


def test_a_recording_of_hours(page, gigabytes):
    """7.8 hours: it is there at once, its end can be asked about, and the memory stays small."""
    page.load(gigabytes)
    assert page.text("drop-hint").startswith("7:46:02")
    page["view"].send_keys("\ue010")  # End
    assert page.region() == pytest.approx((27952.0, 27962.0), abs=0.1)
    page.ask()
    assert page.text("answer") == "Middle Piper"
    page.until(lambda: page.rows()[0][2] == "Middle Piper")
    assert page.cells()[0][2] == "2024-05-02 05:15:52"
    page.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})  # how much of it waits to be collected is chance
    heap = page.driver.execute_script("return performance.memory.usedJSHeapSize")
    assert heap < 200 << 20


@pytest.mark.parametrize("name", ["night.wav", "night.flac", "night.mp3"])
def test_a_large_file_of_zeros_is_called_one(page, tmp_path, name):
    """Whatever its name promises: not "too large", and nothing is read beyond its head."""
    file = tmp_path / name
    with file.open("wb") as out:
        out.truncate(1 << 30)
    page["file"].send_keys(str(file))
    page.until(lambda: page["problem"].is_displayed())
    assert page.text("problem").startswith(f"{name} begins with zeros where the header of a recording should be")


def test_a_too_large_file_is_refused_before_reading(page, tmp_path):
    file = tmp_path / "night.mp3"
    with file.open("wb") as out:
        out.write(b"ID3")
        out.truncate(300 << 20)
    page["file"].send_keys(str(file))
    page.until(lambda: page["problem"].is_displayed())
    message = page.text("problem")
    assert "night.mp3 is too large for this browser" in message
    assert "256 MiB" in message
    assert "nlm infer" in message


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("20240501_053000.WAV", "2024-05-01 05:30:00"),  # AudioMoth
        ("20240501_053000T.WAV", "2024-05-01 05:30:00"),  # AudioMoth, triggered
        ("5CC93A80.WAV", "2019-05-01 06:19:44"),  # AudioMoth, seconds since 1970 in hexadecimal digits
        ("SMM00123_20240501_053000.wav", "2024-05-01 05:30:00"),  # Song Meter
        ("S4A01234_20240501$053000.wav", "2024-05-01 05:30:00"),
        ("SM2_0+1_20120601_213000_000.wav", "2012-06-01 21:30:00"),
        ("plot 7/20240501-053000.flac", "2024-05-01 05:30:00"),
        ("20241301_053000.WAV", ""),  # no such month
        ("20240230_053000.WAV", ""),  # nor day
        ("120240501_053000.wav", ""),
        ("20240501.wav", ""),
        ("deadbeef.wav", ""),
        ("dawn.wav", ""),
    ],
)
def test_when_a_recording_began(modules, name, time):
    run = (
        "return (({ clock, Recording }) => clock(new Recording({ name: given[0] })))(await import('/web/recording.js'))"
    )
    assert modules.script(run, name) == time


def test_times(modules):
    run = "const { seconds } = await import('/web/times.js'); return given[0].map(seconds);"
    times = [0, 4.25, 59.94, 59.96, 65, 599.99, 3599.99, 3723.5, 36000]
    words = ["0.0 s", "4.3 s", "59.9 s", "1:00.0", "1:05.0", "10:00.0", "1:00:00.0", "1:02:03.5", "10:00:00.0"]
    assert modules.script(run, times) == words


def test_a_recording_of_minutes(page, tmp_path):
    """Between a minute and an hour, longer than what is drawn from samples; asked about to its end."""
    file = tmp_path / "minutes.wav"
    soundfile.write(file, np.tile(tones(1.0, 16_000)[:, 0] * np.linspace(0, 1, 16_000), 130), 16_000)
    page.load(file)
    assert page.text("drop-hint").startswith("2:10.0")
    page.windows(10, 10)
    assert page.text("progress-text") == "13 of 13 windows answered."
    page.until(lambda: page.rows()[-1][1] == "2:10.0")
    drawn = "const c = document.getElementById('spectrogram');"
    drawn += "const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
    page.until(lambda: page.driver.execute_script(drawn + "return new Set(new Uint32Array(data.buffer)).size") > 100)
