"""Makes the built-in tokenizer, so that nothing has to be downloaded to try the project.

    python -m nlm_jax.prepare.embedded_tokenizer

writes `nlm_jax/data/tokenizer/` again. The text it learns from is put together here from the project's own phrases,
so the vocabulary leans towards questions about sounds; bytes cover everything else.
"""

from nlm_jax.data.text import Tokenizer, embedded_directory

VOCABULARY = 512

QUESTIONS = (
    "What is the common name for the focal species in the audio?",
    "What is the scientific name for the focal species in the audio?",
    "What is the taxonomic name of the focal species in the audio?",
    "Which of these, if any, are present in the audio recording?",
    "What are the common names for the species in the audio, if any?",
    "Caption the audio, using the common name for any animal species.",
    "Caption the audio, using the scientific name for any animal species.",
    "How many individuals of the same species are vocalizing in the audio?",
    "Is the same individual present in both recordings? Answer yes or no.",
    "What is the call type of the animal in the audio: alarm, contact, song or begging call?",
    "What is the life stage of the focal species in the audio: adult, juvenile or nestling?",
    "What kind of sound is in the audio: animal, speech, music or environment?",
    "Which instrument is playing? How many speakers are talking? What digit is spoken?",
    "Answer with None when no animal can be heard.",
)
GROUPS = ("bird", "frog", "mammal", "insect", "whale", "bat", "monkey", "sparrow", "warbler", "owl", "robin", "cricket")
WHERE = ("in the forest", "near the water", "at night", "before sunrise", "above a stream", "in an open field")
DOING = (
    "sings a short whistled phrase",
    "gives a harsh call",
    "trills",
    "repeats a low note",
    "chirps in the distance",
)
AROUND = ("while wind moves through the trees", "over steady rain", "with an engine behind it", "and then falls silent")
COLOURS = ("black", "white", "green", "yellow", "red", "northern", "southern", "common", "great", "little", "grey")


def own_text() -> list[str]:
    """The sentences the vocabulary is learnt from, always in the same order."""
    scenes = [f"A {g} {d} {w} {a}." for g in GROUPS for d in DOING for w in WHERE for a in AROUND]
    names = [f"{c.capitalize()} {g.capitalize()}, {c} {g}, None" for c in COLOURS for g in GROUPS]
    counts = [f"{n} {g}s, from {n}.0 s to {n + 1}.5 s" for n in range(1, 10) for g in GROUPS]
    return [*QUESTIONS * 40, *scenes, *names, *counts]


def make() -> Tokenizer:
    """The built-in tokenizer: 512 byte-level tokens, five special ones of Llama 3, and [PAD]."""
    return Tokenizer.train(own_text(), VOCABULARY)


if __name__ == "__main__":
    make().save(embedded_directory())
    print(f"wrote {embedded_directory()}")
