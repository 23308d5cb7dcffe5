"""The benchmark BEANS-Zero: its parts and dataset, a model's answers to it, and its two scorers."""
