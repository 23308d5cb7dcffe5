"""Statistics from the index of a corpus, without opening recordings: counts, hours, taxa, durations, tokens."""

import collections
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.data import taxonomy
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.schema import RANKS

UNNAMED = "(none)"
"""Shown in place of an empty name."""
EXTREMES = 15
"""Labels listed with the most and with the fewest examples."""
REASONS = 20


class Clips:
    """The distinct clips of a corpus, numbered over all its directories, and the examples that use them."""

    def __init__(self, corpus: Corpus):
        counts = [len(part.index["clip_samples"]) for part in corpus.parts]
        self.first = np.cumsum(counts) - counts
        self.samples = np.concatenate([np.asarray(part.index["clip_samples"], np.int64) for part in corpus.parts])
        self._clip = np.concatenate(
            [
                np.asarray(part.index["clips"], np.int64) + first
                for part, first in zip(corpus.parts, self.first, strict=True)
            ]
        )
        self._owner = np.repeat(np.arange(len(corpus)), corpus.n_clips)

    def tally(self, names: Sequence[str], codes: Int[np.ndarray, "N"]) -> list[dict[str, Any]]:
        """Per name its examples, and their distinct clips and hours; most examples first."""
        examples = np.bincount(codes, minlength=len(names))
        pairs = np.unique(codes[self._owner].astype(np.int64) * max(1, len(self.samples)) + self._clip)
        of, clip = np.divmod(pairs, max(1, len(self.samples)))
        clips = np.bincount(of, minlength=len(names))
        hours = np.bincount(of, weights=self.samples[clip], minlength=len(names)) / (3600 * SAMPLE_RATE)
        rows = [
            {"name": n or UNNAMED, "examples": int(e), "clips": int(c), "hours": round(float(h), 4)}
            for n, e, c, h in zip(names, examples, clips, hours, strict=True)
        ]
        return sorted(rows, key=lambda row: (-row["examples"], row["name"]))


def numbers(corpus: Corpus) -> dict[str, Any]:
    """The fields of describe.json that follow from the index: all but those about audio, answers and examples."""
    clips = Clips(corpus)
    manifests = [part.manifest for part in corpus.parts]
    species, code_of = taxonomy.species_codes(corpus.taxa)
    return {
        "directories": [
            {
                "name": name,
                **{key: m.get(key) for key in ("examples", "clips", "hours", "clips_cut_short", "rejected")},
                "annotations": m.get("annotations", {}).get("name"),
                "tokenizer": m.get("text", {}).get("tokenizer"),
            }
            for name, m in zip(corpus.sources, manifests, strict=True)
        ],
        "examples": len(corpus),
        "clips": len(clips.samples),
        "hours": round(float(clips.samples.sum()) / (3600 * SAMPLE_RATE), 4),
        **{f"{key}s": clips.tally(*corpus.codes(key)) for key in ("task", "domain", "split", "licence")},
        "taxa": tree(clips.tally(corpus.taxa, corpus.taxon)),
        "labels": imbalance(species, code_of[corpus.taxon]),
        "durations": spread(clips.samples / SAMPLE_RATE),
        "sources": sources(manifests),
        "tokens": {name: spread(corpus.column(f"{name}_tokens")) for name in ("text", "answer")},
        "rejects": rejects(corpus),
    }


def sources(manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Facts about the source recordings; empty for directories of versions that did not store them.

    Returns:
      `rates`: Hz -> clips; `ultrasound` and `damaged`: number of recordings whose energy is mostly above 8 kHz (lost at
      16 kHz) or that could not be read whole, and the first names.
    """
    rates: collections.Counter[str] = collections.Counter()
    recordings = {name: {"recordings": 0, "first": []} for name in ("ultrasound", "damaged")}
    for audio in (manifest.get("audio", {}) for manifest in manifests):
        rates.update(audio.get("source_rates", {}))
        for name, one in recordings.items():
            own = audio.get(name, {"recordings": 0, "first": []})
            one["recordings"] += own["recordings"]
            one["first"] += own["first"]
    return {"rates": dict(sorted(rates.items(), key=lambda item: int(item[0]))), **recordings}


def tree(tally: list[dict[str, Any]]) -> dict[str, Any]:
    """Lineages as nested nodes with sums; labels without a lineage are listed apart.

    Returns:
      `roots`: nodes of `name`, `rank`, `examples`, `clips`, `hours`, `species`, `children`; `labels` and `unlabelled`.
    """
    root: dict[str, Any] = {"children": {}}
    labels, unlabelled = [], 0
    for one in tally:
        ranks = one["name"].split(taxonomy.SEPARATOR)
        if one["name"] == UNNAMED:
            unlabelled = one["examples"]
        elif len(ranks) != len(RANKS):
            labels.append(one)
        else:
            node = root
            for rank, name in zip(RANKS, ranks, strict=True):
                if name.strip():
                    new = {"name": name.strip(), "rank": rank, "examples": 0, "clips": 0, "hours": 0.0, "children": {}}
                    node = node["children"].setdefault((rank, name.strip()), new)
                    for key in ("examples", "clips", "hours"):
                        node[key] += one[key]
    return {"roots": _sorted(root)[0], "labels": labels, "unlabelled": unlabelled}


def _sorted(node: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """The node's children as a list, most examples first, and the species below it."""
    out, species = [], 0
    for child in sorted(node["children"].values(), key=lambda c: (-c["examples"], c["name"])):
        children, below = _sorted(child)
        below += child["rank"] == RANKS[-1]
        out.append({**child, "hours": round(child["hours"], 4), "species": below, "children": children})
        species += below
    return out, species


def imbalance(names: Sequence[str], codes: Int[np.ndarray, "N"]) -> dict[str, Any]:
    """How unevenly examples are distributed over labels (species, or the label if there is no lineage).

    Returns:
      `gini` (0 = equal, near 1 = one label has all examples), `effective_number` (exp of the entropy: that many
      equally frequent labels have the same entropy), `ratio` of the largest to the smallest, `counts` in descending
      order (at most 2,000 points), and the labels at both ends.
    """
    counts = np.bincount(codes, minlength=len(names))
    ranked = sorted(
        ((int(n), name) for name, n in zip(names, counts, strict=True) if n and name), key=lambda p: (-p[0], p[1])
    )
    listed = [{"name": name, "examples": n} for n, name in ranked]
    falling = np.asarray([n for n, _ in ranked], np.int64)
    if not len(falling):
        return {"labels": 0, "gini": 0.0, "effective_number": 0.0, "ratio": 0.0, "counts": [], "top": [], "bottom": []}
    points = np.unique(np.linspace(0, len(falling) - 1, min(len(falling), 2000)).round().astype(int))
    return {
        "labels": len(falling),
        "gini": round(gini(falling), 4),
        "effective_number": round(effective_number(falling), 2),
        "ratio": round(float(falling[0] / falling[-1]), 2),
        "counts": falling[points].tolist(),
        "top": listed[:EXTREMES],
        "bottom": listed[max(EXTREMES, len(listed) - EXTREMES) :],
    }


def gini(counts: Int[np.ndarray, "N"]) -> float:
    """Gini coefficient of counts."""
    rising = np.sort(counts).astype(np.float64)
    n = len(rising)
    return float((2 * np.arange(1, n + 1) - n - 1) @ rising / (n * rising.sum()))


def effective_number(counts: Int[np.ndarray, "N"]) -> float:
    """exp of the entropy of counts: 1 if a single one is not 0, their number if all are equal."""
    share = counts[counts > 0] / counts.sum()
    return math.exp(-float(share @ np.log(share)))


def spread(values: Float[np.ndarray, "N"] | Int[np.ndarray, "N"], bins: int = 40) -> dict[str, Any]:
    """Mean, quantiles, and a histogram of at most `bins` + 2 bins between round edges."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return {"count": 0, "edges": [], "counts": []}
    low, high = float(values.min()), float(values.max())
    step = round_step((high - low) / bins if high > low else 1.0)
    first = math.floor(low / step)
    edges = step * np.arange(first, max(first + 1, math.ceil(high / step)) + 1)
    counts = np.histogram(values, edges)[0]
    out = {"count": len(values), "mean": round(float(values.mean()), 4), "min": round(low, 4)}
    for q, name in ((5, "p5"), (25, "p25"), (50, "median"), (75, "p75"), (95, "p95")):
        out[name] = round(float(np.percentile(values, q)), 4)
    return {**out, "max": round(high, 4), "edges": [round(float(e), 6) for e in edges], "counts": counts.tolist()}


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * 0.999999)


def rejects(corpus: Corpus) -> dict[str, Any]:
    """Rejects of `nlm prepare` by reason; without reasons for directories whose list is missing."""
    rejected = [part.manifest.get("rejected", {}) for part in corpus.parts]
    total = {key: sum(int(g.get(key, 0)) for g in rejected) for key in ("clips", "examples")}
    by_reason: dict[str, dict[str, Any]] = collections.defaultdict(lambda: {"entries": 0, "examples": 0})
    missing = []
    for part, name in zip(corpus.parts, corpus.sources, strict=True):
        file = part.directory / "rejects.jsonl"
        if not file.is_file():
            missing.append(name)
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line) if line.strip() else {}
            if entry:
                reason = str(entry.get("reason", "unknown")).replace(str(entry.get("file") or "\0"), "...")
                one = by_reason[re.sub(r"\S*\.\.\.", "...", reason).strip()]  # one reason, whatever file and folder
                one["entries"] += 1
                one["examples"] += int(entry.get("examples", 1))
                one.setdefault("file", str(entry.get("file", "")))
    listed = sorted(
        ({"reason": r, **one} for r, one in by_reason.items()), key=lambda one: (-one["entries"], one["reason"])
    )
    return {
        **total,
        "reasons": listed[:REASONS],
        "further_reasons": max(0, len(listed) - REASONS),
        "list_missing": missing,
    }
