"""The stages of `nlm prepare`: options, clips, examples with their index, manifest."""
