"""A Chromium without a window that tests drive, and a model for them that can hear."""

import base64
import contextlib
import shutil

import numpy as np
from selenium import webdriver
from selenium.webdriver import Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait
from serve_tools import Fake

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--autoplay-policy=no-user-gesture-required", "--mute-audio", "--force-device-scale-factor=1"),
)

DROP = """
const transfer = new DataTransfer();
for (const [name, text, type] of arguments[0])
  transfer.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name, {type, lastModified: 1}));
for (const name of ["dragenter", "dragover", "drop"])
  document.getElementById("drop").dispatchEvent(
    new DragEvent(name, {dataTransfer: transfer, bubbles: true, cancelable: true}));
"""

STORED = """
const opening = indexedDB.open("nlm_jax");
const wait = (request) => new Promise((done) => { request.onsuccess = () => done(request.result); });
const base = await wait(opening);
const session = await wait(base.transaction("sessions").objectStore("sessions").get(sessionStorage.getItem("session")));
base.close();
return Boolean(session?.recordings.some((one) => one.runs.some((run) => run.rows.some((row) => row.prediction))));
"""


def find_browser() -> tuple[str, str] | None:
    """Chromium and its driver, None where either is missing."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextlib.contextmanager
def opened(folder):
    """A browser with an empty profile in `folder` / "profile", whose downloads go to `folder` / "downloads"."""
    browser, driver = find_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1280,1000"):
        options.add_argument(flag)
    (folder / "downloads").mkdir(parents=True)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    one = webdriver.Chrome(options=options, service=Service(executable_path=driver))
    try:
        yield one
    finally:
        one.quit()


class Listener(Fake):
    """Names clips by their pitch, word by word; `texts` are the prompts. It fails at what `refuses` names."""

    def __init__(self):
        super().__init__()
        self.texts, self.refuses = [], ""

    def answer(self, question, tell):
        """None for silence, else the animal of the strongest frequency, clip by clip; "fail" in a question does so."""
        from nlm_jax.generate.request import Answer

        self.texts.append(question.text)
        text = " and ".join(map(self.name, question.clips))
        if text == self.refuses or "fail" in question.text:
            raise MemoryError("no room")
        if "novel" in question.text:
            text = " ".join([text] * 60)
        for number, word in enumerate(text.split(" ")):
            tell((" " if number else "") + word)
        count = len(text.split()) + 1
        return Answer([1] * count, text, "length" if "novel" in question.text else "end", prompt_tokens=42)

    def name(self, clip):
        """The animal of the strongest frequency."""
        hz = np.abs(np.fft.rfft(clip)).argmax() * 16_000 / clip.size
        loud = np.abs(clip).max() > 0.02
        return "None" if not loud else "Low Hummer" if hz < 600 else "Middle Piper" if hz < 2500 else "High Chirper"


class Page:
    """What a person does on the page."""

    def __init__(self, driver, downloads):
        self.driver, self.downloads = driver, downloads

    def __getitem__(self, ident):
        return self.driver.find_element(By.ID, ident)

    def until(self, true):
        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: true())

    def text(self, ident):
        return self[ident].get_property("textContent").strip()

    def drop(self, *files, kind="audio/wav"):
        """Drops files, (name, content) each, at once."""
        encoded = [(name, base64.b64encode(content).decode(), kind) for name, content in files]
        self.driver.execute_script(DROP, encoded)

    def load(self, *files):
        """Chooses files; waits until the first of them is on view."""
        self["file"].send_keys("\n".join(map(str, files)))
        self.until(lambda: self.text("file-name") == files[0].name and self["ask"].is_enabled())

    def press(self, selector, nth=0):
        """Clicks one of the elements that a CSS selector finds, which may be drawn anew at any moment."""
        self.driver.execute_script("document.querySelectorAll(arguments[0])[arguments[1]].click()", selector, nth)

    def script(self, body, *arguments):
        """What an asynchronous function of JavaScript returns, or the text of what it throws."""
        run = "const done = arguments[arguments.length - 1]; const given = [...arguments];"
        run += f"(async () => {{ {body} }})().then(done, (error) => done('threw ' + error.message));"
        return self.driver.execute_async_script(run, *arguments)

    def set(self, ident, value):
        self[ident].send_keys(Keys.CONTROL + "a")
        self[ident].send_keys(str(value))

    def region(self):
        return tuple(float(self[name].get_property("value")) for name in ("start", "end"))

    def stored(self):
        """Waits until the browser's database has an answer of this tab's session."""
        self.until(lambda: self.script(STORED))

    def ask(self):
        self["ask"].click()
        self.answered()

    def answered(self):
        self.until(lambda: self["answer"].get_attribute("aria-busy") == "false" and self["ask"].is_enabled())

    def cells(self, ident="rows"):
        """The texts in the rows of a table."""
        read = (
            "return [...document.getElementById(arguments[0]).rows].map(r => [...r.cells].map(c => c.innerText.trim()))"
        )
        return self.driver.execute_script(read, ident)

    def rows(self):
        """[from, to, answer] of the table of answers."""
        return [[cells[0], cells[1], cells[4]] for cells in self.cells()]

    def windows(self, window, hop, button="windows"):
        """Asks window by window, and waits for the end."""
        self.set("window", window)
        self.set("hop", hop)
        self[button].click()
        self.until(lambda: "answered" in self.text("progress-text"))

    def choose(self, ident, text):
        """Takes an option of a select by what it says."""
        Select(self[ident]).select_by_visible_text(text)

    def download(self, kind):
        for file in self.downloads.iterdir():
            file.unlink()
        self.driver.find_element(By.CSS_SELECTOR, f"[data-format={kind}]").click()
        return self.downloaded()

    def downloaded(self):
        def files():  # a browser's unfinished ones have names of their own
            return [
                f
                for f in self.downloads.iterdir()
                if f.suffix in (".csv", ".txt", ".json", ".zip") and f.name[0] != "."
            ]

        self.until(lambda: len(files()) == len(list(self.downloads.iterdir())) == 1)
        return files()[0]
