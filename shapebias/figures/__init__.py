"""Figures of shape bias, reliance and the benchmark, drawn from result files, and their sections of HTML reports."""
