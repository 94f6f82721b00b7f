"""Shape bias of vision networks on the cue-conflict benchmark, exact to the model-vs-human toolbox.

`evaluate(model, stimuli)` asks a network, `measure(observer)` says what the answers mean; `python -m shapebias.run`
does both for any network of the zoo. Importing this package is light: names are loaded when they are used, and only
`evaluate` and `predict` load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shapebias.answers.observers import (
        Observer,
        find_people,
        pool_people,
        read_observer,
        read_observers,
        write_raw_data,
    )
    from shapebias.answers.probabilities import Probabilities, load_probabilities, save_probabilities
    from shapebias.figures.shape_bias import (
        draw_column,
        draw_comparison,
        draw_forest,
        plot_shape_bias_bars,
        plot_shape_bias_matrix,
    )
    from shapebias.measures.differences import Difference, compare_pairs
    from shapebias.measures.ranks import rank_cues
    from shapebias.measures.shape_bias import Measurement, error_consistency, measure
    from shapebias.network.inference import evaluate, predict
    from shapebias.results.comparison import Comparison, compare
    from shapebias.stimuli.images import find_stimuli, read_stimuli

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
    "save_probabilities",
    "write_raw_data",
]

_HOMES = {
    "measures.differences": ("Difference", "compare_pairs"),
    "network.inference": ("evaluate", "predict"),
    "measures.shape_bias": ("Measurement", "error_consistency", "measure"),
    "answers.observers": (
        "Observer",
        "find_people",
        "pool_people",
        "read_observer",
        "read_observers",
        "write_raw_data",
    ),
    "figures.shape_bias": (
        "draw_column",
        "draw_comparison",
        "draw_forest",
        "plot_shape_bias_bars",
        "plot_shape_bias_matrix",
    ),
    "answers.probabilities": ("Probabilities", "load_probabilities", "save_probabilities"),
    "measures.ranks": ("rank_cues",),
    "results.comparison": ("Comparison", "compare"),
    "stimuli.images": ("find_stimuli", "read_stimuli"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
