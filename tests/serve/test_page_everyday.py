"""What people do with answers: ask on, compare recordings, ask about marks, read long answers, find mistakes."""

import json

import pytest
import serve_tools

pytest.importorskip("selenium", reason="the page's tests need selenium, of the extra [test]")

from browser import Listener
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By
from test_page_runs import table

from nlm_jax.audio.config import AudioConfig

VISIBLE = """
const box = arguments[0].getBoundingClientRect();
return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth;
"""


def test_a_conversation_about_one_sound(page, recording, model):
    page.load(recording)
    page.set("query", "What is it?")
    page.ask()
    page.until(lambda: page["follow"].is_displayed())
    page["follow-query"].send_keys("Are you sure?", Keys.ENTER)
    page.until(lambda: page.text("asked").startswith("Are you sure?"))
    page.answered()
    turns = [
        model.texts[-1].index(text)
        for text in ("What is it?", "<|start_header_id|>assistant", "Low Hummer", "Are you sure?")
    ]
    assert turns == sorted(turns)
    assert page.text("turns") == "What is it? Low Hummer"
    page.choose("run", "All questions")
    page.until(lambda: [row[3] for row in page.cells()] == ["What is it?", "↳ Are you sure?"])
    assert [row["earlier"] for row in table(page.download("csv"))] == ["", "What is it? -> Low Hummer"]
    page["follow-ask"].click()
    assert page.text("follow-query-error") == "Write a question first."


def test_several_recordings_in_one_question(page, recording, model, tmp_path):
    other = tmp_path / "other.wav"
    other.write_bytes(recording.read_bytes())
    page.load(recording, other)
    page.driver.execute_script("document.getElementById('together').open = true")
    page.set("end", 4)
    page["clip-add"].click()
    page.press(".name", 1)
    page.until(lambda: page.text("file-name") == "other.wav")
    page.set("start", 4)
    page.set("end", 6)
    page["clip-add"].click()
    page.until(lambda: page.text("ask") == "Ask about the 2 regions together")
    page.set("query", "Are these two of the same species?")
    page.ask()
    assert page.text("answer") == "Low Hummer and Middle Piper"
    assert recording.name in page.text("asked")
    assert "other.wav 4.0 s – 6.0 s" in page.text("asked")
    for _ in range(2):
        page["clip-add"].click()
    page["ask"].click()
    assert "3 regions" in page.text("clips-error")  # the server's --max-clips
    page["clips-clear"].click()
    page.until(lambda: page.text("ask") == "Ask about the region")
    (row,) = table(page.download("csv"))
    assert (row["file"], row["together_with"]) == (recording.name, "other.wav 4.00-6.00 s")


RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
    "1\tWaveform 1\t1\t1.0\t3.0\t200\t900\towl?\n1\tSpectrogram 1\t1\t1.0\t3.0\t200\t900\towl?\n"
    "2\tSpectrogram 1\t1\t4.5\t5.5\t1000\t2000\twren?\n3\tSpectrogram 1\t1\t99\t100\t0\t8000\tbehind the end\n"
)
AUDACITY = "\ufeff1,0\t3,0\towl?\n\\\t200\t900\n4.5\t5.5\twren?\n7\t7\ta point\n"


MARKS = {
    "raven": ("x.selections.txt", RAVEN.encode()),
    "audacity": ("labels.txt", AUDACITY.encode()),
    "utf-16": ("labels.txt", AUDACITY.encode("utf-16-be")),
    "windows": ("labels.txt", AUDACITY.removeprefix("\ufeff").replace("owl?", "höwl?").encode("cp1252")),
}


@pytest.mark.parametrize("kind", MARKS)
def test_marked_regions(page, recording, kind):
    name, content = MARKS[kind]
    page.load(recording)
    page.drop((name, content), kind="text/plain")
    page.until(lambda: page["marked"].is_displayed())
    assert page.text("marked") == "Ask the 2 marked regions"
    page["marked"].click()
    page.until(lambda: page.text("progress-text") == "2 of 2 windows answered.")
    assert page.text("problem") == ""
    rows = table(page.download("csv"))
    assert [(row["start"], row["end"], row["mark"], row["text"]) for row in rows] == [
        ("1.0", "3.0", "höwl?" if kind == "windows" else "owl?", "Low Hummer"),
        ("4.5", "5.5", "wren?", "Middle Piper"),
    ]
    assert page.download("raven").read_text().split("\n")[1].split("\t")[5:7] == ["200", "900"]


def test_labels_without_their_recording(page, recording):
    page.drop(("x.txt", AUDACITY.encode()), kind="text/plain")
    page.until(lambda: "open the recording first" in page.text("problem"))
    page.load(recording)
    page.drop(("x.txt", b"nothing of that kind\n"), kind="text/plain")
    page.until(lambda: "x.txt holds no regions" in page.text("problem"))


def test_a_long_answer_is_one_line_and_says_that_it_was_cut(page, recording):
    page.load(recording)
    page.set("query", "A novel, please")
    page.windows(6, 6)
    page.until(lambda: len(page.rows()) == 2)
    assert page["rows"].find_element(By.TAG_NAME, "small").text == "cut at the longest answer"
    words = page["rows"].find_element(By.CLASS_NAME, "words")
    assert words.size["height"] < 40
    assert words.get_attribute("title").count("Low Hummer") == 60
    assert page["counts"].size["height"] < 80
    assert page["lanes"].size["height"] < 60
    assert {row["cut"] for row in table(page.download("csv"))} == {"yes"}
    page.choose("only", "cut")
    page.until(lambda: len(page.rows()) == 2)


def test_errors_are_shown_at_the_field(page, recording):
    """Beside the field, in sight, and tied to it for screen readers."""
    page.load(recording)
    for size in ((1280, 800), (500, 844)):
        page.driver.set_window_size(*size)
        for field, value, button, words in (
            ("query", " ", "ask", "Write a question first."),
            ("window", 20, "windows", "between 0.5 and 10"),
            ("hop", 12, "windows", "at most the window"),
        ):
            before = page[field].get_property("value")
            page.set(field, value)
            page.driver.execute_script("scrollTo(0, 0)")
            page.driver.execute_script("document.getElementById(arguments[0]).click()", button)
            described = page[field].get_attribute("aria-describedby")
            error = page[described.split()[0]]
            assert words in error.text
            assert page.driver.execute_script(VISIBLE, error)
            assert page[field].get_attribute("aria-invalid") == "true"
            assert page.driver.switch_to.active_element == page[field]
            page.set(field, before)
            assert not error.is_displayed()
            assert page[field].get_attribute("aria-invalid") is None
    page.driver.execute_script("document.getElementById('decoding').open = true")
    page.set("temperature", 3)
    page["ask"].click()
    assert "temperature must be" in page.text("decoding-error")


def test_settings_are_written_down(page, recording):
    """A seed by chance too: what is downloaded can be made again."""
    page.load(recording)
    page.driver.execute_script("document.getElementById('decoding').open = true")
    page.set("temperature", 0.7)
    page.set("max-tokens", 40)
    page.ask()
    (row,) = json.loads(page.download("json").read_text())
    assert row["settings"]["temperature"] == 0.7
    assert row["settings"]["max_tokens"] == 40
    assert 0 <= row["settings"]["seed"] < 2**32
    (line,) = table(page.download("csv"))
    assert (line["temperature"], line["seed"], line["max_tokens"]) == ("0.7", str(row["settings"]["seed"]), "40")
    assert line["asked"] == row["asked"]
    for fact in ("tiny-model revision", "temperature 0.7", f"seed {line['seed']}", "max tokens 40", row["asked"][:10]):
        assert fact in page.text("provenance")


def test_windows_as_long_as_the_clips_of_the_model(page, recording):
    five = Listener()
    with serve_tools.serving(five, audio=lambda: AudioConfig(seconds=5.0)) as address:
        page.driver.get(address)
        page.until(lambda: page.text("status") == "ready")
        assert [page[name].get_property("value") for name in ("window", "hop")] == ["5", "5"]
        assert "Up to 5 seconds at a time" in page.text("clip-length")
        page.load(recording)
        assert page.region() == (0, 5)
        page.set("window", 6)
        page["windows"].click()
        assert "between 0.5 and 5 seconds" in page.text("along-error")
        page.set("window", 5)
        page["all"].click()
        assert "only its first 5 s" in page.text("heard")
        page.ask()
        (row,) = table(page.download("csv"))
        assert (row["start"], row["end"]) == ("0.0", "5.0")


def test_the_example(page):
    page["example"].click()
    page.until(lambda: page["sound"].is_displayed())
    assert page.text("drop-hint").startswith("30.0 s")
    page.windows(10, 10)
    page.until(lambda: len(page.rows()) >= 2)
    assert page.cells()[0][2] == "2024-05-01 05:30:00"


def test_frequencies_of_a_region(page, recording):
    page.load(recording)
    page.driver.execute_script("document.getElementById('band').open = true")
    page.set("low", 1000)
    page.set("high", 900)
    page["ask"].click()
    assert "above the lowest" in page.text("band-error")
    page.set("high", 2500)
    page.ask()
    assert page.download("raven").read_text().split("\n")[1].split("\t")[5:7] == ["1000", "2500"]


def test_fingers_at_390_pixels(page, recording, tmp_path):
    """Nothing sticks out, and all that can be touched is 44 pixels high; the help for keys is there."""
    other = tmp_path / "20240501_053000.wav"
    other.write_bytes(recording.read_bytes())
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        page.load(other, recording)
        page.windows(3, 3, "everything")
        page["ask"].click()
        page.answered()
        page.driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
        assert page.driver.execute_script("return document.documentElement.scrollWidth") == 390
        low = page.driver.execute_script(
            "return [...document.querySelectorAll('button, input:not(#file, #scroll), select, summary')].filter((e) => "
            "e.offsetParent && (e.type === 'checkbox' ? e.closest('label') : e).getBoundingClientRect().height < 43.5)"
            ".map((e) => e.id || e.outerHTML)"
        )
        assert not low
        assert page["keys"].is_displayed()
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
