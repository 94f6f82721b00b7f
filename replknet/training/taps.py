"""Taps of kernels that no training image reaches.

On a map of n pixels a tap d pixels from the middle of its kernel meets an image if d < n; beyond, it meets nothing but
padding. Such a tap would keep its random start, and at a larger size pass for a trained one: it starts, and so stays,
at zero.
"""

import torch
from torch import nn

__all__ = ["count_unreached_taps", "zero_unseen_taps"]


@torch.no_grad()
def zero_unseen_taps(model: nn.Module, size: int) -> int:
    """Set to zero the taps of convolutions that meet nothing but padding on images of `size` pixels; in place.

    Returns: How many weights were set to zero.
    """
    changed = 0
    for conv, axis, index in _unseen(model, size):
        changed += int(conv.weight.index_select(axis, index).count_nonzero())
        conv.weight.index_fill_(axis, index, 0.0)
    return changed


@torch.no_grad()
def count_unreached_taps(model: nn.Module, size: int) -> dict[str, int]:
    """How many taps of each convolution no image of `size` pixels reaches: the number of positions in its kernel.

    Returns: From the convolution's name; convolutions whose taps are all reached are left out.
    """
    names = {module: name for name, module in model.named_modules()}
    unreached: dict[nn.Module, torch.Tensor] = {}
    for conv, axis, index in _unseen(model, size):
        taps = unreached.setdefault(conv, torch.zeros(conv.weight.shape[2:], dtype=torch.bool))
        taps.index_fill_(axis - 2, index, True)
    return {names[conv]: int(taps.sum()) for conv, taps in unreached.items()}


def _unseen(model: nn.Module, size: int) -> list[tuple[nn.Conv2d, int, torch.Tensor]]:
    """Convolutions, axis of their weight (2 or 3) and positions on it that meet only padding; none with stride."""
    convs = {m: (0, 0) for m in model.modules() if isinstance(m, nn.Conv2d) and m.stride == (1, 1)}
    handles = [
        conv.register_forward_pre_hook(lambda conv, args: convs.update({conv: args[0].shape[2:]})) for conv in convs
    ]
    training = model.training
    model.eval()(torch.zeros(1, 3, size, size))
    model.train(training)
    for handle in handles:
        handle.remove()
    unseen = []
    for conv, sides in convs.items():
        for axis, side in zip((2, 3), sides, strict=True):
            taps = conv.weight.shape[axis]
            index = ((torch.arange(taps) - taps // 2).abs() * conv.dilation[axis - 2] >= side).nonzero()[:, 0]
            if len(index):
                unseen.append((conv, axis, index))
    return unseen
