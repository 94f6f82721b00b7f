"""The model zoo that both tools share: RepLKNet, all networks of timm, and their weights.

Importing this package registers the networks, so that `timm.create_model("replknet31b")` works afterwards. Python also
imports this package before it runs the commands `python -m replknet.train` and `python -m replknet.evaluate`; these two
register the networks only after they have parsed their arguments.
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
    """Import a public name on first use, so that the commands of this package show their help without PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    rooms = {"RepLKNet": "architectures.replknet", "optimize": "optimize", "preferred_memory_format": "optimize"}
    return getattr(importlib.import_module(f"replknet.{rooms.get(name, 'zoo')}"), name)
