"""The animals of the synthetic corpus: names and taxonomy are real, the voices are parametric caricatures.

Every species has a song and a call (two `Phrase`s). Species differ in the shape of the notes (contour, partials,
pulses, buzz) and in rhythm, not in pitch alone: individuals of one species differ in pitch and tempo. Names are short
vernacular ones: after a first word such as "Common" a small language model confuses the species.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Note:
    """One note. `hz` are pitches spread evenly over it and joined smoothly in log frequency."""

    seconds: float
    hz: tuple[float, ...]
    partials: tuple[float, ...] = (1.0,)
    """Amplitudes of the harmonics, the fundamental first."""
    pulse: tuple[float, float] = (0.0, 0.0)
    """Amplitude pulses: rate in Hz and depth in [0, 1]."""
    warble: tuple[float, float] = (0.0, 0.0)
    """Pitch warble: rate in Hz and extent as a fraction of the pitch."""
    buzz: float = 0.0
    """Share of narrow-band noise around the pitch, in [0, 1]."""
    gap: float = 0.05
    """Silence after the note, seconds."""


@dataclasses.dataclass(frozen=True)
class Phrase:
    """Notes in order, repeated `times` times (range with both ends) with `pause` seconds in between."""

    notes: tuple[Note, ...]
    times: tuple[int, int]
    pause: float


@dataclasses.dataclass(frozen=True)
class Species:
    """Names, taxonomy and sounds of one species."""

    common: str
    scientific: str
    lineage: str
    """Phylum, class, order and family, separated by spaces."""
    song: Phrase
    call: Phrase

    @property
    def taxonomy(self) -> str:
        """Phylum Class Order Family Genus species, as the reference writes it."""
        return f"{self.lineage} {self.scientific}"

    def phrase(self, kind: str) -> Phrase:
        """The phrase of `kind`, "song" or "call"."""
        return {"song": self.song, "call": self.call}[kind]


BIRD, MAMMAL, FROG, INSECT = "Chordata Aves", "Chordata Mammalia", "Chordata Amphibia Anura", "Arthropoda Insecta"
RICH = (1.0, 0.8, 0.7, 0.5, 0.45, 0.35, 0.3, 0.2)
DEEP = (0.5, 0.8, 1.0, 0.9, 0.7, 0.8, 0.6, 0.5, 0.4, 0.4, 0.3, 0.3)

SPECIES = (
    Species(
        "Chiffchaff",
        "Phylloscopus collybita",
        f"{BIRD} Passeriformes Phylloscopidae",
        song=Phrase((Note(0.10, (6400, 4200), gap=0.12), Note(0.10, (5000, 3300), gap=0.12)), (4, 5), 0.0),
        call=Phrase((Note(0.24, (2600, 3200, 4700)),), (2, 3), 0.38),
    ),
    Species(
        "Great Tit",
        "Parus major",
        f"{BIRD} Passeriformes Paridae",
        song=Phrase((Note(0.08, (6000, 6000), gap=0.02), Note(0.20, (3900, 3900), gap=0.03)), (4, 5), 0.0),
        call=Phrase((Note(0.42, (3600, 3200), pulse=(24, 1.0), buzz=0.7),), (2, 2), 0.3),
    ),
    Species(
        "Cuckoo",
        "Cuculus canorus",
        f"{BIRD} Cuculiformes Cuculidae",
        song=Phrase((Note(0.16, (760, 740), (1, 0.15), gap=0.12), Note(0.28, (580, 570), (1, 0.15))), (2, 3), 0.35),
        call=Phrase((Note(0.75, (900, 1500, 1250), (1, 0.3), pulse=(15, 1.0)),), (1, 2), 0.3),
    ),
    Species(
        "Wren",
        "Troglodytes troglodytes",
        f"{BIRD} Passeriformes Troglodytidae",
        song=Phrase(
            (*(Note(0.035, (7200, 4600), gap=0.02),) * 9, Note(0.16, (3600, 5600), gap=0.02)),
            (2, 2),
            0.12,
        ),
        call=Phrase((Note(0.02, (4200, 3800), buzz=0.95, gap=0.06),) * 3, (2, 3), 0.32),
    ),
    Species(
        "Tawny Owl",
        "Strix aluco",
        f"{BIRD} Strigiformes Strigidae",
        song=Phrase(
            (Note(0.25, (820, 800), (1, 0.2), gap=0.2), Note(0.9, (830, 900, 800), (1, 0.2), warble=(11, 0.05))),
            (1, 1),
            0,
        ),
        call=Phrase((Note(0.30, (1000, 2300, 1300), (1, 0.5, 0.3)),), (2, 3), 0.32),
    ),
    Species(
        "Carrion Crow",
        "Corvus corone",
        f"{BIRD} Passeriformes Corvidae",
        song=Phrase((Note(0.028, (1300, 1100), (1, 0.7, 0.4), buzz=0.5, gap=0.045),) * 9, (1, 2), 0.35),
        call=Phrase((Note(0.30, (520, 600, 480), RICH, pulse=(85, 0.4), buzz=0.35, gap=0.2),), (3, 3), 0.0),
    ),
    Species(
        "Nightjar",
        "Caprimulgus europaeus",
        f"{BIRD} Caprimulgiformes Caprimulgidae",
        song=Phrase((Note(1.7, (1850, 1850, 1600), (1, 0.3), pulse=(30, 1.0)),), (1, 1), 0.0),
        call=Phrase((Note(0.14, (1300, 2300), (1, 0.3)),), (2, 3), 0.45),
    ),
    Species(
        "Corn Crake",
        "Crex crex",
        f"{BIRD} Gruiformes Rallidae",
        song=Phrase((Note(0.22, (4200, 4200), pulse=(55, 1.0), buzz=1.0, gap=0.10),) * 2, (2, 2), 0.33),
        call=Phrase((Note(0.5, (380, 300), RICH[:5], pulse=(18, 0.9)),), (2, 2), 0.3),
    ),
    Species(
        "Swift",
        "Apus apus",
        f"{BIRD} Apodiformes Apodidae",
        song=Phrase((Note(0.95, (4600, 6400, 5000), warble=(38, 0.09)),), (1, 2), 0.1),
        call=Phrase((Note(0.10, (6800, 5200), warble=(60, 0.06), gap=0.05),) * 3, (2, 2), 0.4),
    ),
    Species(
        "Gray Wolf",
        "Canis lupus",
        f"{MAMMAL} Carnivora Canidae",
        song=Phrase((Note(1.6, (330, 560, 540, 420), (1, 0.5, 0.25, 0.1)),), (1, 1), 0.0),
        call=Phrase((Note(0.13, (620, 400), RICH, buzz=0.25, gap=0.12),) * 2, (2, 2), 0.35),
    ),
    Species(
        "Red Deer",
        "Cervus elaphus",
        f"{MAMMAL} Artiodactyla Cervidae",
        song=Phrase((Note(1.3, (120, 190, 170, 110), DEEP, buzz=0.15),), (1, 1), 0.0),
        call=Phrase((Note(0.35, (900, 1050, 700), (0.7, 1, 0.6, 0.4), warble=(16, 0.04)),), (2, 2), 0.4),
    ),
    Species(
        "Bottlenose Dolphin",
        "Tursiops truncatus",
        f"{MAMMAL} Artiodactyla Delphinidae",
        song=Phrase((Note(0.8, (3000, 7000, 3200, 7000, 4200)),), (2, 2), 0.12),
        call=Phrase(
            (Note(1.1, (5200, 5200), pulse=(46, 1.0), buzz=1.0), Note(0.4, (5200, 5200), pulse=(90, 1.0), buzz=1.0)),
            (1, 1),
            0,
        ),
    ),
    Species(
        "Tree Frog",
        "Hyla arborea",
        f"{FROG} Hylidae",
        song=Phrase((Note(0.11, (1050, 1050), (0.8, 1, 0.5), pulse=(80, 0.6), gap=0.075),), (8, 9), 0.0),
        call=Phrase((Note(0.5, (1250, 1600), (0.7, 1, 0.4), pulse=(38, 1.0)),), (2, 2), 0.35),
    ),
    Species(
        "Midwife Toad",
        "Alytes obstetricans",
        f"{FROG} Alytidae",
        song=Phrase((Note(0.15, (1400, 1400)),), (3, 3), 0.45),
        call=Phrase((Note(0.09, (1750, 1750), gap=0.04), Note(0.09, (1450, 1450), gap=0.04)), (2, 3), 0.3),
    ),
    Species(
        "Marsh Frog",
        "Pelophylax ridibundus",
        f"{FROG} Ranidae",
        song=Phrase((Note(0.055, (700, 950, 800), (0.5, 0.8, 1, 0.6), buzz=0.3, gap=0.035),) * 8, (2, 2), 0.3),
        call=Phrase((Note(0.26, (420, 360), (0.4, 0.6, 1, 1, 0.7, 0.5), pulse=(42, 0.8)),), (2, 3), 0.38),
    ),
    Species(
        "Field Cricket",
        "Gryllus campestris",
        f"{INSECT} Orthoptera Gryllidae",
        song=Phrase((Note(0.024, (4800, 4700), gap=0.02),) * 4, (5, 5), 0.17),
        call=Phrase((Note(0.05, (4800, 4600), gap=0.36),), (4, 5), 0.0),
    ),
    Species(
        "Great Green Bush-cricket",
        "Tettigonia viridissima",
        f"{INSECT} Orthoptera Tettigoniidae",
        song=Phrase((Note(1.85, (6600, 6600), pulse=(13, 0.95), buzz=1.0),), (1, 1), 0.0),
        call=Phrase((Note(0.07, (6600, 6600), buzz=1.0, gap=0.3),), (4, 5), 0.0),
    ),
    Species(
        "American Bullfrog",
        "Lithobates catesbeianus",
        f"{FROG} Ranidae",
        song=Phrase((Note(0.65, (190, 210, 190), (0.6, 1, 0.9, 0.2, 0.1, 0.3), gap=0.2),), (2, 2), 0.0),
        call=Phrase((Note(0.32, (1500, 900, 1500), (1, 0.6, 0.6, 0.4)),), (1, 2), 0.5),
    ),
)
BY_NAME = {species.common: species for species in SPECIES}
