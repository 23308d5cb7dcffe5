"""Self-contained HTML pages: style, pictures and sounds are embedded, no network is needed."""
