"""MogaNet: gated depthwise convolutions with kernels of three sizes on parts of the channels; registered in timm.

Paper: Li, Wang, Liu, Tan, Lin, Wu, Chen, Zheng, Li, "MogaNet: Multi-order Gated Aggregation Network", ICLR 2024,
arXiv:2211.03295, Section 4. Behaviour and parameter names follow the authors' code (Westlake-AI/MogaNet,
`models/moganet.py`, Apache-2.0), so that their checkpoints load unchanged; the classes are our own code.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from replknet.architectures.stages import (
    NormAfterStages,
    Stage,
    build_staged,
    init_fan_out,
    path_rates,
    staged_cfg,
    unwrapped,
)

__all__ = ["MogaBlock", "MogaNet", "MultiOrderConv", "checkpoint_filter_fn"]


class _Scale(nn.Module):
    """Multiply each channel by a learned factor."""

    def __init__(self, dim: int, value: float):
        super().__init__()
        self.scale = nn.Parameter(value * torch.ones(1, dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class MultiOrderConv(nn.Module):
    """A 5×5 depthwise convolution, then 5×5 with dilation 2 on 3/8 and 7×7 with dilation 3 on 4/8 of its channels.

    A 1×1 convolution mixes the three parts (paper, Section 4.2).

    Raises: ValueError if the number of channels is not a multiple of 8.
    """

    def __init__(self, dim: int):
        super().__init__()
        if dim % 8:
            raise ValueError(f"dim={dim} is not a multiple of 8, into which the channels are divided")
        self.parts = (dim // 8, 3 * dim // 8, dim // 2)
        middle, last = self.parts[1:]
        self.DW_conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.DW_conv1 = nn.Conv2d(middle, middle, 5, padding=4, dilation=2, groups=middle)
        self.DW_conv2 = nn.Conv2d(last, last, 7, padding=9, dilation=3, groups=last)
        self.PW_conv = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        low, middle, high = self.DW_conv0(x).split(self.parts, dim=1)
        return self.PW_conv(torch.cat([low, self.DW_conv1(middle), self.DW_conv2(high)], dim=1))


class _GatedAggregation(nn.Module):
    """Spatial half of a block: amplify each pixel's deviation from the image mean, then gate a `MultiOrderConv`."""

    def __init__(self, dim: int, layer_scale: float):
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.gate = nn.Conv2d(dim, dim, 1)
        self.value = MultiOrderConv(dim)
        self.proj_2 = nn.Conv2d(dim, dim, 1)
        self.act_value = nn.SiLU()
        self.act_gate = nn.SiLU()
        self.sigma = _Scale(dim, layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj_1(x)
        y = self.act_value(y + self.sigma(y - F.adaptive_avg_pool2d(y, 1)))
        return x + self.proj_2(self.act_gate(self.gate(y)) * self.act_gate(self.value(y)))


class _ChannelAggregation(nn.Module):
    """Feed-forward half: 3×3 depthwise, then amplify each channel's deviation from one projection of all channels."""

    def __init__(self, dim: int, hidden_dim: int, layer_scale: float):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)
        self.decompose = nn.Conv2d(hidden_dim, 1, 1)
        self.sigma = _Scale(hidden_dim, layer_scale)
        self.decompose_act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.dwconv(self.fc1(x)))
        return self.fc2(x + self.sigma(x - self.decompose_act(self.decompose(x))))


class MogaBlock(nn.Module):
    """Spatial and feed-forward half, each with a normalisation before, a scale after, and a shortcut (Figure 4)."""

    def __init__(self, dim: int, ffn_ratio: float, drop_path: float, layer_scale: float):
        super().__init__()
        self.layer_scale_1 = nn.Parameter(layer_scale * torch.ones(1, dim, 1, 1))
        self.layer_scale_2 = nn.Parameter(layer_scale * torch.ones(1, dim, 1, 1))
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = _GatedAggregation(dim, layer_scale)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = _ChannelAggregation(dim, int(dim * ffn_ratio), layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.layer_scale_1 * self.attn(self.norm1(x)))
        return x + self.drop_path(self.layer_scale_2 * self.mlp(self.norm2(x)))


class MogaNet(NormAfterStages):
    """MogaNet (arXiv:2211.03295, Section 4.4).

    Args:
        depths: Number of blocks in each of the four stages.
        dims: Number of channels in each stage, multiples of 8.
        ffn_ratios: Ratio of hidden channels to channels in the feed-forward half, for each stage.
        layer_scale: Initial value of the layer scales.
        in_chans: Number of image channels.
        num_classes: Number of classes; 0 for no classifier.
        global_pool: Pooling before the classifier, by its name in timm, such as 'avg'; '' for none.
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Rate of stochastic depth of the last block; it rises linearly from 0 in the first.

    Raises: ValueError if a number of channels is not a multiple of 8.
    """

    blocks_name = "blocks"
    layer_scale_at_random = 1e-2  # with 1, products of features overflow in an untrained network

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 12, 2),
        dims: Sequence[int] = (32, 64, 128, 256),
        ffn_ratios: Sequence[float] = (8, 8, 4, 4),
        layer_scale: float = 1e-5,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__(in_chans, drop_rate)
        stages: list[tuple[nn.Module, Stage, nn.Module]] = []
        parts = zip(dims, ffn_ratios, path_rates(drop_path_rate, depths), strict=True)
        for i, (dim, ratio, rates) in enumerate(parts):
            embed = _stem(in_chans, dim) if i == 0 else _embed(dims[i - 1], dim)
            blocks = Stage(*(MogaBlock(dim, ratio, rate, layer_scale) for rate in rates))
            stages.append((embed, blocks, nn.BatchNorm2d(dim)))
        self._assemble(stages, dims)
        self._make_head(num_classes, global_pool)
        self.apply(init_fan_out)

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the normalised last map (N, C, H / 32, W / 32)."""
        x = self.norm1(self.blocks1(self.patch_embed1(x)))
        x = self.norm2(self.blocks2(self.patch_embed2(x)))
        x = self.norm3(self.blocks3(self.patch_embed3(x)))
        return self.norm4(self.blocks4(self.patch_embed4(x)))


def _halving(in_chs: int, out_chs: int) -> list[nn.Module]:
    return [nn.Conv2d(in_chs, out_chs, 3, stride=2, padding=1), nn.BatchNorm2d(out_chs)]


def _stem(in_chs: int, out_chs: int) -> nn.Sequential:
    layers = nn.Sequential(*_halving(in_chs, out_chs // 2), nn.GELU(), *_halving(out_chs // 2, out_chs))
    return nn.Sequential(OrderedDict(projection=layers))


def _embed(in_chs: int, out_chs: int) -> nn.Sequential:
    projection, norm = _halving(in_chs, out_chs)
    return nn.Sequential(OrderedDict(projection=projection, norm=norm))


def checkpoint_filter_fn(state_dict: Mapping[str, Any], model: MogaNet) -> dict[str, Tensor]:
    """Extract the tensors from a checkpoint of the authors; their names are the same as here."""
    return unwrapped(state_dict)


def _cfg(tag: str, **kwargs: Any) -> dict[str, Any]:
    return staged_cfg(
        tag,
        crop_pct=0.9,
        first_conv="patch_embed1.projection.0",
        classifier="head",
        paper_ids="arXiv:2211.03295",
        paper_name="MogaNet: Multi-order Gated Aggregation Network",
        origin_url="https://github.com/Westlake-AI/MogaNet",
        **kwargs,
    )


_SIZES = ("xtiny", "tiny", "small", "base", "large", "xlarge")
default_cfgs = generate_default_cfgs({f"moganet_{size}.in1k": _cfg(f"moganet_{size}.in1k") for size in _SIZES})


def _create_moganet(variant: str, pretrained: bool = False, **kwargs: Any) -> MogaNet:
    return build_staged(MogaNet, variant, pretrained, checkpoint_filter_fn, **kwargs)


@register_model
def moganet_xtiny(pretrained: bool = False, **kwargs: Any) -> MogaNet:
    """MogaNet-XT: 3.0 M parameters, 0.78 GMACs at 224."""
    model_args = dict(depths=(3, 3, 10, 2), dims=(32, 64, 96, 192))
    return _create_moganet("moganet_xtiny", pretrained, **dict(model_args, **kwargs))


@register_model
def moganet_tiny(pretrained: bool = False, **kwargs: Any) -> MogaNet:
    """MogaNet-T: 5.2 M parameters, 1.08 GMACs at 224."""
    model_args = dict(depths=(3, 3, 12, 2), dims=(32, 64, 128, 256))
    return _create_moganet("moganet_tiny", pretrained, **dict(model_args, **kwargs))


@register_model
def moganet_small(pretrained: bool = False, **kwargs: Any) -> MogaNet:
    """MogaNet-S: 25.3 M parameters, 4.93 GMACs at 224."""
    model_args = dict(depths=(2, 3, 12, 2), dims=(64, 128, 320, 512))
    return _create_moganet("moganet_small", pretrained, **dict(model_args, **kwargs))


@register_model
def moganet_base(pretrained: bool = False, **kwargs: Any) -> MogaNet:
    """MogaNet-B: 43.7 M parameters, 9.86 GMACs at 224."""
    model_args = dict(depths=(4, 6, 22, 3), dims=(64, 160, 320, 512))
    return _create_moganet("moganet_base", pretrained, **dict(model_args, **kwargs))


@register_model
def moganet_large(pretrained: bool = False, **kwargs: Any) -> MogaNet:
    """MogaNet-L: 82.5 M parameters, 15.82 GMACs at 224."""
    model_args = dict(depths=(4, 6, 44, 4), dims=(64, 160, 320, 640))
    return _create_moganet("moganet_large", pretrained, **dict(model_args, **kwargs))


@register_model
def moganet_xlarge(pretrained: bool = False, **kwargs: Any) -> MogaNet:
    """MogaNet-XL: 181.0 M parameters, 34.40 GMACs at 224."""
    model_args = dict(depths=(6, 6, 44, 4), dims=(96, 192, 480, 960))
    return _create_moganet("moganet_xlarge", pretrained, **dict(model_args, **kwargs))
