"""Questions from facts: task templates in YAML, and the generation of questions from them (`generate.instruct`)."""
