"""Build one self-contained HTML page from results."""
