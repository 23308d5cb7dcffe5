"""Answers over HTTP: the `predictions_v1` contract of BEANS-Next, with requests of all clients answered together."""
