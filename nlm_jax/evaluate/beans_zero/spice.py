"""SPICE of captions, if Java and the scorer's jars are installed: the package pycocoevalcap and Stanford CoreNLP 3.6.

Nothing is downloaded. The scorer parses every caption into a scene graph; loading its models takes about a minute.
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
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero.score import SpiceScorer

JAR = "spice-1.0.jar"
PARSER = ("lib/stanford-corenlp-3.6.0.jar", "lib/stanford-corenlp-3.6.0-models.jar")
MEMORY = "-Xmx8G"
"""Maximum heap of Java."""


class SpiceFailed(UserError):
    """The scorer ended with an error, or left a caption without a score."""


def find_scorer() -> tuple[SpiceScorer | None, str]:
    """(scorer, ""), or (None, the reason) if something is not installed."""
    java = shutil.which("java")
    if not java:
        return None, "SPICE needs Java, and there is no `java` on the path"
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        return None, "SPICE needs its jar; pip install 'nlm_jax[spice]'"
    folder = pathlib.Path(next(iter(package.submodule_search_locations))) / "spice"
    if missing := [name for name in (JAR, *PARSER) if not (folder / name).is_file()]:
        return None, f"SPICE lacks {missing[0]} in {folder}; pycocoevalcap's get_stanford_models() fetches it once"
    return functools.partial(run_scorer, java, folder), ""


def run_scorer(java: str, folder: pathlib.Path, captions: Sequence[str], references: Sequence[str]) -> list[float]:
    """The F-score of each caption's scene graph against its reference's.

    Args:
      java: path of the program.
      folder: with the scorer's jars.
      captions: to score.
      references: one for each.

    Raises:
      SpiceFailed: the scorer ended with an error, or left a caption without a score.
    """
    with tempfile.TemporaryDirectory() as temporary:
        input_file, output_file = pathlib.Path(temporary, "captions.json"), pathlib.Path(temporary, "scores.json")
        pairs = enumerate(zip(captions, references, strict=True))
        rows = [{"image_id": f"{i:08d}", "test": text, "refs": [reference]} for i, (text, reference) in pairs]
        input_file.write_text(json.dumps(rows), encoding="utf-8")
        command = [java, MEMORY, "-jar", JAR, str(input_file), "-out", str(output_file), "-subset", "-silent"]
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if process.returncode or not output_file.is_file():
            last = (process.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise SpiceFailed(f"SPICE ended with status {process.returncode} ({last})")
        results = json.loads(output_file.read_text(encoding="utf-8"))
    scores = {row["image_id"]: row["scores"]["All"]["f"] for row in results}
    values = [as_float(scores.get(row["image_id"])) for row in rows]
    if missing := sum(map(math.isnan, values)):
        raise SpiceFailed(f"SPICE gave no score to {missing} of {len(values)} captions")
    return values


def as_float(value: Any) -> float:
    """A score as a float; NaN if it is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
