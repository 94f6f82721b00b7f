"""Result files and tables of receptive fields."""
