"""How far a network looks: effective receptive fields, measured and drawn.

Data flow: images -> network -> contribution maps -> mean map (`.npz`) -> measures -> `.json`, picture, table.
All steps after the `.npz` file need nothing but this file. Importing this package loads neither torch nor matplotlib.

In Python, for any `nn.Module` or the name of a network:

    result = erf.analyze(model, "photos", size=512)  # the same measurement as on the command line
    result.side(0.5)  # side in pixels of the square that holds half of the contribution, with its interval over images
    result.plot()
"""

import lazy_loader

from runkit.notebook import show_as_picture

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

show_as_picture("erf.results.files:ErfResult", drawn_by="erf.figures.panels:draw_result")
