"""Result files of observers, and their comparison."""
