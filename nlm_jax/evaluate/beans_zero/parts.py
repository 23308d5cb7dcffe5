"""The 22 parts of BEANS-Zero: kind of question, labels, clip length, and the text of the query.

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
MAX_LISTED_LABELS = 8
"""Labels of a detection, "None" included, up to which the query lists them."""
SHORT_QUERY = "What are the common names for the species in the audio, if any?"


@functools.cache
def label_sets() -> dict[str, tuple[str, ...]]:
    """Part -> its labels. Captioning has none."""
    content = json.loads(pathlib.Path(__file__).with_name("labels.json").read_text(encoding="utf-8"))
    return {part: tuple(labels) for part, labels in content.items()}


def kind_of(part: str, labels: Collection[str] = ()) -> Kind:
    """The kind of question of a part; an unknown part with "None" among its `labels` is a detection."""
    return PARTS.get(part, DETECTION if NONE in labels else CLASSIFICATION)


def query_of(part: str, text: str, labels: Collection[str] | None = None) -> str:
    """The query: the benchmark's text, or the short query for a detection with many labels.

    Args:
      part: of the benchmark.
      text: the instruction of the row.
      labels: those of the part; the benchmark's by default.
    """
    labels = label_sets().get(part, ()) if labels is None else labels
    many = kind_of(part, labels) == DETECTION and len({*labels, NONE}) > MAX_LISTED_LABELS
    return SHORT_QUERY if many else text.strip()
