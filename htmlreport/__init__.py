"""Everything in a results folder on one HTML page: `python -m htmlreport figures`.

It stands above both tools, as a notebook does, and they know nothing of it: each describes its own results
(`erf.figures.page`, `shapebias.figures.page`), and the page itself is `runkit.html.page`. Saved results are read;
torch is not loaded.
"""

from htmlreport.command import build_parser, main

__all__ = ["build_parser", "main"]
