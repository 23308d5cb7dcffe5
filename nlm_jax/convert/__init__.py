"""Checkpoints of others in and out: the official NatureLM class, Microsoft's BEATs, Hugging Face Llama and PEFT."""
