"""Kernel taps that no training image reaches.

On a map with a side of n pixels, a tap d pixels from the centre of its kernel meets a pixel of the map only if d < n;
otherwise it only meets padding. Such a tap would keep its random initial value, and at a larger image size it would act
like a trained one. It is therefore set to zero at the start, and stays zero.
"""

from typing import Any

import torch
from torch import nn

__all__ = ["count_unreached_taps", "describe_taps", "taps_in_words", "zero_unseen_taps"]


@torch.no_grad()
def zero_unseen_taps(model: nn.Module, size: int) -> int:
    """Set the taps of convolutions that only meet padding on images of `size` pixels to zero, in place.

    Returns: Number of weights that this changed.
    """
    changed = 0
    for conv, axis, index in _unseen(model, size):
        changed += int(conv.weight.index_select(axis, index).count_nonzero())
        conv.weight.index_fill_(axis, index, 0.0)
    return changed


@torch.no_grad()
def count_unreached_taps(model: nn.Module, size: int) -> dict[str, int]:
    """Count the taps (positions in the kernel) of each convolution that no image of `size` pixels reaches.

    Returns: Convolution name -> number of taps; convolutions whose taps are all reached are left out.
    """
    names = {module: name for name, module in model.named_modules()}
    unreached: dict[nn.Module, torch.Tensor] = {}
    for conv, axis, index in _unseen(model, size):
        taps = unreached.setdefault(conv, torch.zeros_like(conv.weight[0, 0], dtype=torch.bool))
        taps.index_fill_(axis - 2, index, True)
    return {names[conv]: int(taps.sum()) for conv, taps in unreached.items()}


@torch.no_grad()
def describe_taps(model: nn.Module, size: int) -> dict[str, Any]:
    """Count the taps of the network's kernels, and those of them that had no effect in its training.

    A tap is a position in the kernel of one convolution, for all of its channels. Convolutions of 1×1 are left out.

    Args:
        model: The network, on any device.
        size: Side of the largest training images, in pixels.
    Returns: `size_px`; the counts over all convolutions: `taps`, `unreached` (taps that only meet padding on these
        images) and `zero` (taps whose weights are exactly zero in every channel); and under `kernels` the same counts
        for each kernel size, such as '31x31', largest first.
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
    """Summarise the result of `describe_taps` in one sentence, for a model card."""
    sizes = ", ".join(size.replace("x", "×") for size in taps["kernels"])
    if not taps["unreached"] and not taps["zero"]:
        return f"all {taps['taps']} taps of its kernels ({sizes}) meet images of {taps['size_px']} pixels; none is zero"
    return (
        f"of the {taps['taps']} taps of its kernels ({sizes}) {taps['unreached']} meet no image of {taps['size_px']} "
        f"pixels, and {taps['zero']} are zero"
    )


def _unseen(model: nn.Module, size: int) -> list[tuple[nn.Conv2d, int, torch.Tensor]]:
    """Convolutions of stride 1, an axis of their weight (2 or 3), and the positions on it that only meet padding."""
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
