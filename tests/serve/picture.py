"""Makes the picture of docs/serving.md: python tests/serve/picture.py docs/serving.png [--phone] [--dark]"""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import numpy as np
import soundfile
from browser import Listener, Page, opened
from serve_tools import serving


def song(kind, rng, seconds=3.0):
    """f32[T]: notes that rise and fall, with two overtones; little noise, so that the picture is a small file."""
    t = np.arange(round(seconds * 16_000)) / 16_000
    out = 3e-5 * rng.standard_normal(t.size)
    low, high, length, pause = {"hum": (330, 420, 0.5, 0.25), "pipe": (1100, 1700, 0.22, 0.13),
                                "chirp": (3000, 4600, 0.09, 0.08), None: (0, 0, 9, 9)}[kind]  # fmt: skip
    for begin in np.arange(0.1, seconds - length, length + pause) if kind else ():
        at = (t - begin) / length
        inside = (at > 0) & (at < 1)
        sweep = low + (high - low) * np.sin(np.pi * at) ** 2 * rng.uniform(0.7, 1)
        phase = 2 * np.pi * np.cumsum(np.where(inside, sweep, 0)) / 16_000
        voice = sum(np.sin(k * phase) / k**2 for k in (1, 2, 3))
        out += np.where(inside, 0.3 * np.sin(np.pi * at) ** 2 * voice, 0)
    return out.astype(np.float32)


def main(out, *flags):
    """A recording of half a minute, asked about along its whole length and about a region."""
    rng = np.random.default_rng(3)
    kinds = ("hum", None, "pipe", "pipe", None, "chirp", "hum", "pipe", "chirp", None)
    parts = [song(kind, rng) for kind in kinds]
    with tempfile.TemporaryDirectory() as name, serving(Listener()) as address:
        folder = pathlib.Path(name)
        file = folder / "SMM00123_20240501_053000.wav"
        soundfile.write(file, np.concatenate(parts), 16_000)
        with opened(folder) as driver:
            phone = "--phone" in flags
            size = {"width": 360 if phone else 1000, "height": 740, "deviceScaleFactor": 1, "mobile": phone}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            if "--dark" in flags:
                scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
            driver.get(address)
            page = Page(driver, folder)
            page.until(lambda: page.text("status") == "ready")
            page.load(file)
            page.windows(3, 3)
            for ident, value in (("start", "6.2"), ("end", "11.6")):
                page.set(ident, value)
            page.ask()
            page.choose("run", "All questions")
            driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
            height = driver.execute_script("return document.documentElement.scrollHeight")
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"height": height})
            driver.execute_async_script("setTimeout(arguments[0], 400)")
            driver.save_screenshot(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
