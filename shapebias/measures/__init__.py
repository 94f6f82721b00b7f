"""Measures computed from answers, with their confidence intervals and tests."""
