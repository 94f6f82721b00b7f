"""Network architectures, one file each; importing `replknet` registers all of them in timm."""
