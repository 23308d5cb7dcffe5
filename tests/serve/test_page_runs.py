"""Questions that take a while: another recording is opened, the server goes away, a window fails, the page is left."""

import csv
import json
import zipfile

import numpy as np
import pytest
import soundfile

pytest.importorskip("selenium", reason="the page's tests need selenium, of the extra [test]")

from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from nlm_jax.prepare.readers import audacity, raven
from nlm_jax.testing import NAMES, tone

FIRST, SECOND = "What is it?", "Is it alone?"


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Recordings of one animal each: 4 s, 4 s and 6 s."""
    rng = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("three")
    files = [folder / name for name in ("20240501_053000.wav", "20240501_054000.wav", "20240501_055000.wav")]
    for file, name, seconds in zip(files, NAMES, (4, 4, 6), strict=False):
        soundfile.write(file, tone(name, seconds, rng), 16_000)
    return files


def table(file):
    """The rows of a CSV download."""
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def saved_copy(labels, recording, folder):
    """The label file in a folder of its own, next to its recording."""
    moved = folder / labels.name
    moved.write_bytes(labels.read_bytes())
    (folder / recording.name).write_bytes(recording.read_bytes())
    return moved


def blocked(page, urls):
    """The server cannot be reached under these addresses."""
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": urls})


def test_an_answer_stays_with_its_recording(page, three, model):
    page.load(*three[:2])
    page.until(lambda: len(page.cells("files")) == 2)
    model.gate.clear()
    page["ask"].click()
    page.until(lambda: page["stop"].is_displayed())
    page.press(".name", 1)
    page.until(lambda: page.text("file-name") == three[1].name)
    assert not page["ask"].is_enabled()
    model.gate.set()
    page.answered()
    assert three[0].name in page.text("asked")
    assert not page["results-card"].is_displayed()
    page.until(lambda: [row[-2] for row in page.cells("files")] == ["Low Hummer", ""])
    assert not page["lanes"].find_elements(By.TAG_NAME, "span")


def test_the_file_chosen_last_is_shown_and_no_request_is_sent_meanwhile(page, three, tmp_path):
    slow = tmp_path / "slow.flac"
    samples, rate = soundfile.read(three[0])
    soundfile.write(slow, samples, rate)
    page.driver.execute_script(
        "const decode = OfflineAudioContext.prototype.decodeAudioData;"
        "OfflineAudioContext.prototype.decodeAudioData = async function (bytes) {"
        "  await new Promise((go) => { window.go = go; }); return decode.call(this, bytes); }"
    )
    page["file"].send_keys(str(slow))
    page.until(lambda: page.driver.execute_script("return Boolean(window.go)"))
    page["file"].send_keys(str(three[1]))
    page.until(lambda: page["sound"].is_displayed())
    assert not page["ask"].is_enabled()
    page.driver.execute_script("window.go()")
    page.until(lambda: page["ask"].is_enabled())
    assert page.text("file-name") == three[1].name
    assert page.text("drop-hint").startswith("4.0 s")
    page.until(lambda: len(page.cells("files")) == 2)


def test_a_run_waits_for_a_server_that_is_away(page, three):
    page.load(three[2])
    blocked(page, ["*/ask"])
    page.set("window", 1)
    page.set("hop", 1)
    page["windows"].click()
    page.until(lambda: page["continue"].is_displayed())
    assert page.text("progress-text").startswith("0 of 6 windows so far. The server cannot be reached.")
    blocked(page, [])
    page["continue"].click()
    page.until(lambda: page.text("progress-text") == "6 of 6 windows answered.")
    assert not page["continue"].is_displayed()
    blocked(page, ["*/ask", "*/info"])  # and by itself
    page["windows"].click()
    page.until(lambda: page["continue"].is_displayed() and page.text("status") == "no server")
    blocked(page, [])
    page.until(lambda: page.text("progress-text") == "6 of 6 windows answered.")
    assert page.text("status") == "ready"


def test_a_failed_window_is_exported_and_can_be_retried(page, recording, model, tmp_path):
    page.load(recording)
    model.refuses = "None"
    page.windows(2, 2)
    assert page.text("progress-text") == "5 of 6 windows answered, 1 failed."
    page.until(lambda: page["missing"].is_displayed())
    rows = table(page.download("csv"))
    (failed,) = [row for row in rows if row["status"] != "answered"]
    assert (failed["start"], failed["end"], failed["text"]) == ("6.0", "8.0", "")
    assert failed["status"].startswith("failed: The model failed")
    assert len(rows) == 4
    assert "\t6.000\t8.000\t" in page.download("raven").read_text()
    assert "6.000000\t8.000000\t(not answered)\n" in page.download("audacity").read_text()
    read = [example for reader, kind in ((raven, "raven"), (audacity, "audacity"))
            for example in reader.examples(saved_copy(page.download(kind), recording, tmp_path), tmp_path)]  # fmt: skip
    assert [type(one).__name__ for one in read].count("Reject") == 2  # it trains nothing
    assert {one.label for one in read if hasattr(one, "label")} == {"Low Hummer", "Middle Piper"}
    model.refuses = ""
    page.press("#rows [aria-label$='again']")
    page.until(lambda: ["6.0 s", "8.0 s", "None"] in page.rows())
    page.until(lambda: not page["missing"].is_displayed())
    assert {row["status"] for row in table(page.download("csv"))} == {"answered"}


def test_windows_without_an_answer_are_exported(page, three, model):
    page.load(three[2])
    model.gate.clear()
    page.set("window", 0.5)
    page.set("hop", 0.5)
    page["windows"].click()
    page.until(lambda: page["stop"].is_displayed())
    assert page.text("progress-text").startswith("Listening to the first of 12 windows")
    page["stop"].click()
    page.until(lambda: page.text("progress-text") == "0 of 12 windows answered, 12 not asked.")
    model.gate.set()
    assert [(row["start"], row["end"], row["status"]) for row in table(page.download("csv"))] == [
        ("0.0", "6.0", "not asked")
    ]
    page["again"].click()
    page.until(lambda: page.text("progress-text") == "12 of 12 windows answered.")


def test_many_recordings_one_question_one_table(page, three):
    page.load(*three)
    page.set("query", FIRST)
    page.until(lambda: page.text("everything") == "Ask all 3 recordings")
    page.windows(3, 3, "everything")
    assert page.text("progress-text") == "6 of 6 windows answered."
    page.until(
        lambda: [row[3] for row in page.cells("files")] == ["Low Hummer × 2", "Middle Piper × 2", "High Chirper × 2"]
    )
    page.set("query", SECOND)
    page.windows(3, 3, "everything")
    heads = page.driver.execute_script(
        "return [...document.getElementById('files-head').cells].map(c => c.textContent)"
    )
    assert heads == ["Recording", "Length", "Recorded at", FIRST, SECOND, ""]
    assert len(page["lanes"].find_elements(By.CLASS_NAME, "lane")) == 2  # one for each question
    rows = table(page.download("csv"))
    expected = [(file.name, query, name) for file, name in zip(three, NAMES, strict=False) for query in (FIRST, SECOND)]
    assert [(row["file"], row["question"]) for row in rows] == [pair[:2] for pair in expected]
    assert {row["time"] for row in rows} == {"2024-05-01 05:30:00", "2024-05-01 05:40:00", "2024-05-01 05:50:00"}
    assert {(row["model"], row["temperature"], row["window"], row["hop"]) for row in rows} == {
        ("tiny-model", "0", "3", "3")
    }
    with zipfile.ZipFile(page.download("raven")) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{file.stem}.Table.1.selections.txt" for file in three]
        assert archive.read(archive.namelist()[1]).decode().count("Middle Piper") == 2
    assert page.text("unsaved") == ""


def test_everything_is_there_after_a_reload(page, three, model):
    page.load(*three[:2])
    page.set("query", FIRST)
    page.windows(2, 2)
    page.until(lambda: page.rows() == [["0.0 s", "4.0 s", "Low Hummer"]])
    leaving = "const e = new Event('beforeunload', {cancelable: true}); dispatchEvent(e); return e.defaultPrevented"
    assert page.driver.execute_script(leaving)
    page.stored()
    page.driver.refresh()
    page.until(lambda: page["sound"].is_displayed() and page.text("status") == "ready")
    page.until(lambda: page.rows() == [["0.0 s", "4.0 s", "Low Hummer"]])
    assert page["query"].get_property("value") == FIRST
    assert [row[0] for row in page.cells("files")] == [file.name for file in three[:2]]
    page.ask()
    assert page.text("answer") == "Low Hummer"
    page.download("csv")
    page.until(lambda: page.text("unsaved") == "")
    assert not page.driver.execute_script(leaving)


def test_answers_of_a_tab_that_was_closed(page, three, address):
    page.load(three[0])
    page.ask()
    page.stored()
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.driver.get(address)
    page.until(lambda: page.text("status") == "ready")
    assert not page["earlier"].is_displayed()  # the other tab has it open
    second = page.driver.current_window_handle
    page.driver.switch_to.window(first)
    page.driver.close()
    page.driver.switch_to.window(second)
    # a browser takes a moment to close a tab; then one lock is left, this tab's own
    page.until(lambda: page.script("return (await navigator.locks.query()).held.length") == 1)
    page.driver.refresh()
    page.until(lambda: page["earlier"].is_displayed())
    assert three[0].name in page.text("earlier-text")
    page["earlier-open"].click()
    page.until(lambda: page.rows() == [["0.0 s", "4.0 s", "Low Hummer"]])
    page.until(lambda: page["ask"].is_enabled())


def test_answers_from_a_file(page, three):
    page.load(three[0])
    page.set("query", FIRST)
    page.windows(2, 2)
    saved = page.download("json")
    content, name = saved.read_bytes(), saved.name
    page["remove-run"].click()
    page.until(lambda: not page["results-card"].is_displayed())
    page.drop((name, content), kind="application/json")
    page.until(lambda: page.rows() == [["0.0 s", "4.0 s", "Low Hummer"]])
    again = json.loads(page.download("json").read_text())
    drop = lambda rows: [{k: v for k, v in row.items() if k != "run"} for row in rows]  # noqa: E731
    assert drop(again) == drop(json.loads(content))
    page.drop(("bad.json", b'[{"file": "x.wav"}]'), kind="application/json")
    page.until(lambda: "bad.json: answer 1 has no file, start, end or query" in page.text("problem"))


def test_answers_of_nlm_infer(page, three):
    lines = [
        {"file": f"site/{three[0].name}", "start": 2.0 * i, "end": 2.0 * i + 2, "query": FIRST, "prediction": "Owl"}
        for i in range(2)
    ]
    page.drop(("answers.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode()), kind="")
    page.until(lambda: page.rows() == [["0.0 s", "4.0 s", "Owl"]])
    assert not page["sound"].is_displayed()
    page.load(three[0])  # the recording to it
    page.until(lambda: page.rows() == [["0.0 s", "4.0 s", "Owl"]])
    assert page["lanes"].text == "Owl"


def test_keys_of_the_table(page, three):
    """An answer is accepted, corrected, deleted and brought back, filtered and sorted, before it is downloaded."""
    page.load(three[0])
    page.windows(1, 1)
    page["merge"].click()
    page.until(lambda: len(page.rows()) == 4)
    act = lambda label, nth=0: page.press(f"#rows [aria-label^='{label}']", nth)  # noqa: E731
    act("Accept")
    page.until(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, "#rows [aria-pressed=true]")) == 1)
    act("Correct", 1)
    field = page.driver.switch_to.active_element
    field.send_keys(Keys.CONTROL + "a")
    field.send_keys("Tawny Owl", Keys.ENTER)
    page.until(lambda: page.rows()[1][2].startswith("Tawny Owl"))
    act("Delete", 2)
    page.until(lambda: len(page.rows()) == 3)
    page.choose("only", "accepted or corrected")
    page.until(lambda: len(page.rows()) == 2)
    page.choose("only", "all")
    page["filter"].send_keys("owl")
    page.until(lambda: len(page.rows()) == 1)
    page["filter"].clear()
    page["filter"].send_keys(" ")
    page.choose("order", "by answer")
    page.until(lambda: [row[0] for row in page.rows()] == ["0.0 s", "3.0 s", "1.0 s"])
    rows = table(page.download("csv"))
    assert [(row["start"], row["text"], row["verdict"], row["original"]) for row in rows] == [
        ("0.0", "Low Hummer", "accepted", ""),
        ("1.0", "Tawny Owl", "corrected", "Low Hummer"),
        ("3.0", "Low Hummer", "", ""),
    ]
    page["undelete"].click()
    page.until(lambda: len(page.rows()) == 4)


def test_two_recordings_of_one_name(page, three, recording):
    """As an AudioMoth at each site writes them: both are there, and no answer is the other's."""
    page.drop((three[0].name, three[0].read_bytes()))
    page.until(lambda: page["ask"].is_enabled())
    page.drop((three[0].name, recording.read_bytes()))
    second = three[0].name.replace(".wav", " (2).wav")
    page.until(lambda: page.text("file-name") == second and page["ask"].is_enabled())
    page.windows(4, 4, "everything")
    page.until(lambda: page.cells("files")[0][3] == "Low Hummer")
    rows = table(page.download("csv"))
    ends = [(row["file"], row["end"]) for row in rows]
    assert ends == [(three[0].name, "4.0"), (second, "4.0"), (second, "12.0")]
    with zipfile.ZipFile(page.download("raven")) as archive:
        assert len(set(archive.namelist())) == 2
        assert all(three[0].name in archive.read(name).decode() for name in archive.namelist())
