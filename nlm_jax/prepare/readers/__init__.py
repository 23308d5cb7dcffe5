"""Readers of annotations: labels and metadata in the formats people have, as examples. Start at `registry.read`."""
