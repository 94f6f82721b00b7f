"""Taps of kernels that no training image reaches.

On a map of n pixels a tap d pixels from the middle of its kernel meets an image if d < n; beyond, it meets nothing but
padding. Such a tap would keep its random start, and at a larger size pass for a trained one: it starts, and so stays,
at zero.
"""

from typing import Any

import torch
from torch import nn

__all__ = ["count_unreached_taps", "describe_taps", "taps_in_words", "zero_unseen_taps"]


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
        taps = unreached.setdefault(conv, torch.zeros_like(conv.weight[0, 0], dtype=torch.bool))
        taps.index_fill_(axis - 2, index, True)
    return {names[conv]: int(taps.sum()) for conv, taps in unreached.items()}


@torch.no_grad()
def describe_taps(model: nn.Module, size: int) -> dict[str, Any]:
    """How many taps the network's kernels have, and how many of them were of no use in its training.

    A tap is a position in the kernel of one convolution, for all of its channels. Convolutions of 1×1 are left out.

    Args:
        model: The network, on any device.
        size: Side of the largest training images, in pixels.
    Returns: `size_px`; of all convolutions together `taps`, `unreached` (they meet nothing but padding on these images)
        and `zero` (the weights of every channel are exactly zero); and under `kernels` the same of each size of kernel,
        such as '31x31', the largest first.
    """
    unreached = count_unreached_taps(model, size)
    kernels: dict[tuple[int, int], dict[str, int]] = {}
    for name, conv in model.named_modules():
        if not isinstance(conv, nn.Conv2d) or conv.kernel_size == (1, 1):
            continue
        height, width = conv.kernel_size
        found = kernels.setdefault((height, width), {"taps": 0, "unreached": 0, "zero": 0})
        found["taps"] += height * width
        found["unreached"] += unreached.get(name, 0)
        found["zero"] += int((conv.weight == 0).flatten(0, 1).all(0).sum())
    total = {key: sum(found[key] for found in kernels.values()) for key in ("taps", "unreached", "zero")}
    by_size = {f"{height}x{width}": kernels[height, width] for height, width in sorted(kernels, reverse=True)}
    return {"size_px": size, **total, "kernels": by_size}


def taps_in_words(taps: dict[str, Any]) -> str:
    """One sentence for a model card, from `describe_taps`."""
    sizes = ", ".join(size.replace("x", "×") for size in taps["kernels"])
    if not taps["unreached"] and not taps["zero"]:
        return f"all {taps['taps']} taps of its kernels ({sizes}) meet images of {taps['size_px']} pixels; none is zero"
    return (
        f"of the {taps['taps']} taps of its kernels ({sizes}) {taps['unreached']} meet no image of {taps['size_px']} "
        f"pixels, and {taps['zero']} are zero"
    )


def _unseen(model: nn.Module, size: int) -> list[tuple[nn.Conv2d, int, torch.Tensor]]:
    """Convolutions, axis of their weight (2 or 3) and positions on it that meet only padding; none with stride."""
    convs = {m: (0, 0) for m in model.modules() if isinstance(m, nn.Conv2d) and m.stride == (1, 1)}
    handles = [
        conv.register_forward_pre_hook(lambda conv, args: convs.update({conv: args[0].shape[2:]})) for conv in convs
    ]
    training = model.training
    model.eval()(torch.zeros(1, 3, size, size, device=next(model.parameters()).device))
    model.train(training)
    for handle in handles:
        handle.remove()
    unseen = []
    for conv, sides in convs.items():
        for axis, side in zip((2, 3), sides, strict=True):
            taps = conv.weight.shape[axis]
            index = ((torch.arange(taps) - taps // 2).abs() * conv.dilation[axis - 2] >= side).nonzero()[:, 0]
            if len(index):
                unseen.append((conv, axis, index.to(conv.weight.device)))
    return unseen
