"""What becomes of each kind of recorded operation."""
