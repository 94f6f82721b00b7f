"""Column and page width of a paper. This module does not load matplotlib."""

__all__ = ["COLUMN_WIDTH", "PAGE_WIDTH"]

COLUMN_WIDTH, PAGE_WIDTH = 3.4, 7.0
"""Inches: one column of a paper, and a page of two columns."""
