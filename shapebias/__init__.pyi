# The public names, for editors and type checkers; at run time `__init__.py` loads each from here when it is used.
from .answers.datasets import Answers, read_folders
from .answers.observers import (
    Observer,
    find_people,
    pool_people,
    read_observer,
    read_observers,
    write_raw_data,
)
from .answers.probabilities import Probabilities, load_probabilities, save_probabilities
from .figures.benchmark import draw_benchmark, draw_scatter
from .figures.benchmark_conditions import draw_conditions
from .figures.benchmark_matrices import draw_confusion, draw_matrices
from .figures.shape_bias import (
    draw_column,
    draw_comparison,
    draw_forest,
    plot_shape_bias_bars,
    plot_shape_bias_matrix,
)
from .measures.differences import Difference, compare_pairs
from .measures.ranks import rank_cues
from .measures.shape_bias import Measurement, error_consistency, measure
from .network.inference import evaluate, predict
from .results.benchmark import measure_benchmark, read_benchmark
from .results.comparison import Comparison, compare
from .stimuli.images import find_stimuli, read_stimuli

__all__ = [
    "Answers",
    "Comparison",
    "Difference",
    "Measurement",
    "Observer",
    "Probabilities",
    "compare",
    "compare_pairs",
    "draw_benchmark",
    "draw_column",
    "draw_comparison",
    "draw_conditions",
    "draw_confusion",
    "draw_forest",
    "draw_matrices",
    "draw_scatter",
    "error_consistency",
    "evaluate",
    "find_people",
    "find_stimuli",
    "load_probabilities",
    "measure",
    "measure_benchmark",
    "plot_shape_bias_bars",
    "plot_shape_bias_matrix",
    "pool_people",
    "predict",
    "rank_cues",
    "read_benchmark",
    "read_folders",
    "read_observer",
    "read_observers",
    "read_stimuli",
    "save_probabilities",
    "write_raw_data",
]
