"""The model zoo that both tools share: RepLKNet beside every network of timm, and how weights get into it.

Importing this package registers the networks, so `timm.create_model("replknet31b")` works for anyone.
"""

from replknet.architectures.replknet import RepLKNet
from replknet.optimize import optimize, preferred_memory_format
from replknet.zoo import LoadedModel, Preprocessing, WeightsRecord, WeightsUnavailable, load_model, resolve_weights

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
