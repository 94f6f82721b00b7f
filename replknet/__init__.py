"""The model zoo that both tools share: RepLKNet, every network of timm, and their weights.

Importing this package registers the networks, so `timm.create_model("replknet31b")` works for anyone. Python imports
this package before its commands `python -m replknet.train` and `python -m replknet.evaluate`; those two register the
networks when they have read their arguments.
"""

import importlib
import itertools
import sys
from typing import TYPE_CHECKING, Any

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

_COMMANDS = [("-m", "replknet.train"), ("-m", "replknet.evaluate")]

if TYPE_CHECKING or not {*_COMMANDS} & {*itertools.pairwise(sys.orig_argv)}:
    from replknet.architectures.replknet import RepLKNet
    from replknet.optimize import optimize, preferred_memory_format
    from replknet.zoo import LoadedModel, Preprocessing, WeightsRecord, WeightsUnavailable, load_model, resolve_weights


def __getattr__(name: str) -> Any:
    """A public name in a command of this package: its help answers without PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    rooms = {"RepLKNet": "architectures.replknet", "optimize": "optimize", "preferred_memory_format": "optimize"}
    return getattr(importlib.import_module(f"replknet.{rooms.get(name, 'zoo')}"), name)
