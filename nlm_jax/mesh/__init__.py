"""Device meshes: logical axis names, rules that map them to mesh axes, and sharding of states and batches."""
