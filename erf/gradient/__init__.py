"""From images to the mean contribution map: the layer, the unit, the gradient, the loop over images. Imports torch."""
