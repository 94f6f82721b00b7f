"""One self-contained HTML page over results."""
