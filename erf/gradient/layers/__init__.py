"""Which feature map is meant: the layer, which of its calls and outputs, and how it is laid out."""
