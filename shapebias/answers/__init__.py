"""The answers of people and networks as raw-data CSVs, and the class probabilities of networks."""
