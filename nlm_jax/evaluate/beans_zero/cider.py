"""CIDEr-D of captions with one reference each, as pycocoevalcap computes it. Source: arXiv 1411.5726, section 5.

Term frequency times inverse document frequency of n-grams up to four words, cosine similarity with clipped counts and a
Gaussian penalty on the difference in length, mean over n, times ten. Document frequencies come from the references
scored together, so a caption's score depends on the set it is in. Text is split at blanks into words, as in the
benchmark: a full stop on its own is a word.
"""

import collections
import math
from collections.abc import Sequence

N, SIGMA = 4, 6.0
"""Longest n-gram, and width of the length penalty in words."""


def count_ngrams(words: Sequence[str]) -> collections.Counter:
    """How often each n-gram of one to `N` words occurs."""
    return collections.Counter(tuple(words[i : i + n]) for n in range(1, N + 1) for i in range(len(words) - n + 1))


def cider_d(captions: Sequence[str], references: Sequence[str]) -> list[float]:
    """CIDEr-D of each caption, 0 to 10.

    Args:
      captions: to score.
      references: one for each.
    """
    reference_ngrams = [count_ngrams(text.split()) for text in references]
    frequency = collections.Counter(gram for grams in reference_ngrams for gram in grams)
    documents = math.log(float(len(references))) if references else 0.0

    def tf_idf(grams: collections.Counter) -> tuple[list[dict], list[float]]:
        """By length of the n-gram: n-gram -> weight, and the norm of these weights."""
        weights: list[dict] = [{} for _ in range(N)]
        for gram, count in grams.items():
            weights[len(gram) - 1][gram] = count * (documents - math.log(max(1.0, frequency[gram])))
        return weights, [math.sqrt(sum(v * v for v in of_length.values())) for of_length in weights]

    def length(grams: collections.Counter) -> int:
        """Number of bigrams, which pycocoevalcap takes for the length."""
        return sum(count for gram, count in grams.items() if len(gram) == 2)

    scores = []
    for caption, reference in zip(captions, reference_ngrams, strict=True):
        grams = count_ngrams(caption.split())
        (weights, norms), (reference_weights, reference_norms) = tf_idf(grams), tf_idf(reference)
        penalty = math.exp(-((length(grams) - length(reference)) ** 2) / (2 * SIGMA**2))
        total = 0.0
        for n in range(N):
            target = reference_weights[n]
            product = sum(min(v, target.get(g, 0.0)) * target.get(g, 0.0) for g, v in weights[n].items())
            norm = norms[n] * reference_norms[n]
            total += penalty * (product / norm if norm else product)
        scores.append(10.0 * total / N)
    return scores
