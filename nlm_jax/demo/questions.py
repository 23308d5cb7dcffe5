"""Questions and answers about a scene, and its description in words for text pre-training."""

import numpy as np

from nlm_jax.demo.scene import Scene
from nlm_jax.demo.species import BY_NAME, Species

COUNTS = {1: "One", 2: "Two", 3: "Three"}
DETECT = "Which of these, if any, is heard?"
OPTIONS = 3  # species named in a detection question
CLOSED = (
    "common-name",
    "scientific-name",
    "taxonomic-name",
    "call-type",
    "common-simple-detection",
    "individual-count",
    "spoken-word",
    "speaker-count",
    "instrument",
    "domain",
)
"""Tasks with one correct answer, scored by exact match. Captions are shown in the report but not scored."""
NAMING = ("common-name", "scientific-name", "taxonomic-name")
"""Tasks that name the species."""
PROMPTS = {
    "common-name": "Which species is this?",
    "scientific-name": "What is its scientific name?",
    "taxonomic-name": "What is its full taxonomy?",
    "call-type": "Is it a song or a call?",
    "individual-count": "How many individuals call?",
    "spoken-word": "Which word is spoken?",
    "speaker-count": "How many people speak?",
    "instrument": "Which instrument plays?",
    "domain": "Is it an animal, speech, music or environment?",
    "captioning": "Caption the audio.",
}


def rows(scene: Scene, seed: int, species: tuple[Species, ...]) -> list[dict[str, str]]:
    """Every question about `scene` with its answer: dicts of task, prompt, text, domain and licence."""
    rng = np.random.default_rng([seed, 4, scene.seed])
    answers = {"domain": scene.domain, "captioning": caption(scene)}
    prompts = dict(PROMPTS)
    if scene.species:
        animal = BY_NAME[scene.species]
        answers |= {
            "common-name": animal.common,
            "scientific-name": animal.scientific,
            "taxonomic-name": animal.taxonomy,
            "call-type": scene.kind,
            "individual-count": COUNTS[scene.count],
        }
    if scene.species or scene.domain == "environment":
        prompts["common-simple-detection"], answers["common-simple-detection"] = detection(scene, species, rng)
    if scene.domain == "speech":
        answers["speaker-count"] = COUNTS[scene.count]
    if scene.word:
        answers["spoken-word"] = scene.word
    if scene.instrument:
        answers["instrument"] = scene.instrument
    extra = {"domain": scene.domain, "licence": "CC0-1.0", "individual": "; ".join(scene.who)}
    return [{"prompt": prompts[task], "text": text, "task": task} | extra for task, text in answers.items()]


def detection(scene: Scene, species: tuple[Species, ...], rng: np.random.Generator) -> tuple[str, str]:
    """A detection question with options and its answer; "None" for about half of the questions."""
    others = [s.common for s in species if s.common != scene.species]
    options = [str(name) for name in rng.choice(others, min(OPTIONS, len(others)), replace=False)]
    if scene.species and rng.random() < 0.55:
        options[int(rng.integers(len(options)))] = scene.species
        return f"{DETECT} {', '.join(options)}", scene.species
    return f"{DETECT} {', '.join(options)}", "None"


def caption(scene: Scene) -> str:
    """One sentence about the scene."""
    if scene.domain == "environment":
        return f"The sound of {scene.background}."
    if scene.instrument:
        return f"A {scene.instrument} plays, with {scene.background}."
    if scene.word:
        return f'A person says "{scene.word}", with {scene.background}.'
    if scene.domain == "speech":
        return f"Two people talk, with {scene.background}."
    verb = {"song": "sing", "call": "call"}[scene.kind]
    if scene.count == 1:
        return f"A {scene.species} {verb}s, with {scene.background}."
    return f"{COUNTS[scene.count]} individuals of {scene.species} {verb}, with {scene.background}."


def description(scene: Scene) -> str:
    """Description of a scene, which takes the place of the clip's vectors in text pre-training.

    One word or name per line, so that each has the same token as at the start of an answer.
    """
    if scene.domain == "animal":
        return f"{scene.species}\n{scene.kind}\n{COUNTS[scene.count]}\nanimal"
    if scene.domain == "speech":
        return f"{scene.word or 'talk'}\n{COUNTS[scene.count]}\nspeech"
    return f"{scene.instrument or scene.background}\n{scene.domain}"
