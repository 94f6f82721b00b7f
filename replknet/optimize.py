"""The fast form of a network for inference and input gradients: the same function, less work."""

import torch
from torch import nn

from replknet.architectures.replknet import RepLKNet
from replknet.architectures.stages import StagedNetwork
from replknet.ops import DepthwiseConv2d
from replknet.ops.phases import use_phases
from replknet.used_kernels import has_large_depthwise

__all__ = ["optimize", "preferred_memory_format", "use_stock_convolutions"]


def optimize(model: nn.Module) -> nn.Module:
    """Prepare a network in eval mode for speed, in place.

    RepLKNet's kernels are merged and its normalisations folded, equal up to rounding; of the other large-kernel
    networks the merged form is taken, where they have one, and dilated depthwise convolutions are computed by phases
    (`replknet.ops.phases`). A network with large depthwise kernels gets channels-last
    weights; others keep their layout, and so give the same bits as before. Parameters no longer need a gradient. Feed
    images in `preferred_memory_format(model)`.

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
    return model.requires_grad_(False).to(memory_format=preferred_memory_format(model))


def preferred_memory_format(model: nn.Module) -> torch.memory_format:
    """Layout in which a network runs faster: channels-last if it has large depthwise kernels."""
    return torch.channels_last if has_large_depthwise(model) else torch.contiguous_format


def use_stock_convolutions(model: nn.Module) -> nn.Module:
    """Let PyTorch's own convolution compute the large depthwise kernels, in place: the published network to the bit.

    Returns: `model` itself; parameters and state dict are untouched.
    """
    for module in model.modules():
        if type(module) is DepthwiseConv2d:  # not a class made from it, which may compute something else
            setattr(module, "__class__", nn.Conv2d)  # noqa: B010  it has all of its attributes and parameters
    return model
