"""Evaluation on the held-out split of a prepared corpus: its questions, their scores, and the command."""
