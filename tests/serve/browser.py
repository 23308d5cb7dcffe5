"""A Chromium without a window that tests drive, and a model for them that can hear."""

import contextlib
import shutil

import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from serve_tools import Fake

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--autoplay-policy=no-user-gesture-required", "--mute-audio", "--force-device-scale-factor=1"),
)


def found() -> tuple[str, str] | None:
    """Chromium and its driver, None where either is missing."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextlib.contextmanager
def opened(folder):
    """A browser with an empty profile in `folder` / "profile", whose downloads go to `folder` / "downloads"."""
    browser, driver = found()
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
    """Names what it hears by its pitch, word by word."""

    def answer(self, question, tell):
        """None for silence, else the animal of the strongest frequency; "slow" and "fail" in a question do so."""
        from nlm_jax.serve.question import Answer

        if "fail" in question.text:
            raise MemoryError("no room")
        (clip,) = question.clips
        strength = np.abs(np.fft.rfft(clip))
        hz = strength.argmax() * 16_000 / clip.size
        loud = np.abs(clip).max() > 0.02
        text = "None" if not loud else "Low Hummer" if hz < 600 else "Middle Piper" if hz < 2500 else "High Chirper"
        for word in text.split(" "):
            tell((" " if word != text.split(" ")[0] else "") + word)
        return Answer(text, "stop", 42, len(text.split()) + 1)
