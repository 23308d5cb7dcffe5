"""`nlm data describe`: what is in prepared corpora, as JSON and as a page to look at and listen to."""
