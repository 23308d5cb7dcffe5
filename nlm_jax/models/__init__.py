"""NatureLM-audio: BEATs encoder, window-level Q-Former, Llama decoder with LoRA."""
