"""How far a network looks: effective receptive fields, measured and drawn.

The way of the data: images -> network -> contribution maps -> mean map (`.npz`) -> measures -> `.json`, picture, table.
Everything after the `.npz` works from the file alone; importing this package loads neither torch nor matplotlib.

In Python, for any `nn.Module` or the name of a network:

    result = erf.analyze(model, "photos", size=512)  # what the command line measures
    result.side(0.5)  # pixels that hold half of the contribution, with the interval over images
    result.plot()
"""

import lazy_loader

from runkit.notebook import show_as_picture

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

show_as_picture("erf.results.files:ErfResult", drawn_by="erf.figures.panels:draw_result")
