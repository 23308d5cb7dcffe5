"""Species of a corpus: which lineages are one species, which patterns match them, and the cap on their examples."""

import fnmatch
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Num, UInt64

from nlm_jax.core.errors import UserError

SEPARATOR = ";"


def species(lineage: str) -> str:
    """The last rank of a lineage; the whole text if that is empty (it ends above the species), or for a label."""
    return lineage.rpartition(SEPARATOR)[2].strip() or lineage


def species_codes(taxa: Sequence[str]) -> tuple[list[str], Int[np.ndarray, "X"]]:
    """Names of the species in `taxa`, and per lineage the code of its species: sources may give other ranks of it."""
    names: dict[str, int] = {}
    codes = [names.setdefault(species(lineage), len(names)) for lineage in taxa]
    return list(names), np.asarray(codes, np.int32)


def names_in(lineage: str) -> list[str]:
    """Names that a pattern is compared with: each rank, and the whole lineage or label."""
    return list(dict.fromkeys([*filter(None, map(str.strip, lineage.split(SEPARATOR))), lineage]))


def factors(taxa: Sequence[str], weights: Mapping[str, float]) -> Float[np.ndarray, "X"]:
    """Per lineage the factor of the first pattern that matches one of its names; 1 if none does."""
    out = np.ones(len(taxa))
    for k, lineage in enumerate(taxa):
        names = names_in(lineage)
        out[k] = next((w for p, w in weights.items() if any(fnmatch.fnmatchcase(n, p) for n in names)), 1.0)
    return out


def within_cap(
    species_of: Num[np.ndarray, "N"], exempt: Bool[np.ndarray, "X"], cap: int, hashed: UInt64[np.ndarray, "N"]
) -> Bool[np.ndarray, "N"]:
    """Which examples a cap on species keeps: per species the `cap` examples of the lowest hash.

    Args:
      species_of: code of every example's species.
      exempt: per species whether all of its examples are kept.
      cap: examples of a species.
      hashed: a hash per example.
    """
    keep = np.ones(len(species_of), bool)
    too_many = (np.bincount(species_of, minlength=len(exempt)) > cap) & ~exempt
    over = np.flatnonzero(too_many[species_of])
    if over.size:
        # Species in the high bits, hash in the low ones: one sort of plain numbers instead of a sort by two keys.
        bits = np.uint64(64 - len(exempt).bit_length())
        key = (species_of[over].astype(np.uint64) << bits) | (hashed[over] >> (np.uint64(64) - bits))
        order = np.argsort(key)
        sorted_species = species_of[over[order]]
        first = np.searchsorted(sorted_species, np.arange(len(exempt)))
        keep[over[order[np.arange(over.size) - first[sorted_species] >= cap]]] = False
    return keep


def check_taxa(taxa: Sequence[str], field: str) -> None:
    """UserError if no example has a taxon or label, which `data.mixture.<field>` needs."""
    if not any(taxa):
        raise UserError(f"data.mixture.{field}: no example has a taxon or a label; run nlm prepare again with them")
