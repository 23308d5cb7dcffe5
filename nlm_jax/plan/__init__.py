"""Ahead of time: will a training step fit a named accelerator, how fast will it be, and what does it send around."""
