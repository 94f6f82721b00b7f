"""Finding a feature map: the layer, its calls and outputs, and their layout."""
