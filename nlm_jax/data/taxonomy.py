"""What a corpus knows of its species: which lineages are one species, which patterns name them, and the cap on them."""

import fnmatch
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Num, UInt64

from nlm_jax.core.errors import UserError

SEPARATOR = ";"


def species(lineage: str) -> str:
    """The species of a lineage; of one that ends above the species, or of a label, the whole text."""
    return lineage.rpartition(SEPARATOR)[2].strip() or lineage


def species_codes(taxa: Sequence[str]) -> tuple[list[str], Int[np.ndarray, "X"]]:
    """Names of the species in `taxa`, and the number of each lineage's species: sources may know other ranks of it."""
    names: dict[str, int] = {}
    codes = [names.setdefault(species(lineage), len(names)) for lineage in taxa]
    return list(names), np.asarray(codes, np.int32)


def names_in(lineage: str) -> list[str]:
    """What a pattern may name: each rank, and the lineage or label as a whole."""
    return list(dict.fromkeys([*filter(None, map(str.strip, lineage.split(SEPARATOR))), lineage]))


def factors(taxa: Sequence[str], weights: Mapping[str, float]) -> Float[np.ndarray, "X"]:
    """Per lineage the factor of the first pattern that matches one of its names; 1 where none does."""
    out = np.ones(len(taxa))
    for k, lineage in enumerate(taxa):
        names = names_in(lineage)
        out[k] = next((w for p, w in weights.items() if any(fnmatch.fnmatchcase(n, p) for n in names)), 1.0)
    return out


def capped(code: Num[np.ndarray, "N"], free: Bool[np.ndarray, "S"], cap: int, hashed: UInt64[np.ndarray, "N"]):
    """bool[N]: `cap` examples of every species, those with the lowest hash; of `free` species all.

    Args:
      code: species of every example.
    """
    keep = np.ones(len(code), bool)
    many = (np.bincount(code, minlength=len(free)) > cap) & ~free
    over = np.flatnonzero(many[code])
    if over.size:
        # Species in the high bits, hash in the low ones: one sort of plain numbers instead of a sort by two keys.
        bits = np.uint64(64 - len(free).bit_length())
        key = (code[over].astype(np.uint64) << bits) | (hashed[over] >> (np.uint64(64) - bits))
        order = np.argsort(key)
        group = code[over[order]]
        first = np.searchsorted(group, np.arange(len(free)))
        keep[over[order[np.arange(over.size) - first[group] >= cap]]] = False
    return keep


def need(taxa: Sequence[str], field: str) -> None:
    """UserError where no example has a taxon or label, which `field` asks for."""
    if not any(taxa):
        raise UserError(f"data.mixture.{field}: no example has a taxon or a label; run nlm prepare again with them")
