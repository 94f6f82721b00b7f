# The public names, for editors and type checkers; at run time `__init__.py` loads each from here when it is used.
from .analysis import analyze
from .figures.curves import draw_curves
from .figures.maps import plot, plot_contribution
from .figures.panels import draw_comparison, draw_result, plot_comparison
from .figures.sheet import draw_sheet
from .gradient.contribution import contribution_map, contribution_maps
from .gradient.inputs import load_images
from .gradient.layers.layer import Layer
from .gradient.theoretical import theoretical_field
from .measures.squares import log_area, mass_area
from .measures.summary import Measured, measure
from .measures.value import Value
from .results.files import ErfResult, load_result

__all__ = [
    "ErfResult",
    "Layer",
    "Measured",
    "Value",
    "analyze",
    "contribution_map",
    "contribution_maps",
    "draw_comparison",
    "draw_curves",
    "draw_result",
    "draw_sheet",
    "load_images",
    "load_result",
    "log_area",
    "mass_area",
    "measure",
    "plot",
    "plot_comparison",
    "plot_contribution",
    "theoretical_field",
]
