"""Recordings and annotations to batches: schema, shards, text, mixture, packing, pipeline."""
