"""The experiments behind the claims, one file for each, and what several of them share."""
