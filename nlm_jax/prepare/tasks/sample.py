"""Invented recordings with every fact that a task may need, for examples of tasks."""

from nlm_jax.data.schema import Example

_SPECIES = (  # common name, species, family, order, class
    ("Common Blackbird", "Turdus merula", "Turdidae", "Passeriformes", "Aves"),
    ("Song Thrush", "Turdus philomelos", "Turdidae", "Passeriformes", "Aves"),
    ("European Robin", "Erithacus rubecula", "Muscicapidae", "Passeriformes", "Aves"),
    ("Eurasian Wren", "Troglodytes troglodytes", "Troglodytidae", "Passeriformes", "Aves"),
    ("Tawny Owl", "Strix aluco", "Strigidae", "Strigiformes", "Aves"),
    ("Common Cuckoo", "Cuculus canorus", "Cuculidae", "Cuculiformes", "Aves"),
    ("Red Deer", "Cervus elaphus", "Cervidae", "Artiodactyla", "Mammalia"),
    ("Red Fox", "Vulpes vulpes", "Canidae", "Carnivora", "Mammalia"),
    ("Common Toad", "Bufo bufo", "Bufonidae", "Anura", "Amphibia"),
)
_CALLS = ("song", "alarm call", "flight call", "begging call")
_STAGES = ("adult", "juvenile", "nestling")
_SOUNDS = ("rain", "wind", "chainsaw", "church_bells", "thunderstorm")
_NOTES = (("guitar", "440 Hz"), ("flute", "523.3 Hz"), ("organ", "130.8 Hz"), ("brass", "220 Hz"))
_WORDS = ("yes", "no", "left", "right")


def recordings() -> list[Example]:
    """A few dozen recordings of animals, sounds, notes and voices, each label several times."""
    examples = [_animal(k) for k in range(4 * len(_SPECIES))]
    for k in range(3 * len(_SOUNDS)):
        examples.append(_example(f"sound{k}", {"sound": _SOUNDS[k % len(_SOUNDS)]}))
    for k in range(3 * len(_NOTES)):
        instrument, pitch = _NOTES[k % len(_NOTES)]
        facts = {"instrument": instrument, "pitch": pitch, "velocity": "100", "quality": "bright, percussive"}
        examples.append(_example(f"note{k}", facts))
    for k in range(3 * len(_WORDS)):
        word = _WORDS[k % len(_WORDS)]
        facts = {"word": word, "speaker": f"speaker {k % 3 + 1}", "gender": ("female", "male")[k % 2]}
        examples.append(_example(f"voice{k}", {**facts, "speakers": str(k % 3 + 1), "transcript": f"turn {word}"}))
    return examples


def _animal(k: int) -> Example:
    common, species, family, order, group = _SPECIES[k % len(_SPECIES)]
    facts = {"common_name": common, "scientific_name": species, "genus": species.split()[0], "family": family}
    facts |= {"order": order, "class": group, "phylum": "Chordata", "call_type": _CALLS[k % len(_CALLS)]}
    facts |= {"life_stage": _STAGES[k % len(_STAGES)], "sex": ("male", "female")[k % 2], "individuals": str(k % 3 + 1)}
    facts |= {
        "count": str(k % 5 + 1),
        "caption": f"A {common} is heard near a stream, and the wind blows in the trees.",
    }
    facts |= {
        "place": "Kerzers",
        "country": "Switzerland",
        "date": "2024-05-12",
        "time": "05:40",
        "notes": "in a hedge",
    }
    if k % 4 == 1:
        facts["others"] = _SPECIES[(k + 1) % len(_SPECIES)][1]
    return _example(f"animal{k}", facts)


def _example(name: str, facts: dict[str, str]) -> Example:
    return Example(id=name, paths=(f"{name}.wav",), prompt="", text="", task="", facts=facts)
