"""ShiftwiseConv: the field of a 51×51 depthwise kernel from shifted 3×3 convolutions; registered in timm.

Paper: Li, Li, Chen, Li, "ShiftwiseConv: Small Convolutional Kernel with Large Kernel Effect", CVPR 2025,
arXiv:2401.12736, Section 3. Behaviour and parameter names follow the authors' code (lidc54/shift-wiseConv,
`backbones/SW_v2_unirep.py` and `shiftadd/`, MIT), so that their checkpoints load unchanged; the classes are our own
code. The network around the operator is that of UniRepLKNet.

The authors' operator convolves each channel with a row of 3×3 kernels and adds the results with shifts, in a CUDA
kernel. The sum equals a convolution with two strips, of about 3×51 and 51×3, whose 3×3 parts are these kernels in a
shuffled order; it is computed in this way here. The shuffles are the first numbers of generators seeded with 123. The
authors' constructor sets this seed for the whole process; here, separate generators are used.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from replknet.architectures.merging import affine_of, padded_to
from replknet.architectures.stages import (
    GlobalResponseNorm,
    NormAfterPooling,
    Permute,
    SqueezeExcite,
    Stage,
    build_staged,
    check_form,
    halving_layers,
    init_trunc_normal,
    path_rates,
    staged_cfg,
    unwrapped,
)
from replknet.ops import DepthwiseConv2d, depthwise_conv2d

__all__ = ["ShiftwiseBlock", "ShiftwiseConv", "ShiftwiseNet", "checkpoint_filter_fn"]

_SEED = 123
_SIDE = 3  # side of the small kernels


class ShiftwiseConv(nn.Module):
    """A depthwise convolution with two strips and a 3×3 kernel, each normalised, parallel to the identity.

    Only some of the channels are convolved; the others are passed on unchanged and come last in the output.

    Args:
        channels: Number of channels of input and output.
        kernel_size: Long side of the strips; it is rounded up to a multiple of 3.
        ghost_ratio: Share of the channels that are passed on unchanged.
        paths: Number of parallel sets of small kernels, which are summed.
        shuffles: Number of orders of the small kernels that are added up in a strip.
    """

    def __init__(
        self, channels: int, kernel_size: int, *, ghost_ratio: float = 0.23, paths: int = 2, shuffles: int = 4
    ):
        super().__init__()
        if TYPE_CHECKING:
            self.LoRAs: Any
            self.passing, self.chosen, self.order_across, self.order_upright, self.centre = 5 * [torch.empty(0)]
        self.merged = False
        self.side = _SIDE
        self.parts = math.ceil(kernel_size / _SIDE)
        self.before = kernel_size // 2  # taps on the left of the centre; there are up to two more on the right
        convolved = int(channels * (1 - ghost_ratio)) // 2 * 2
        self.LoRAs = nn.ModuleList(
            nn.Conv2d(convolved, convolved * self.parts, _SIDE, padding=1, groups=convolved, bias=False)
            for _ in range(paths)
        )
        self.bn_lora1 = nn.BatchNorm2d(convolved)
        self.bn_lora2 = nn.BatchNorm2d(convolved)
        self.bn_small = nn.BatchNorm2d(convolved)
        self.LoRA: nn.Module | None = None
        self.across: nn.Module | None = None
        self.upright: nn.Module | None = None
        passing, chosen = _choose_channels(channels, channels - convolved)
        orders = _shuffle(convolved, self.parts, shuffles)
        place = self.bn_small.weight.device
        indices = dict(
            passing=passing, chosen=chosen, order_across=orders[0], order_upright=orders[1], centre=orders[2]
        )
        for name, index in indices.items():
            self.register_buffer(name, index.to(place), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        convolved, passing = x[:, self.chosen], x[:, self.passing]
        if self.across is not None and self.upright is not None:
            out = self.across(convolved) + self.upright(convolved)
        else:
            across, upright, square = self.kernels()
            out = self.bn_lora1(depthwise_conv2d(convolved, across)) + self.bn_lora2(
                depthwise_conv2d(convolved, upright)
            )
            out = out + self.bn_small(F.conv2d(convolved, square, padding=1, groups=square.shape[0])) + convolved
        return torch.cat([out, passing], dim=1)

    def kernels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Assemble the strips (C, 1, 3, K) and (C, 1, K, 3) and the square (C, 1, 3, 3) from the small kernels."""
        if self.LoRA is not None:
            small = self.LoRA.weight
        else:
            small = torch.zeros_like(self.LoRAs[0].weight)
            for path in self.LoRAs:
                small = small + path.weight
        small = small.view(-1, self.parts, self.side, self.side)
        channel = torch.arange(small.shape[0], device=small.device).view(1, -1, 1)
        # small[channel, order]: (shuffles, C, parts, 3, 3), the small kernels in the order of the parts of a strip
        across = small[channel, self.order_across].sum(0).permute(0, 2, 1, 3).flatten(2)
        upright = small[channel, self.order_upright].sum(0).flatten(1, 2)
        square = small[channel[:, :, 0], self.centre].sum(0)
        after = self.parts * self.side - 1 - self.before
        left, right = max(after - self.before, 0), max(self.before - after, 0)
        across = F.pad(across, [left, right]).unsqueeze(1)
        upright = F.pad(upright, [0, 0, left, right]).unsqueeze(1)
        return across, upright, square.unsqueeze(1)

    @torch.jit.ignore
    @torch.no_grad()
    def join_paths(self) -> None:
        """Sum the parallel sets of small kernels into one, in place; the authors call this form merged."""
        if self.LoRAs is None:
            return
        like: Any = self.LoRAs[0]
        joined = nn.Conv2d(like.in_channels, like.out_channels, _SIDE, padding=1, groups=like.groups, bias=False)
        joined.to(like.weight)
        joined.weight.copy_(sum(path.weight.double() for path in self.LoRAs))
        self.LoRA = joined.requires_grad_(like.weight.requires_grad).train(like.training)
        self.LoRAs = None

    @torch.jit.ignore
    @torch.no_grad()
    def reparameterize(self) -> None:
        """Merge everything into two strip convolutions with biases, in place; has no effect if already merged."""
        if self.merged:
            return
        self.join_paths()
        conv: Any = self.LoRA
        precise = conv.weight.double()
        kept, conv.weight.data = conv.weight.data, precise
        across, upright, square = self.kernels()
        conv.weight.data = kept
        weights, biases = [], []
        for kernel, norm in ((across, self.bn_lora1), (upright, self.bn_lora2), (square, self.bn_small)):
            scale, shift = affine_of(norm, kernel[:, 0, 0, 0])
            weights.append(kernel * scale[:, None, None, None])
            biases.append(shift)
        identity = torch.ones_like(square[:, :, :1, :1])
        weights[0] = weights[0] + padded_to(weights[2], *across.shape[2:]) + padded_to(identity, *across.shape[2:])
        for name, weight, bias in (("across", weights[0], biases[0] + biases[2]), ("upright", weights[1], biases[1])):
            height, width = weight.shape[2:]
            strip = DepthwiseConv2d(weight.shape[0], (height, width)).to(conv.weight)
            strip.weight.copy_(weight)
            strip.bias.copy_(bias)
            setattr(self, name, strip.requires_grad_(conv.weight.requires_grad).train(conv.training))
        self.LoRA = None
        self.bn_lora1, self.bn_lora2, self.bn_small = nn.Identity(), nn.Identity(), nn.Identity()
        self.merged = True


def _choose_channels(channels: int, passing: int) -> tuple[Tensor, Tensor]:
    """Choose the channels that are passed on unchanged and those that are convolved."""
    legacy = np.random.RandomState(_SEED)
    passed = np.sort(legacy.choice(channels, passing, replace=False))
    return torch.from_numpy(passed), torch.from_numpy(np.setdiff1d(np.arange(channels), passed))


def _shuffle(channels: int, parts: int, shuffles: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the orders of the parts in the two strips (shuffles, C, parts) and the part for the square (shuffles, C)."""
    generator = torch.Generator().manual_seed(_SEED)
    options: dict[str, Any] = dict(generator=generator, device="cpu")
    orders = [torch.stack([torch.randperm(parts, **options) for _ in range(channels)]) for _ in range(2 * shuffles)]
    squares = [torch.randint(0, parts, (channels,), **options) for _ in range(shuffles)]
    return torch.stack(orders[:shuffles]), torch.stack(orders[shuffles:]), torch.stack(squares)


class ShiftwiseBlock(nn.Module):
    """UniRepLKNet's block around `ShiftwiseConv`."""

    def __init__(self, dim: int, kernel_size: int, ghost_ratio: float, drop_path: float, layer_scale: float):
        super().__init__()
        self.gamma = nn.Parameter(layer_scale * torch.ones(dim))
        self.large_kernel = ShiftwiseConv(dim, kernel_size, ghost_ratio=ghost_ratio)
        self.norm = nn.BatchNorm2d(dim)
        self.se = SqueezeExcite(dim, dim // 4)
        self.pwconv1 = nn.Sequential(Permute(0, 2, 3, 1), nn.Linear(dim, 4 * dim))
        self.act = nn.Sequential(nn.GELU(), GlobalResponseNorm(4 * dim, channels_last=True))
        self.pwconv2 = nn.Sequential(nn.Linear(4 * dim, dim, bias=False), Permute(0, 3, 1, 2), nn.BatchNorm2d(dim))
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.se(self.norm(self.large_kernel(x)))
        out = self.pwconv2(self.act(self.pwconv1(out)))
        return x + self.drop_path(out * self.gamma.view(1, -1, 1, 1))


class ShiftwiseNet(NormAfterPooling):
    """SW-T (arXiv:2401.12736, Section 4): the network of UniRepLKNet-T with the shiftwise operator in every block.

    Args:
        depths: Number of blocks in each of the four stages.
        dims: Number of channels in each stage.
        kernel_sizes: Long side of the strips in each stage.
        ghost_ratio: Share of the channels that are passed on without convolution.
        layer_scale: Initial value of the layer scales.
        in_chans: Number of image channels.
        num_classes: Number of classes; 0 for no classifier.
        global_pool: Pooling before the classifier, by its name in timm, such as 'avg'; '' for none.
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Rate of stochastic depth of the last block; it rises linearly from 0 in the first.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 18, 3),
        dims: Sequence[int] = (80, 160, 320, 640),
        kernel_sizes: Sequence[int] = (51, 49, 47, 13),
        ghost_ratio: float = 0.23,
        layer_scale: float = 1e-6,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__(in_chans, drop_rate)
        stages = [
            Stage(*(ShiftwiseBlock(dim, kernel_size, ghost_ratio, rate, layer_scale) for rate in rates))
            for dim, kernel_size, rates in zip(dims, kernel_sizes, path_rates(drop_path_rate, depths), strict=True)
        ]
        self._assemble(halving_layers(in_chans, dims), stages, dims, num_classes, global_pool)
        self.apply(init_trunc_normal)

    @torch.jit.ignore
    def join_paths(self) -> None:
        """Convert the network to the form that the authors call merged: one set of small kernels in each block."""
        for module in self.modules():
            if isinstance(module, ShiftwiseConv):
                module.join_paths()


def checkpoint_filter_fn(state_dict: Mapping[str, Any], model: ShiftwiseNet) -> dict[str, Tensor]:
    """Extract the tensors from a checkpoint of the authors; their names are the same as here.

    For a checkpoint in the authors' merged form, or in ours, the network is converted to that form first, so that
    loading can be strict.

    Raises: ValueError for a checkpoint in training form when the network is already merged.
    """
    tensors = unwrapped(state_dict)
    check_form(model, merged=any(".across." in key for key in tensors))
    if any(".LoRA." in key for key in tensors):
        model.join_paths()
    return tensors


def _cfg(tag: str, **kwargs: Any) -> dict[str, Any]:
    return staged_cfg(
        tag,
        crop_pct=0.875,
        first_conv="downsample_layers.0.0",
        classifier="head",
        paper_ids="arXiv:2401.12736",
        paper_name="ShiftwiseConv: Small Convolutional Kernel with Large Kernel Effect",
        origin_url="https://github.com/lidc54/shift-wiseConv",
        **kwargs,
    )


# The authors' weights are on Google Drive, so users download them and give their path.
default_cfgs = generate_default_cfgs({"shiftwise_tiny.in1k": _cfg("shiftwise_tiny.in1k")})


def _create_shiftwise(variant: str, pretrained: bool = False, **kwargs: Any) -> ShiftwiseNet:
    return build_staged(ShiftwiseNet, variant, pretrained, checkpoint_filter_fn, **kwargs)


@register_model
def shiftwise_tiny(pretrained: bool = False, **kwargs: Any) -> ShiftwiseNet:
    """SW-T: strips of length 51, 49, 47 and 13; 31.8 M parameters in training form."""
    return _create_shiftwise("shiftwise_tiny", pretrained, **kwargs)
