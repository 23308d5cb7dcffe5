"""Makes the picture of docs/serving.md: python tests/serve/picture.py docs/serving.png [--phone] [--dark]"""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import numpy as np  # noqa: E402
import soundfile  # noqa: E402
from browser import Listener, opened, serving  # noqa: E402
from test_page import Page  # noqa: E402

from nlm_jax.testing import NAMES, tone  # noqa: E402


def main(out, *flags):
    """A recording of half a minute, asked about along its whole length and about a region."""
    rng = np.random.default_rng(3)
    sounds = [NAMES[0], None, NAMES[1], NAMES[1], None, NAMES[2], NAMES[0], NAMES[1], NAMES[2], None]
    parts = [tone(n, 3, rng) if n else 0.004 * rng.standard_normal(48_000).astype(np.float32) for n in sounds]
    with tempfile.TemporaryDirectory() as name, serving(Listener()) as address:
        folder = pathlib.Path(name)
        file = folder / "dawn_chorus.wav"
        soundfile.write(file, np.concatenate(parts), 16_000)
        with opened(folder) as driver:
            phone = "--phone" in flags
            size = {"width": 360 if phone else 1120, "height": 740, "deviceScaleFactor": 1, "mobile": phone}
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
            driver.execute_script("document.activeElement.blur(); document.getElementById('run').value = 0;"
                                  "document.getElementById('run').dispatchEvent(new Event('change'))")  # fmt: skip
            height = driver.execute_script("return document.documentElement.scrollHeight")
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"height": height})
            driver.execute_async_script("setTimeout(arguments[0], 400)")
            driver.save_screenshot(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
