"""Facts of the clips of the synthetic corpus, and how many there are of each kind."""

import dataclasses

from nlm_jax.demo.species import SPECIES


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Number of items of each kind; pairs are (train, valid)."""

    individuals: tuple[int, int] = (16, 5)
    """Individuals of each species."""
    recordings: int = 4
    """Solo recordings of each individual."""
    choirs: tuple[int, int] = (24, 4)
    """Recordings of each species with two or three individuals, half of each."""
    speakers: tuple[int, int] = (26, 8)
    """Speakers; each speaks every word once."""
    dialogues: tuple[int, int] = (120, 40)
    instruments: tuple[int, int] = (30, 8)
    """Instruments of each kind, one melody each."""
    weather: tuple[int, int] = (24, 6)
    """Recordings of each background alone."""
    species: int = len(SPECIES)


FULL = Sizes()
"""The whole corpus."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """The facts of one clip, from which its sound, questions and answers are derived."""

    name: str
    split: str
    domain: str
    who: tuple[str, ...]
    """Ids of the individuals, speakers or instruments in the clip."""
    background: str
    species: str | None = None
    kind: str | None = None
    word: str | None = None
    instrument: str | None = None
    seed: int = 0

    @property
    def count(self) -> int:
        """Number of individuals, speakers or instruments."""
        return len(self.who)
