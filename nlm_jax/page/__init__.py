"""Self-contained HTML pages: style, pictures and sounds are inside, nothing is fetched."""
