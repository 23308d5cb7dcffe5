"""The benchmark BEANS-Zero: what its parts are, and how answers to them are scored."""
