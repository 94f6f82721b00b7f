"""How far a network looks: effective receptive fields, measured and drawn.

The way of the data: images -> network -> contribution maps -> mean map (`.npz`) -> measures -> `.json`, picture, table.
Everything after the `.npz` works from the file alone; importing this package loads neither torch nor matplotlib.

In Python, for any `nn.Module`:

    contribution = erf.contribution_map(model, erf.load_images(size=512))
    erf.measure(contribution)  # sides, radii, areas; in a notebook a table
    erf.plot(contribution)
"""

import importlib
from typing import Any

# public name -> module that holds it; loaded on first use
_PUBLIC = {
    "ErfResult": "erf.results.files",
    "Measured": "erf.measures.summary",
    "contribution_map": "erf.gradient.contribution",
    "contribution_maps": "erf.gradient.contribution",
    "load_images": "erf.gradient.inputs",
    "load_result": "erf.results.files",
    "log_area": "erf.measures.squares",
    "mass_area": "erf.measures.squares",
    "measure": "erf.measures.summary",
    "plot": "erf.figures.maps",
    "plot_comparison": "erf.figures.maps",
    "plot_contribution": "erf.figures.maps",
    "theoretical_field": "erf.gradient.theoretical",
}

__all__ = [
    "ErfResult",
    "Measured",
    "contribution_map",
    "contribution_maps",
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


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'erf' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
