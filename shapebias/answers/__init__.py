"""What was answered: raw-data CSVs of people and networks, and the probabilities behind them."""
