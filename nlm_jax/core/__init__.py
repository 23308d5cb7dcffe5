"""Shared foundations: dimension letters, the batch contract, strict configs, paths in buckets, errors."""
