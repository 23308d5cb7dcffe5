"""The page in a real browser: drop a recording, select, ask, compare windows, download labels; by mouse and by keys."""

import csv
import io
import json

import pytest

pytest.importorskip("selenium", reason="the page's tests need selenium, of the extra [test]")

from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from nlm_jax import __version__
from nlm_jax.generate import window_labels
from nlm_jax.prepare.readers import audacity, raven

QUERY = "What is the common name for the focal species in the audio?"
OUTLINED = """
const styles = [arguments[0], arguments[0].closest(".drop") ?? arguments[0]].map((e) => getComputedStyle(e));
return styles.some((s) => s.outlineStyle != "none" && parseFloat(s.outlineWidth) >= 2);
"""


def test_drop_ask_compare_download(page, recording, tmp_path):
    page.drop((recording.name, recording.read_bytes()))
    page.until(lambda: page["sound"].is_displayed())
    assert page.text("file-name") == recording.name
    assert "12.0 s" in page.text("drop-hint")
    drawn = (
        "const c = document.getElementById('spectrogram');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return c.width > 800 && new Set(new Uint32Array(d.buffer)).size > 100"
    )
    page.until(lambda: page.driver.execute_script(drawn))

    page.set("start", "4.2")
    page.set("end", "5.8")
    assert page.text("heard") == "1.6 s selected."
    page.ask()
    assert page.text("answer") == "Middle Piper"
    assert "tokens" in page.text("facts")
    assert QUERY in page.text("asked")
    page.until(lambda: page.rows() == [["4.2 s", "5.8 s", "Middle Piper"]])

    page.windows(2, 2)
    assert page.text("progress-text") == "6 of 6 windows answered."
    expected = [["0.0 s", "4.0 s", "Low Hummer"], ["4.0 s", "6.0 s", "Middle Piper"], ["6.0 s", "8.0 s", "None"],
                ["8.0 s", "12.0 s", "Middle Piper"]]  # fmt: skip
    page.until(lambda: page.rows() == expected)
    assert sorted(page.text("counts").split("× ")) == sorted(["Middle Piper ", "3Low Hummer ", "2None ", "1"])
    lanes = page["lanes"].find_elements(By.CLASS_NAME, "lane")
    assert [len(lane.find_elements(By.TAG_NAME, "span")) for lane in lanes] == [
        1,
        4,
    ]  # regions and windows, side by side
    page["merge"].click()
    page.until(lambda: len(page.rows()) == 6)

    # The labels are those that `nlm infer --labels` writes, and `nlm prepare` reads them.
    assert len(json.loads(page.download("json").read_text())) == 7
    page.choose("scope", "the answers chosen above")
    answers = json.loads(page.download("json").read_text())
    assert [(r["start"], r["end"], r["prediction"]) for r in answers][:2] == [
        (0, 2, "Low Hummer"),
        (2, 4, "Low Hummer"),
    ]
    assert {(r["file"], r["query"], r["model"], r["revision"]) for r in answers} == {
        (recording.name, QUERY, "tiny-model", __version__)
    }
    rows = [
        {"file": r["file"], "start": float(r["start"]), "end": float(r["end"]), "prediction": r["prediction"]}
        for r in answers
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(r | {"query": QUERY}) + "\n" for r in rows))
    written = dict(
        zip(
            window_labels.FORMATS,
            window_labels.write(tmp_path / "answers.jsonl", QUERY, window_labels.FORMATS),
            strict=True,
        )
    )
    assert page.download("audacity").read_bytes() == written["audacity"].read_bytes()
    for kind, delimiter in (("csv", ","), ("raven", "\t")):
        ours, theirs = (
            list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline=""), delimiter=delimiter))
            for file in (page.download(kind), written[kind])
        )
        columns = [name for name in theirs[0] if name in ours[0]]
        assert len(columns) >= 4
        assert [[row[name] for name in columns] for row in ours] == [[row[name] for name in columns] for row in theirs]
        assert {row["question" if kind == "csv" else "Question"] for row in ours} == {QUERY}
    for kind, reader in (("raven", raven), ("audacity", audacity)):
        file = page.download(kind)
        sibling = tmp_path / (recording.name if kind == "raven" else file.with_suffix(".wav").name)
        sibling.write_bytes(recording.read_bytes())
        moved = tmp_path / file.name
        moved.write_bytes(file.read_bytes())
        assert reader.opens(moved)
        names = [example.label for example in reader.examples(moved, tmp_path)]
        assert names == ["Low Hummer", "Middle Piper", "Middle Piper"]


def test_keys_alone(page, recording):
    """From the address line to a downloaded label without a pointer, and with the focus always in sight."""
    body = page.driver.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    assert page.driver.switch_to.active_element.get_attribute("class") == "skip"
    body.send_keys(Keys.TAB)
    assert page.driver.switch_to.active_element.get_attribute("id") == "file"
    page.load(recording)  # a driver fills the input where a person would press Enter and choose

    def tab_to(ident):
        for _ in range(30):
            ActionChains(page.driver).send_keys(Keys.TAB).perform()
            focus = page.driver.switch_to.active_element
            assert page.driver.execute_script(OUTLINED, focus), focus.get_attribute("outerHTML")
            if ident in (focus.get_attribute("id"), focus.get_attribute("data-format")):
                return focus
        raise AssertionError(f"no way to {ident} by Tab")

    def press(*keys):
        for key in keys:
            ActionChains(page.driver).send_keys(key).perform()

    page.driver.execute_script("document.getElementById('file').focus()")
    view = tab_to("view")
    assert page.region() == (0, 10)
    assert view.get_attribute("aria-valuetext") == "from 0.0 to 10.0 of 12.0 seconds"
    ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_LEFT * 50).key_up(Keys.SHIFT).perform()
    assert page.region() == pytest.approx((0, 4))
    press(Keys.PAGE_DOWN, Keys.PAGE_DOWN)
    assert page.region() == pytest.approx((8, 12))
    press(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.region() == pytest.approx((0.24, 4.24), abs=0.2)
    press(Keys.END)
    assert page.region() == pytest.approx((8, 12))
    press("+")
    page.until(lambda: page["scroll"].is_displayed())
    press("-")
    page.until(lambda: not page["scroll"].is_displayed())
    press(" ")
    page.until(lambda: page.text("play") == "■ Stop")
    press(" ")
    page.until(lambda: page.text("play") == "▶ Play region")
    tab_to("query")
    ActionChains(page.driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.until(lambda: page.text("answer") == "Middle Piper")
    page.answered()
    tab_to("audacity")
    for file in page.downloads.iterdir():
        file.unlink()
    press(Keys.ENTER)
    assert page.downloaded().read_text() == "8.000000\t12.000000\tMiddle Piper\n"


def test_a_region_by_dragging(page, recording):
    page.load(recording)
    view = page["view"]
    width, left = view.size["width"], -view.size["width"] / 2
    drag = ActionChains(page.driver, duration=10)
    drag.move_to_element_with_offset(view, round(left + width * 0.5), -60).click_and_hold()
    drag.move_by_offset(round(width * 0.1), 0).move_by_offset(round(width * 0.15), 0).release().perform()
    assert page.region() == pytest.approx((6, 9), abs=0.1)
    drag = ActionChains(page.driver, duration=10)  # by its end
    drag.move_to_element_with_offset(view, round(left + width * 0.75), -60).click_and_hold()
    drag.move_by_offset(round(width * 0.1), 0).move_by_offset(round(width * 0.15) - 2, 0).release().perform()
    assert page.region() == pytest.approx((6, 12), abs=0.1)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone(page, recording, dark):
    """360 pixels wide: nothing sticks out, fingers hit the buttons, and text stands out from its ground."""
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    try:
        page.load(recording)
        page.windows(2, 1)
        page["ask"].click()
        page.answered()
        wide = page.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide == [360, 360]
        sticking = page.driver.execute_script(
            "return [...document.querySelectorAll('button, input, select, textarea, h1, h2, p, table')].filter(e => {"
            "const r = e.getBoundingClientRect();"
            "return r.width > 1 && (r.left < -1 || r.right > 361) && !e.closest('.scroll') })"
            ".map(e => e.id || e.outerHTML)"
        )
        assert not sticking
        low = page.driver.execute_script(
            "return [...document.querySelectorAll('.actions button, .tools button')].filter(e => e.offsetParent && "
            "e.getBoundingClientRect().height < 40).map(e => e.id)"
        )
        assert not low
        ink, paper = page.driver.execute_script(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        )
        light = [sum(map(int, colour[4:-1].split(", "))) for colour in (ink, paper)]
        assert (light[0] > 600 and light[1] < 120) if dark else (light[0] < 150 and light[1] > 700)
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_mistakes_in_plain_words(page, recording, model):
    page.drop(("notes.wav", b"no sound at all"))
    page.until(lambda: "notes.wav is not audio that this browser can read" in page.text("problem"))
    page.drop(("nothing.wav", b""))
    page.until(lambda: "nothing.wav is empty" in page.text("problem"))
    assert not page["ask"].is_enabled()
    page.load(recording)
    assert not page["problem"].is_displayed()
    page.set("query", " ")
    page["ask"].click()
    assert page.text("query-error") == "Write a question first."
    Select(page["preset"]).select_by_visible_text("Which of a list")
    page["ask"].click()
    assert "your own words" in page.text("query-error")
    page.set("window", 30)
    page.set("query", "What?")
    page["windows"].click()
    assert "between 0.5 and 10" in page.text("along-error")
    page.set("window", 2)
    page.set("hop", 3)
    page["windows"].click()
    assert "hop" in page.text("along-error")
    page.set("hop", 2)
    assert not page["along-error"].is_displayed()
    page.set("query", "Please fail")
    page.ask()
    assert page.text("answer") == "The model failed (MemoryError: no room)."
    model.gate.clear()  # a long answer can be stopped
    page.set("query", "What?")
    page["ask"].click()
    page.until(lambda: page["stop"].is_displayed())
    page["stop"].click()
    page.answered()
    model.gate.set()
    assert page.text("answer") == "Stopped."


def test_questions_for_every_task(page):
    options = Select(page["preset"]).options
    groups = page.driver.execute_script("return [...document.querySelectorAll('optgroup')].map(g => g.label)")
    assert groups == ["Species", "Detection", "Caption", "Call type", "Life stage", "Counting", "Free text"]
    for option in options[:-1]:
        option.click()
        assert page["query"].get_property("value")
    assert page["query"].get_attribute("required")


def test_everything_has_a_name(page, recording):
    """Each control has a label that a screen reader can say, and ids are there once."""
    page.load(recording)
    nameless = page.driver.execute_script(
        "return [...document.querySelectorAll('input, select, textarea, button, [role=slider]')].filter(e =>"
        "!(e.labels?.length || e.ariaLabel || e.textContent.trim())).map(e => e.outerHTML)"
    )
    assert not nameless
    ids = page.driver.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert page["answer"].get_attribute("aria-live") == "polite"


def test_nothing_comes_from_elsewhere(page, address, recording):
    page.load(recording)
    loaded = page.driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert len(loaded) > 5
    assert all(name.startswith((address, "blob:")) for name in loaded)
