"""Training: what trains, how it is updated, what is saved, and the loop that does it."""
