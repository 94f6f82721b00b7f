"""From images to the mean contribution map: layer, unit, gradient, the loop over the images; loads torch."""
