"""UniRepLKNet: 13×13 depthwise kernels, trained with parallel dilated ones; registered in timm.

Paper: Ding, Zhang, Ge, Zhao, Song, Yue, Shan, "UniRepLKNet: A Universal Perception Large-Kernel ConvNet for Audio,
Video, Point Cloud, Time-Series and Image Recognition", CVPR 2024, arXiv:2311.15599, Sections 3.1 and 3.2. Behaviour and
parameter names follow the authors' code (AILab-CVC/UniRepLKNet, `unireplknet.py`, Apache-2.0), so that their
checkpoints load unchanged; the classes are our own code.

A network has two forms that compute the same function in eval mode: the training form and, after `reparameterize()`,
the merged form. There, the dilated branches and their normalisations are merged into the large kernels, and the last
normalisation, the layer scale and GRN's bias into the second linear layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers import DropPath
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from replknet.architectures.merging import affine_of, conv_with, dense_kernel, folded, padded_to
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
from replknet.ops import DepthwiseConv2d

__all__ = ["DilatedReparamConv", "UniRepLKNet", "UniRepLKNetBlock", "checkpoint_filter_fn"]

# Side of a large kernel -> (side, dilation) of its parallel branches; the table is the authors'.
_BRANCHES = {
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    7: ((5, 1), (3, 2), (3, 3)),
}


class DilatedReparamConv(nn.ModuleDict):
    """A large depthwise kernel with parallel dilated ones, each followed by its own normalisation (Section 3.1).

    The layers alternate between a convolution of the input and the normalisation of its output. After merging there is
    a single convolution with a bias.

    Args:
        channels: Number of channels of input and output.
        kernel_size: Side of the large kernel, odd.
        branches: (side, dilation) of the parallel kernels; none may extend beyond the large one.
    """

    def __init__(self, channels: int, kernel_size: int, branches: Sequence[tuple[int, int]]):
        super().__init__()
        self.merged = False
        self["lk_origin"] = DepthwiseConv2d(channels, kernel_size, bias=False)
        self["origin_bn"] = nn.BatchNorm2d(channels)
        for side, dilation in branches:
            reach = dilation * (side - 1) + 1
            if reach > kernel_size:
                raise ValueError(
                    f"a branch {side}×{side} of dilation {dilation} is larger than kernel_size={kernel_size}"
                )
            self[f"dil_conv_k{side}_{dilation}"] = nn.Conv2d(
                channels, channels, side, padding=reach // 2, dilation=dilation, groups=channels, bias=False
            )
            self[f"dil_bn_k{side}_{dilation}"] = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        branch = x
        position = 0
        for layer in self.values():
            if position % 2 == 0:
                branch = layer(x)
            else:
                branch = layer(branch)
                out = branch if position == 1 else out + branch
            position += 1
        return branch if position == 1 else out

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Merge all kernels and their normalisations into `lk_origin`, in place; has no effect if already merged."""
        if self.merged:
            return
        layers = list(self.values())
        large: Any = layers[0]
        side = large.kernel_size[0]
        weight, bias = folded(large, layers[1])
        for i in range(2, len(layers), 2):
            conv: Any = layers[i]
            branch_weight, branch_bias = folded(conv, layers[i + 1])
            weight = weight + padded_to(dense_kernel(branch_weight, conv.dilation[0]), side, side)
            bias = bias + branch_bias
        self.clear()
        self["lk_origin"] = conv_with(large, weight, bias)
        self.merged = True


class UniRepLKNetBlock(nn.Module):
    """x + gamma · BN(linear(GRN(GELU(linear(SE(BN(depthwise x))))))); the first linear layer widens by 4 (Figure 2).

    Args:
        dim: Number of channels.
        kernel_size: Side of the depthwise kernel; kernels of 7 and more have dilated branches.
        drop_path: Rate of stochastic depth.
        layer_scale: What gamma starts at.
    """

    def __init__(self, dim: int, kernel_size: int, drop_path: float = 0.0, layer_scale: float = 1e-6):
        super().__init__()
        self.merged = False
        self.gamma: nn.Parameter | None = nn.Parameter(layer_scale * torch.ones(dim))
        self.dwconv = self._make_dwconv(dim, kernel_size)
        self.norm: nn.Module = nn.BatchNorm2d(dim)
        self.se = SqueezeExcite(dim, dim // 4)
        self.pwconv1 = nn.Sequential(Permute(0, 2, 3, 1), nn.Linear(dim, 4 * dim))
        self.act = nn.Sequential(nn.GELU(), GlobalResponseNorm(4 * dim, channels_last=True))
        self.pwconv2 = nn.Sequential(nn.Linear(4 * dim, dim, bias=False), Permute(0, 3, 1, 2), nn.BatchNorm2d(dim))
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def _make_dwconv(self, dim: int, kernel_size: int) -> nn.Module:
        if kernel_size in _BRANCHES:
            return DilatedReparamConv(dim, kernel_size, _BRANCHES[kernel_size])
        return nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.se(self.norm(self.dwconv(x)))
        out = self.pwconv2(self.act(self.pwconv1(out)))
        if self.gamma is not None:
            out = out * self.gamma.view(1, -1, 1, 1)
        return x + self.drop_path(out)

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Merge the depthwise part into one convolution, and the part after GRN into one linear layer, in place.

        Has no effect if already merged.
        """
        if self.merged:
            return
        dwconv: Any = self.dwconv
        if isinstance(dwconv, DilatedReparamConv):
            dwconv.reparameterize()
            conv: Any = dwconv["lk_origin"]
            dwconv["lk_origin"] = conv_with(conv, *folded(conv, self.norm))
        else:
            self.dwconv = conv_with(dwconv, *folded(dwconv, self.norm))
        self.norm = nn.Identity()
        self._merge_output()
        self.merged = True

    def _merge_output(self) -> None:
        """Merge GRN's bias, the last normalisation and the layer scale into the second linear layer."""
        grn: Any = self.act[1]
        linear: Any = self.pwconv2[0]
        scale, shift = affine_of(self.pwconv2[2], linear.weight[:, 0])
        bias = shift + scale * (linear.weight.double() @ grn.beta.double().flatten())
        if self.gamma is not None:
            scale, bias = scale * self.gamma.double(), bias * self.gamma.double()
        new = nn.Linear(linear.in_features, linear.out_features).to(linear.weight)
        new.weight.copy_(linear.weight.double() * scale[:, None])
        new.bias.copy_(bias)
        new.requires_grad_(linear.weight.requires_grad).train(linear.training)
        self.pwconv2 = nn.Sequential(new, self.pwconv2[1])
        self.gamma = None
        grn.beta = None


class UniRepLKNet(NormAfterPooling):
    """UniRepLKNet (arXiv:2311.15599, Section 3.2 and Table 1).

    Args:
        depths: Number of blocks in each of the four stages.
        dims: Number of channels in each stage.
        kernel_sizes: Side of the depthwise kernel of every block, stage by stage.
        layer_scale: Initial value of the layer scales.
        in_chans: Number of image channels.
        num_classes: Number of classes; 0 for no classifier.
        global_pool: Pooling before the classifier, by its name in timm, such as 'avg'; '' for none.
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Rate of stochastic depth of the last block; it rises linearly from 0 in the first.

    Raises: ValueError for an unsupported kernel side, or if there is not one kernel for each block.
    """

    block = UniRepLKNetBlock

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 18, 3),
        dims: Sequence[int] = (80, 160, 320, 640),
        kernel_sizes: Sequence[Sequence[int]] | None = None,
        layer_scale: float = 1e-6,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__(in_chans, drop_rate)
        kernel_sizes = _kernels(depths) if kernel_sizes is None else kernel_sizes
        _check_kernels(kernel_sizes, depths)
        stages = [
            Stage(*(self.block(dim, k, rate, layer_scale) for k, rate in zip(kernels, rates, strict=True)))
            for dim, kernels, rates in zip(dims, kernel_sizes, path_rates(drop_path_rate, depths), strict=True)
        ]
        self._assemble(halving_layers(in_chans, dims), stages, dims, num_classes, global_pool)
        self.apply(init_trunc_normal)


def _kernels(depths: Sequence[int]) -> list[list[int]]:
    """The published kernels: 3 in the first stage and 13 in the others; a long third stage has 3s between the 13s."""
    step = {18: 2, 27: 3}.get(depths[2], 1)
    third = [13 if i % step == 0 else 3 for i in range(depths[2])]
    return [[3] * depths[0], [13] * depths[1], third, [13] * depths[3]]


def _check_kernels(kernel_sizes: Sequence[Sequence[int]], depths: Sequence[int]) -> None:
    if [len(kernels) for kernels in kernel_sizes] != list(depths):
        raise ValueError(f"kernel_sizes={kernel_sizes}: give one side for each block, {tuple(depths)} in the stages")
    for side in (side for kernels in kernel_sizes for side in kernels):
        if side % 2 == 0 or side < 3 or (side > 5 and side not in _BRANCHES):
            raise ValueError(f"kernel_sizes has {side}; there are 3, 5, {', '.join(map(str, sorted(_BRANCHES)))}")


def checkpoint_filter_fn(state_dict: Mapping[str, Any], model: UniRepLKNet) -> dict[str, Tensor]:
    """Extract the tensors from a checkpoint of the authors; their names are the same as here.

    For a checkpoint in merged form, the network is merged first, so that loading can be strict.

    Raises: ValueError for a checkpoint in training form when the network is already merged.
    """
    tensors = unwrapped(state_dict)
    check_form(model, merged=not any(key.endswith("pwconv2.2.weight") for key in tensors))
    return tensors


def _cfg(tag: str, *, crop_pct: float = 0.875, **kwargs: Any) -> dict[str, Any]:
    return staged_cfg(
        tag,
        crop_pct=crop_pct,
        first_conv="downsample_layers.0.0",
        classifier="head",
        paper_ids="arXiv:2311.15599",
        paper_name="UniRepLKNet: A Universal Perception Large-Kernel ConvNet",
        origin_url="https://github.com/AILab-CVC/UniRepLKNet",
        **kwargs,
    )


# The authors warp the whole image at 384 pixels, and take a centre crop of 7/8 below (their `datasets.py`).
_AT_384 = dict(input_size=(3, 384, 384), pool_size=(12, 12), crop_pct=1.0, crop_mode="squash")
_OF_22K = dict(num_classes=21841)

default_cfgs = generate_default_cfgs(
    {
        **{f"unireplknet_{size}.in1k": _cfg(f"unireplknet_{size}.in1k") for size in "afpnts"},
        **{
            f"unireplknet_{size}.{tag}": _cfg(f"unireplknet_{size}.{tag}", **differs)
            for size in ("s", "b", "l", "xl")
            for tag, differs in (("in22k_ft_in1k_384", _AT_384), ("in22k", _OF_22K))
        },
    }
)


def _create_unireplknet(variant: str, pretrained: bool = False, **kwargs: Any) -> UniRepLKNet:
    return build_staged(UniRepLKNet, variant, pretrained, checkpoint_filter_fn, **kwargs)


@register_model
def unireplknet_a(pretrained: bool = False, **kwargs: Any) -> UniRepLKNet:
    """UniRepLKNet-A: 4.4 M parameters merged, 0.64 GMACs at 224."""
    model_args = dict(depths=(2, 2, 6, 2), dims=(40, 80, 160, 320))
    return _create_unireplknet("unireplknet_a", pretrained, **dict(model_args, **kwargs))


@register_model
def unireplknet_f(pretrained: bool = False, **kwargs: Any) -> UniRepLKNet:
    """UniRepLKNet-F: 6.2 M parameters merged, 0.90 GMACs at 224."""
    model_args = dict(depths=(2, 2, 6, 2), dims=(48, 96, 192, 384))
    return _create_unireplknet("unireplknet_f", pretrained, **dict(model_args, **kwargs))


@register_model
def unireplknet_p(pretrained: bool = False, **kwargs: Any) -> UniRepLKNet:
    """UniRepLKNet-P: 10.7 M parameters merged, 1.57 GMACs at 224."""
    model_args = dict(depths=(2, 2, 6, 2), dims=(64, 128, 256, 512))
    return _create_unireplknet("unireplknet_p", pretrained, **dict(model_args, **kwargs))


@register_model
def unireplknet_n(pretrained: bool = False, **kwargs: Any) -> UniRepLKNet:
    """UniRepLKNet-N: 18.3 M parameters merged, 2.77 GMACs at 224."""
    model_args = dict(depths=(2, 2, 8, 2), dims=(80, 160, 320, 640))
    return _create_unireplknet("unireplknet_n", pretrained, **dict(model_args, **kwargs))


@register_model
def unireplknet_t(pretrained: bool = False, **kwargs: Any) -> UniRepLKNet:
    """UniRepLKNet-T: 31.0 M parameters merged, 4.90 GMACs at 224; every second kernel of the third stage is 3×3."""
    model_args = dict(depths=(3, 3, 18, 3), dims=(80, 160, 320, 640))
    return _create_unireplknet("unireplknet_t", pretrained, **dict(model_args, **kwargs))


@register_model
def unireplknet_s(pretrained: bool = False, **kwargs: Any) -> UniRepLKNet:
    """UniRepLKNet-S: 55.6 M parameters merged, 9.09 GMACs at 224; every third kernel of the third stage is 13×13."""
    model_args = dict(depths=(3, 3, 27, 3), dims=(96, 192, 384, 768))
    return _create_unireplknet("unireplknet_s", pretrained, **dict(model_args, **kwargs))


@register_model
def unireplknet_b(pretrained: bool = False, **kwargs: Any) -> UniRepLKNet:
    """UniRepLKNet-B: 98.0 M parameters merged, 16.06 GMACs at 224."""
    model_args = dict(depths=(3, 3, 27, 3), dims=(128, 256, 512, 1024))
    return _create_unireplknet("unireplknet_b", pretrained, **dict(model_args, **kwargs))


@register_model
def unireplknet_l(pretrained: bool = False, **kwargs: Any) -> UniRepLKNet:
    """UniRepLKNet-L: 218.5 M parameters merged, 35.88 GMACs at 224."""
    model_args = dict(depths=(3, 3, 27, 3), dims=(192, 384, 768, 1536))
    return _create_unireplknet("unireplknet_l", pretrained, **dict(model_args, **kwargs))


@register_model
def unireplknet_xl(pretrained: bool = False, **kwargs: Any) -> UniRepLKNet:
    """UniRepLKNet-XL: 386.5 M parameters merged, 63.57 GMACs at 224."""
    model_args = dict(depths=(3, 3, 27, 3), dims=(256, 512, 1024, 2048))
    return _create_unireplknet("unireplknet_xl", pretrained, **dict(model_args, **kwargs))
