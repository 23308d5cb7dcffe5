"""Window-level Q-Former (BLIP-2's, as SALMONN and NatureLM-audio use it)."""
