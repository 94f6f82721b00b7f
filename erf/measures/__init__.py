"""From a contribution map to numbers: arrays in, numbers out."""
