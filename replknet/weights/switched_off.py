"""Find and enable residual branches that start at or near zero in an untrained network."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

__all__ = ["Branch", "describe_branches", "find_branches", "switch_on"]

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
# Layer scales start at 1e-6 (ConvNeXt, UniRepLKNet) to 1e-2 (VAN); those that start at 1 do not disable the branch.
_LAYER_SCALE = 0.1
_KINDS = {
    "norm": ("zero-initialised normalisation weights", "weight of the last normalisation"),
    "scale": ("layer scales", "layer scale"),
    "response": ("weights of global response normalisation", "weight of the response normalisation"),
}
"""Maps each kind to its names in results and in log messages."""
_SHOWN = 3


class Branch(NamedTuple):
    """A branch that is multiplied by a parameter at or near zero.

    Attributes:
        place: Name of the block that it belongs to.
        kind: 'norm', 'scale' or 'response'.
        parameter: Parameter that multiplies the branch.
        start: Its initial value.
        target: Value that enables the branch.
    """

    place: str
    kind: str
    parameter: nn.Parameter
    start: float
    target: float


def find_branches(model: nn.Module) -> list[Branch]:
    """Find the branches of a network that start at or near zero.

    These are branches with normalisation weights, or weights of global response normalisation, that are all zero, and
    branches with layer scales: one number for each channel, all equal and at most 0.1. The target of layer scales is 1,
    or the attribute `layer_scale_at_random` of a network whose blocks multiply features by features. Such products grow
    from block to block, and untrained batch normalisation does not limit them: with layer scales of 1, the last map of
    most VANs and MogaNets is NaN.
    """
    scale = getattr(model, "layer_scale_at_random", 1.0)
    found = []
    for place, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.numel() < 2 or name == "beta" or "bias" in name:
                continue
            value = float(parameter.detach().flatten()[0])
            if not bool((parameter == value).all()):
                continue
            block = place if any(True for _ in module.children()) else place.rpartition(".")[0]
            if value == 0 and isinstance(module, _NORMS):
                found.append(Branch(block, "norm", parameter, value, 1.0))
            elif value == 0 and type(module).__name__ == "GlobalResponseNorm":
                found.append(Branch(block, "response", parameter, value, 1.0))
            elif (
                0 < abs(value) <= _LAYER_SCALE
                and parameter.numel() == max(parameter.shape)
                and not math.isclose(value, scale, rel_tol=1e-6)
            ):
                found.append(Branch(block, "scale", parameter, value, scale))
    return found


def switch_on(branches: Sequence[Branch]) -> str:
    """Set the parameters to their targets, in place.

    Returns: Description of how many of each kind were set to which value; empty if there was nothing to do.
    """
    words: dict[float, list[str]] = {}
    for branch in branches:
        nn.init.constant_(branch.parameter, branch.target)
    for kind, (what, _) in _KINDS.items():
        of_kind = [branch for branch in branches if branch.kind == kind]
        if of_kind:
            words.setdefault(of_kind[0].target, []).append(f"{len(of_kind)} {what}")
    return ", ".join(f"{' and '.join(whats)} set to {target:g}" for target, whats in words.items())


def describe_branches(branches: Sequence[Branch]) -> str:
    """Describe which branches were enabled and how, for the log."""
    said = []
    for kind, (_, what) in _KINDS.items():
        of_kind = [branch for branch in branches if branch.kind == kind]
        if of_kind:
            places = list(dict.fromkeys(branch.place or "the network" for branch in of_kind))
            more = f" and {len(places) - _SHOWN} more blocks" if len(places) > _SHOWN else ""
            start, target = of_kind[0].start, of_kind[0].target
            said.append(f"{what} set from {start:g} to {target:g} in {', '.join(places[:_SHOWN])}{more}")
    return "; ".join(said)
