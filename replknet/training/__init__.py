"""Training the small networks of the zoo, and the card of what was trained."""
