"""Shape bias of vision networks on the cue-conflict benchmark, exact to the model-vs-human toolbox.

`evaluate(model, stimuli)` asks a network, `measure(observer)` says what the answers mean; `python -m shapebias.run`
does both for any network of the zoo. Importing this package is light: names are loaded when they are used, and only
`evaluate` and `predict` load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shapebias.differences import Difference, compare_pairs
    from shapebias.inference import evaluate, predict
    from shapebias.measures import Measurement, error_consistency, measure
    from shapebias.observers import Observer, find_people, pool_people, read_observer, read_observers, write_raw_data
    from shapebias.plots import (
        draw_column,
        draw_comparison,
        draw_forest,
        plot_shape_bias_bars,
        plot_shape_bias_matrix,
    )
    from shapebias.probabilities import Probabilities, load_probabilities, save_probabilities
    from shapebias.ranks import rank_cues
    from shapebias.relation import relate
    from shapebias.report import Comparison, compare
    from shapebias.stimuli import find_stimuli, read_stimuli

__all__ = [
    "Comparison",
    "Difference",
    "Measurement",
    "Observer",
    "Probabilities",
    "compare",
    "compare_pairs",
    "draw_column",
    "draw_comparison",
    "draw_forest",
    "error_consistency",
    "evaluate",
    "find_people",
    "find_stimuli",
    "load_probabilities",
    "measure",
    "plot_shape_bias_bars",
    "plot_shape_bias_matrix",
    "pool_people",
    "predict",
    "rank_cues",
    "read_observer",
    "read_observers",
    "read_stimuli",
    "relate",
    "save_probabilities",
    "write_raw_data",
]

_HOMES = {
    "differences": ("Difference", "compare_pairs"),
    "inference": ("evaluate", "predict"),
    "measures": ("Measurement", "error_consistency", "measure"),
    "observers": ("Observer", "find_people", "pool_people", "read_observer", "read_observers", "write_raw_data"),
    "plots": ("draw_column", "draw_comparison", "draw_forest", "plot_shape_bias_bars", "plot_shape_bias_matrix"),
    "probabilities": ("Probabilities", "load_probabilities", "save_probabilities"),
    "ranks": ("rank_cues",),
    "relation": ("relate",),
    "report": ("Comparison", "compare"),
    "stimuli": ("find_stimuli", "read_stimuli"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
