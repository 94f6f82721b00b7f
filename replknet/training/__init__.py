"""Training of the small networks of the zoo, and the model cards of the trained weights."""
