"""The held-out part of a prepared corpus: its questions, and the command that scores a model on them."""
