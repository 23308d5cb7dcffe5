"""From facts to questions: the task templates, which people edit as YAML, and what fills them."""
