"""Numbers that the index of a corpus holds, without opening a recording: counts, hours, taxa, durations, tokens."""

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

NOTHING = "(none)"
"""Stands for an empty name."""
EXTREMES = 15
"""Labels listed from either end."""
REASONS = 20


class Clips:
    """The distinct clips of a corpus, numbered over all its directories, and which examples ask about them."""

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
        """Per name its examples, and the distinct clips and hours they are about; most examples first."""
        examples = np.bincount(codes, minlength=len(names))
        pairs = np.unique(codes[self._owner].astype(np.int64) * max(1, len(self.samples)) + self._clip)
        of, clip = np.divmod(pairs, max(1, len(self.samples)))
        clips = np.bincount(of, minlength=len(names))
        hours = np.bincount(of, weights=self.samples[clip], minlength=len(names)) / (3600 * SAMPLE_RATE)
        out = [
            {"name": n or NOTHING, "examples": int(e), "clips": int(c), "hours": round(float(h), 4)}
            for n, e, c, h in zip(names, examples, clips, hours, strict=True)
        ]
        return sorted(out, key=lambda one: (-one["examples"], one["name"]))


def numbers(corpus: Corpus) -> dict[str, Any]:
    """Everything that the index tells: the fields of describe.json but those about sound, answers and examples."""
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
    """Of the recordings behind the clips: `rates` in Hz -> clips, and those whose energy is ultrasound (lost at 16 kHz)
    and that are damaged, with the first names. Nothing of directories that were prepared before these were noted."""
    rates: collections.Counter[str] = collections.Counter()
    found = {name: {"recordings": 0, "first": []} for name in ("ultrasound", "damaged")}
    for audio in (manifest.get("audio", {}) for manifest in manifests):
        rates.update(audio.get("source_rates", {}))
        for name, one in found.items():
            own = audio.get(name, {"recordings": 0, "first": []})
            one["recordings"] += own["recordings"]
            one["first"] += own["first"]
    return {"rates": dict(sorted(rates.items(), key=lambda item: int(item[0]))), **found}


def tree(tally: list[dict[str, Any]]) -> dict[str, Any]:
    """Lineages as nested nodes with the sums below them; labels without a lineage are beside the tree.

    Returns:
      `roots`: nodes of `name`, `rank`, `examples`, `clips`, `hours`, `species`, `children`; `labels` and `unlabelled`.
    """
    root: dict[str, Any] = {"children": {}}
    labels, unlabelled = [], 0
    for one in tally:
        ranks = one["name"].split(taxonomy.SEPARATOR)
        if one["name"] == NOTHING:
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
    """How unevenly the labels (species, or what stands for them) have examples.

    Returns:
      `gini` (0 = all alike, towards 1 = one has all), `effective_number` (exp of the entropy: as many equally frequent
      labels would be as uncertain), `ratio` of the largest to the smallest, `counts` in falling order (at most 2,000
      points), and the labels at both ends.
    """
    counts = np.bincount(codes, minlength=len(names))
    found = sorted(
        ((int(n), name) for name, n in zip(names, counts, strict=True) if n and name), key=lambda p: (-p[0], p[1])
    )
    listed = [{"name": name, "examples": n} for n, name in found]
    falling = np.asarray([n for n, _ in found], np.int64)
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
    """exp of the entropy of counts: 1 where one has all, their number where all are alike."""
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
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * 0.999999)


def rejects(corpus: Corpus) -> dict[str, Any]:
    """What `nlm prepare` left out, by reason; only the numbers where its list is missing."""
    given = [part.manifest.get("rejected", {}) for part in corpus.parts]
    total = {key: sum(int(g.get(key, 0)) for g in given) for key in ("clips", "examples")}
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
                told = str(entry.get("reason", "unknown")).replace(str(entry.get("file") or "\0"), "...")
                one = by_reason[re.sub(r"\S*\.\.\.", "...", told).strip()]  # one reason, whatever file and folder
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
