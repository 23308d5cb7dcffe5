"""The 22 parts of BEANS-Zero: what each asks for, its labels, its longest clip, and how it is asked.

Source: the benchmark's dataset configuration (its card and arXiv 2411.07186, table 3, agree) and the evaluation
processor of the official model.
"""

import functools
import json
import pathlib
from collections.abc import Collection
from typing import Literal

from nlm_jax.data.schema import NONE

Kind = Literal["classification", "detection", "captioning"]
CLASSIFICATION: Kind = "classification"
DETECTION: Kind = "detection"
CAPTIONING: Kind = "captioning"

UNSEEN = ("species", "genus", "family")
PARTS: dict[str, Kind] = {
    "esc50": CLASSIFICATION,
    "watkins": CLASSIFICATION,
    "cbi": CLASSIFICATION,
    "humbugdb": CLASSIFICATION,
    "dcase": DETECTION,
    "enabirds": DETECTION,
    "hiceas": DETECTION,
    "rfcx": DETECTION,
    "gibbons": DETECTION,
    **{f"unseen-{taxon}-{names}": CLASSIFICATION for taxon in UNSEEN for names in ("cmn", "sci", "tax")},
    "lifestage": CLASSIFICATION,
    "call-type": CLASSIFICATION,
    "captioning": CAPTIONING,
    "zf-indiv": CLASSIFICATION,
}

MAX_SECONDS = {"esc50": 5.0, "watkins": 3.0, "humbugdb": 3.0}
"""Parts whose clips are cut, and zero-padded, to less than the official model's ten seconds."""
TOO_MANY = 8
"""Labels of a detection, "None" counted, above which they are not listed in the question."""
SHORT_QUESTION = "What are the common names for the species in the audio, if any?"


@functools.cache
def label_sets() -> dict[str, tuple[str, ...]]:
    """Part -> its labels. Captioning has none."""
    content = json.loads(pathlib.Path(__file__).with_name("labels.json").read_text(encoding="utf-8"))
    return {part: tuple(labels) for part, labels in content.items()}


def kind_of(part: str, labels: Collection[str] = ()) -> Kind:
    """What a part asks for; of an unknown one by its labels: "None" among them is a detection."""
    return PARTS.get(part, DETECTION if NONE in labels else CLASSIFICATION)


def question_of(part: str, text: str, labels: Collection[str] | None = None) -> str:
    """What is asked: the benchmark's text, or of a detection among many labels the short question.

    Args:
      labels: those of the part; the benchmark's own by default.
    """
    known = label_sets().get(part, ()) if labels is None else labels
    long = kind_of(part, known) == DETECTION and len({*known, NONE}) > TOO_MANY
    return SHORT_QUESTION if long else text.strip()
