"""How far a network looks: effective receptive fields, measured and drawn.

The way of the data: images -> network -> contribution maps -> mean map (`.npz`) -> measures -> `.json`, picture, table.
Everything after the `.npz` works from the file alone; importing this package loads neither torch nor matplotlib.

In Python, for any `nn.Module`:

    contribution = erf.contribution_map(model, erf.load_images(size=512))
    erf.measure(contribution)  # sides, radii, areas; in a notebook a table
    erf.plot(contribution)
"""

import lazy_loader

from runkit.notebook import show_as_picture

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

show_as_picture("erf.results.files:ErfResult", drawn_by="erf.figures.maps:draw_result")
