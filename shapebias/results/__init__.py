"""Result files of observers, of their comparison, of the benchmark and of reliance."""
