"""Where arrays live: names of their axes, rules that map these to the mesh, and placement of states and batches."""
