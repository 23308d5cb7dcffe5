"""Evaluation: a model's responses to the questions of a benchmark or a held-out split, their scores, and baselines."""
