"""CIDEr-D of captions, one reference each, as pycocoevalcap computes it. Source: arXiv 1411.5726, section 5.

Term frequency times inverse document frequency of n-grams up to four words, cosine similarity with clipped counts and a
Gaussian penalty on the difference in length, mean over n, times ten. Document frequencies come from the references
scored together, so a caption's score depends on the set it is in. Words are what blanks separate, as the benchmark has
it: a full stop that stands alone is one.
"""

import collections
import math
from collections.abc import Sequence

N, SIGMA = 4, 6.0


def ngrams(text: Sequence[str]) -> collections.Counter:
    """How often each n-gram of one to four words occurs."""
    return collections.Counter(tuple(text[i : i + n]) for n in range(1, N + 1) for i in range(len(text) - n + 1))


def cider_d(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """Score of each answer, 0 to 10."""
    wanted = [ngrams(text.split()) for text in references]
    frequency = collections.Counter(gram for grams in wanted for gram in grams)
    documents = math.log(float(len(references))) if references else 0.0

    def vectors(grams: collections.Counter):
        parts: list[dict] = [{} for _ in range(N)]
        for gram, count in grams.items():
            parts[len(gram) - 1][gram] = count * (documents - math.log(max(1.0, frequency[gram])))
        return parts, [math.sqrt(sum(v * v for v in part.values())) for part in parts]

    def length(grams: collections.Counter) -> int:
        return sum(count for gram, count in grams.items() if len(gram) == 2)

    scores = []
    for answer, reference in zip(answers, wanted, strict=True):
        given = ngrams(answer.split())
        (ours, our_size), (theirs, their_size) = vectors(given), vectors(reference)
        penalty = math.exp(-((length(given) - length(reference)) ** 2) / (2 * SIGMA**2))
        total = 0.0
        for n in range(N):
            shared = sum(min(v, theirs[n].get(g, 0.0)) * theirs[n].get(g, 0.0) for g, v in ours[n].items())
            size = our_size[n] * their_size[n]
            total += penalty * (shared / size if size else shared)
        scores.append(10.0 * total / N)
    return scores
