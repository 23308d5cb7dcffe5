"""Answers: prompts into batches, decoding in one compiled loop, the `NatureLM` facade, long recordings."""
