"""SPICE of captions, where Java and the scorer's jars are there: the package pycocoevalcap and Stanford CoreNLP 3.6.

Nothing is fetched. The scorer parses every caption into a scene graph; the first minute is spent on loading its models.
"""

import functools
import importlib.util
import json
import math
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero.score import Spice

JAR = "spice-1.0.jar"
PARSER = ("lib/stanford-corenlp-3.6.0.jar", "lib/stanford-corenlp-3.6.0-models.jar")
MEMORY = "-Xmx8G"


class Failed(UserError):
    """The scorer was there but did not do its work."""


def found() -> tuple[Spice | None, str]:
    """The scorer, or None and the reason in words."""
    java = shutil.which("java")
    if not java:
        return None, "SPICE needs Java, and there is no `java` on the path"
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        return None, "SPICE needs its jar; pip install 'nlm_jax[spice]'"
    folder = pathlib.Path(next(iter(package.submodule_search_locations))) / "spice"
    if lacking := [name for name in (JAR, *PARSER) if not (folder / name).is_file()]:
        return None, f"SPICE lacks {lacking[0]} in {folder}; pycocoevalcap's get_stanford_models() fetches it once"
    return functools.partial(spice, java, folder), ""


def spice(java: str, folder: pathlib.Path, captions: Sequence[str], references: Sequence[str]) -> list[float]:
    """The F-score of each caption's scene graph against its reference's.

    Raises:
      Failed: the scorer ended with an error, or left a caption out.
    """
    with tempfile.TemporaryDirectory() as room:
        given, made = pathlib.Path(room, "captions.json"), pathlib.Path(room, "scores.json")
        pairs = enumerate(zip(captions, references, strict=True))
        rows = [{"image_id": f"{i:08d}", "test": text, "refs": [reference]} for i, (text, reference) in pairs]
        given.write_text(json.dumps(rows), encoding="utf-8")
        command = [java, MEMORY, "-jar", JAR, str(given), "-out", str(made), "-subset", "-silent"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode or not made.is_file():
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Failed(f"SPICE ended with status {done.returncode} ({last})")
        scores = {row["image_id"]: row["scores"]["All"]["f"] for row in json.loads(made.read_text(encoding="utf-8"))}
    values = [number(scores.get(row["image_id"])) for row in rows]
    if lacking := sum(map(math.isnan, values)):
        raise Failed(f"SPICE gave no score to {lacking} of {len(values)} captions")
    return values


def number(value) -> float:
    """A score as a float; NaN for whatever is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
