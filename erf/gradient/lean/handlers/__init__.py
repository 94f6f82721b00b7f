"""How each kind of recorded operation is translated into steps."""
