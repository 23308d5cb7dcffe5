"""The 22 parts of BEANS-Zero and what each asks for. Source: the dataset card and arXiv 2411.07186, table 3."""

from typing import Literal

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
"""Parts whose clips are cut shorter than the ten seconds the model hears."""
LONG_LISTS = ("dcase", "enabirds", "rfcx")
"""Detections among more than ten species: listing them all in the question confuses the model."""
SHORT_QUESTION = "What are the common names for the species in the audio, if any?"


def kind_of(part: str, labels: set[str]) -> Kind:
    """What a part asks for; of an unknown one by its labels: "None" among them is a detection."""
    return PARTS.get(part, DETECTION if "None" in labels else CLASSIFICATION)
