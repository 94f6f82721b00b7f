"""The model zoo that both tools share: RepLKNet beside every network of timm, and how weights get into it.

Importing this package registers the networks, so `timm.create_model("replknet31b")` works for anyone. The command
`python -m replknet.train` alone, of which Python imports this package first, does so when it has read its arguments.
"""

import importlib
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

_TRAIN = ["-m", "replknet.train"]

if TYPE_CHECKING or _TRAIN not in [sys.orig_argv[at : at + 2] for at in range(len(sys.orig_argv))]:
    from replknet.architectures.replknet import RepLKNet
    from replknet.optimize import optimize, preferred_memory_format
    from replknet.zoo import LoadedModel, Preprocessing, WeightsRecord, WeightsUnavailable, load_model, resolve_weights


def __getattr__(name: str) -> Any:
    """A public name in a training: its help answers without PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    rooms = {"RepLKNet": "architectures.replknet", "optimize": "optimize", "preferred_memory_format": "optimize"}
    return getattr(importlib.import_module(f"replknet.{rooms.get(name, 'zoo')}"), name)
