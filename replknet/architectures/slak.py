"""SLaK: depthwise kernels of 51×5 and 5×51, registered in timm.

Paper: Liu, Chen, Chen, Chen, Xiao, Wu, Kärkkäinen, Pechenizkiy, Mocanu, Wang, "More ConvNets in the 2020s: Scaling up
Kernels Beyond 51x51 using Sparsity", ICLR 2023, arXiv:2207.03620, Sections 3 and 4. Behaviour and parameter names
follow the authors' code (VITA-Group/SLaK, `models/SLaK.py`, MIT), so that their checkpoints load unchanged; the
classes are our own code. The authors train sparse weights; a checkpoint stores their zeros explicitly.

A network has two forms that compute the same function in eval mode. In the training form, two long kernels and a small
one run in parallel, each with its own batch normalisation. In the merged form, after `reparameterize()`, there are two
long kernels with a bias, and the small kernel is part of one of them.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from timm.layers import DropPath, LayerNorm2d
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from replknet.architectures.merging import conv_with, folded, padded_to
from replknet.architectures.stages import (
    NormAfterPooling,
    Stage,
    build_staged,
    check_form,
    init_trunc_normal,
    path_rates,
    staged_cfg,
    unwrapped,
)
from replknet.ops import DepthwiseConv2d

__all__ = ["DecomposedKernelConv", "SLaK", "SLaKBlock", "checkpoint_filter_fn"]


def _with_norm(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(conv.out_channels)))


class DecomposedKernelConv(nn.Module):
    """Parallel depthwise kernels K×k, k×K and k×k, in place of one K×K (paper, Section 3, step 1).

    Args:
        channels: Number of channels of input and output.
        kernel_size: The long side K, odd.
        small_kernel: The short side k, odd, less than K.
    """

    def __init__(self, channels: int, kernel_size: int, small_kernel: int):
        super().__init__()
        if small_kernel >= kernel_size:
            raise ValueError(f"small_kernel={small_kernel} must be smaller than kernel_size={kernel_size}")
        self.merged = False
        self.LoRA1 = _with_norm(DepthwiseConv2d(channels, (kernel_size, small_kernel), bias=False))
        self.LoRA2 = _with_norm(DepthwiseConv2d(channels, (small_kernel, kernel_size), bias=False))
        square = nn.Conv2d(channels, channels, small_kernel, padding=small_kernel // 2, groups=channels, bias=False)
        self.small_conv: nn.Module | None = _with_norm(square)

    def forward(self, x: Tensor) -> Tensor:
        out = self.LoRA1(x) + self.LoRA2(x)
        if self.small_conv is not None:
            out = out + self.small_conv(x)
        return out

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Fold the normalisations into the kernels and the small kernel into K×k, in place; has no effect if merged."""
        if self.merged:
            return
        upright: Any = self.LoRA1
        flat: Any = self.LoRA2
        small: Any = self.small_conv
        small_weight, small_bias = folded(small.conv, small.bn)
        weight, bias = folded(upright.conv, upright.bn)
        weight = weight + padded_to(small_weight, *weight.shape[2:])
        upright.conv = conv_with(upright.conv, weight, bias + small_bias)
        flat.conv = conv_with(flat.conv, *folded(flat.conv, flat.bn))
        upright.bn, flat.bn = nn.Identity(), nn.Identity()
        self.small_conv = None
        self.merged = True


class SLaKBlock(nn.Module):
    """x + gamma · linear(GELU(linear(LayerNorm(depthwise x)))): ConvNeXt's block with another depthwise convolution."""

    def __init__(self, dim: int, kernel_size: int, small_kernel: int, drop_path: float, layer_scale: float):
        super().__init__()
        self.gamma = nn.Parameter(layer_scale * torch.ones(dim))
        self.large_kernel = DecomposedKernelConv(dim, kernel_size, small_kernel)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.large_kernel(x).permute(0, 2, 3, 1))
        out = self.gamma * self.pwconv2(self.act(self.pwconv1(out)))
        return x + self.drop_path(out.permute(0, 3, 1, 2))


class SLaK(NormAfterPooling):
    """SLaK (arXiv:2207.03620, Section 4).

    Args:
        depths: Number of blocks in each of the four stages.
        dims: Number of channels in each stage, including the authors' widening by 1.3.
        kernel_sizes: Long side of the depthwise kernels in each stage, odd.
        small_kernel: Short side of the depthwise kernels, odd.
        layer_scale: Initial value of the layer scales.
        in_chans: Number of image channels.
        num_classes: Number of classes; 0 for no classifier.
        global_pool: Pooling before the classifier, by its name in timm, such as 'avg'; '' for none.
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Rate of stochastic depth of the last block; it rises linearly from 0 in the first.

    Raises: ValueError for an even kernel.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (124, 249, 499, 998),
        kernel_sizes: Sequence[int] = (51, 49, 47, 13),
        small_kernel: int = 5,
        layer_scale: float = 1e-6,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__(in_chans, drop_rate)
        stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 4, stride=4), LayerNorm2d(dims[0], eps=1e-6))
        between = [
            nn.Sequential(LayerNorm2d(before, eps=1e-6), nn.Conv2d(before, after, 2, stride=2))
            for before, after in pairwise(dims)
        ]
        stages = [
            Stage(*(SLaKBlock(dim, kernel_size, small_kernel, rate, layer_scale) for rate in rates))
            for dim, kernel_size, rates in zip(dims, kernel_sizes, path_rates(drop_path_rate, depths), strict=True)
        ]
        self._assemble([stem, *between], stages, dims, num_classes, global_pool)
        self.apply(init_trunc_normal)


def checkpoint_filter_fn(state_dict: Mapping[str, Any], model: SLaK) -> dict[str, Tensor]:
    """Extract the tensors from a checkpoint of the authors; their names are the same as here.

    For a checkpoint in merged form, the network is merged first, so that loading can be strict.

    Raises: ValueError for a checkpoint in training form when the network is already merged.
    """
    tensors = unwrapped(state_dict)
    check_form(model, merged=not any(".small_conv." in key for key in tensors))
    return tensors


def _cfg(tag: str, **kwargs: Any) -> dict[str, Any]:
    return staged_cfg(
        tag,
        crop_pct=0.875,
        first_conv="downsample_layers.0.0",
        classifier="head",
        paper_ids="arXiv:2207.03620",
        paper_name="More ConvNets in the 2020s: Scaling up Kernels Beyond 51x51 using Sparsity",
        origin_url="https://github.com/VITA-Group/SLaK",
        **kwargs,
    )


# The authors' weights are on Google Drive, so users download them and give their path.
default_cfgs = generate_default_cfgs(
    {f"slak_{size}.in1k": _cfg(f"slak_{size}.in1k") for size in ("tiny", "small", "base")}
)


def _create_slak(variant: str, pretrained: bool = False, **kwargs: Any) -> SLaK:
    return build_staged(SLaK, variant, pretrained, checkpoint_filter_fn, **kwargs)


@register_model
def slak_tiny(pretrained: bool = False, **kwargs: Any) -> SLaK:
    """SLaK-T: 50.7 M parameters including zeros (the authors count 30 M non-zero ones), 8.71 GMACs at 224."""
    return _create_slak("slak_tiny", pretrained, **kwargs)


@register_model
def slak_small(pretrained: bool = False, **kwargs: Any) -> SLaK:
    """SLaK-S: SLaK-T with 27 blocks in the third stage; 91.1 M parameters including zeros, 16.60 GMACs at 224."""
    model_args = dict(depths=(3, 3, 27, 3))
    return _create_slak("slak_small", pretrained, **dict(model_args, **kwargs))


@register_model
def slak_base(pretrained: bool = False, **kwargs: Any) -> SLaK:
    """SLaK-B: SLaK-S a third wider; 158.0 M parameters including zeros, 28.51 GMACs at 224."""
    model_args = dict(depths=(3, 3, 27, 3), dims=(166, 332, 665, 1331))
    return _create_slak("slak_base", pretrained, **dict(model_args, **kwargs))
