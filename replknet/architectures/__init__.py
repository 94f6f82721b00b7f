"""Network architectures, one file for each, registered in timm; importing `replknet` registers them all."""
