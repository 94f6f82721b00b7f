# The public names, for editors and type checkers; at run time `__init__.py` loads each from here when it is used.
from .architectures.replknet import RepLKNet
from .optimize import optimize, preferred_memory_format
from .zoo import LoadedModel, Preprocessing, WeightsRecord, WeightsUnavailable, load_model, resolve_weights

__all__ = [
    "LoadedModel",
    "Preprocessing",
    "RepLKNet",
    "WeightsRecord",
    "WeightsUnavailable",
    "load_model",
    "optimize",
    "preferred_memory_format",
    "resolve_weights",
]
