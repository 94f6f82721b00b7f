"""Fetch published files, verify them against what is known of them, and unpack them."""
