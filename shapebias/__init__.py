"""Shape bias of vision networks on the cue-conflict benchmark, exact to the model-vs-human toolbox.

`evaluate(model, stimuli)` asks a network, `measure(observer)` says what the answers mean; `python -m shapebias.run`
does both for any network of the zoo. Importing this package is light: names are loaded when they are used, and only
`evaluate` and `predict` load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shapebias.inference import evaluate, predict
    from shapebias.measures import Measurement, error_consistency, measure
    from shapebias.observers import Observer, find_people, pool_people, read_observer, read_observers, write_raw_data
    from shapebias.plots import draw_column, draw_comparison, plot_shape_bias_bars, plot_shape_bias_matrix
    from shapebias.stimuli import find_stimuli, read_stimuli

__all__ = [
    "Measurement",
    "Observer",
    "draw_column",
    "draw_comparison",
    "error_consistency",
    "evaluate",
    "find_people",
    "find_stimuli",
    "measure",
    "plot_shape_bias_bars",
    "plot_shape_bias_matrix",
    "pool_people",
    "predict",
    "read_observer",
    "read_observers",
    "read_stimuli",
    "write_raw_data",
]

_HOMES = {
    "inference": ("evaluate", "predict"),
    "measures": ("Measurement", "error_consistency", "measure"),
    "observers": ("Observer", "find_people", "pool_people", "read_observer", "read_observers", "write_raw_data"),
    "plots": ("draw_column", "draw_comparison", "plot_shape_bias_bars", "plot_shape_bias_matrix"),
    "stimuli": ("find_stimuli", "read_stimuli"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
