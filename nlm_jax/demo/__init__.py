"""The whole path on a corpus the project synthesises itself: sounds, text, two stages, answers, a report."""
