"""All results of a folder on one HTML page: `python -m htmlreport figures`.

This package uses both tools, and neither of them depends on it. Each tool describes its own results
(`erf.figures.page`, `shapebias.figures.page`), and `runkit.html.page` assembles the page. Only saved results are read;
torch is not imported.
"""

from htmlreport.command import build_parser, main

__all__ = ["build_parser", "main"]
