"""Llama-family decoder with LoRA on its attention projections."""
