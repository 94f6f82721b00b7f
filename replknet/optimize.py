"""The fast form of a network for inference and input gradients: it computes the same function with less work."""

import torch
from torch import nn

from replknet.architectures.replknet import RepLKNet
from replknet.architectures.stages import StagedNetwork
from replknet.ops import DepthwiseConv2d
from replknet.ops.phases import use_phases
from replknet.ops.products import OneDNNLinear, use_onednn
from replknet.used_kernels import has_large_depthwise

__all__ = ["optimize", "preferred_memory_format", "use_stock_convolutions"]


def optimize(model: nn.Module) -> nn.Module:
    """Convert a network in eval mode to its fast form, in place.

    In RepLKNet, kernels are merged and normalisations are folded; the outputs are equal up to rounding. The other
    large-kernel networks are brought to their merged form, if they have one, and their dilated depthwise convolutions
    are computed by phases (`replknet.ops.phases`). A network with large depthwise kernels gets channels-last weights.
    Linear layers are computed by oneDNN where the processor multiplies faster in this way (`replknet.ops.products`).
    Networks to which none of this applies give exactly the same results as before. Parameters no longer require
    gradients. Feed images in `preferred_memory_format(model)`.

    Returns: `model` itself.
    Raises: ValueError if the network is in train mode.
    """
    if model.training:
        raise ValueError("optimize() is for inference: call model.eval() first")
    if isinstance(model, RepLKNet):
        model.reparameterize()
        model.fold_batchnorm()
    elif isinstance(model, StagedNetwork):
        model.reparameterize()
        use_phases(model)
    return use_onednn(model).requires_grad_(False).to(memory_format=preferred_memory_format(model))


def preferred_memory_format(model: nn.Module) -> torch.memory_format:
    """Return the memory format in which a network is faster: channels-last if it has large depthwise kernels."""
    return torch.channels_last if has_large_depthwise(model) else torch.contiguous_format


def use_stock_convolutions(model: nn.Module) -> nn.Module:
    """Compute a network by PyTorch's own operations, in place, as it was published.

    This concerns `DepthwiseConv2d` and the linear layers that `optimize` has changed.

    Returns: `model` itself; parameters and state dict are untouched.
    """
    for module in model.modules():
        if type(module) is DepthwiseConv2d:  # no subclass, which may compute something else
            setattr(module, "__class__", nn.Conv2d)  # noqa: B010  same attributes and parameters
        elif type(module) is OneDNNLinear:
            setattr(module, "__class__", nn.Linear)  # noqa: B010
    return model
