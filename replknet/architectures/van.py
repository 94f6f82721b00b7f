"""VAN: attention from a large depthwise kernel, composed of a 5×5 and a dilated 7×7 one; registered in timm.

Paper: Guo, Lu, Liu, Cheng, Hu, "Visual Attention Network", Computational Visual Media 2023, arXiv:2202.09741,
Section 3. Behaviour and parameter names follow the authors' code (Visual-Attention-Network/VAN-Classification,
`models/van.py`, Apache-2.0), so that their checkpoints load unchanged; the classes are our own code.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.data.constants import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from timm.layers import DropPath, LayerNorm2d
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

__all__ = ["VAN", "LargeKernelAttention", "VANBlock", "checkpoint_filter_fn"]


class LargeKernelAttention(nn.Module):
    """Attention from a 5×5, a 7×7 (dilation 3) and a 1×1 convolution in sequence: 23×23 pixels (Section 3.1)."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, dilation=3, groups=dim)
        self.conv1 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv1(self.conv_spatial(self.conv0(x)))


class _Attention(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.activation = nn.GELU()
        self.spatial_gating_unit = LargeKernelAttention(dim)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.proj_2(self.spatial_gating_unit(self.activation(self.proj_1(x))))


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        depthwise = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.dwconv = nn.Sequential(OrderedDict(dwconv=depthwise))
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.dwconv(self.fc1(x))))


class VANBlock(nn.Module):
    """Attention and feed-forward part, each with a normalisation before, a scale after, and a shortcut (Figure 3)."""

    def __init__(self, dim: int, mlp_ratio: float, drop_path: float, layer_scale: float):
        super().__init__()
        self.layer_scale_1 = nn.Parameter(layer_scale * torch.ones(dim))
        self.layer_scale_2 = nn.Parameter(layer_scale * torch.ones(dim))
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = _Attention(dim)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = _FeedForward(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)) * self.layer_scale_1.view(1, -1, 1, 1))
        return x + self.drop_path(self.mlp(self.norm2(x)) * self.layer_scale_2.view(1, -1, 1, 1))


class VAN(NormAfterStages):
    """Visual Attention Network (arXiv:2202.09741, Table 3).

    Args:
        depths: Number of blocks in each of the four stages.
        dims: Number of channels in each stage.
        mlp_ratios: Ratio of hidden channels to channels in the feed-forward part, for each stage.
        layer_scale: Initial value of the layer scales.
        in_chans: Number of image channels.
        num_classes: Number of classes; 0 for no classifier.
        global_pool: Pooling before the classifier, by its name in timm, such as 'avg'; '' for none.
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Rate of stochastic depth of the last block; it rises linearly from 0 in the first.
    """

    blocks_name = "block"
    layer_scale_at_random = 1e-2  # with 1, products of features overflow in an untrained network

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 12, 3),
        dims: Sequence[int] = (64, 128, 320, 512),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        layer_scale: float = 1e-2,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__(in_chans, drop_rate)
        stages: list[tuple[nn.Module, Stage, nn.Module]] = []
        parts = zip(dims, mlp_ratios, path_rates(drop_path_rate, depths), strict=True)
        for i, (dim, ratio, rates) in enumerate(parts):
            embed = _embed(in_chans, dim, 7, 4) if i == 0 else _embed(dims[i - 1], dim, 3, 2)
            blocks = Stage(*(VANBlock(dim, ratio, rate, layer_scale) for rate in rates))
            stages.append((embed, blocks, LayerNorm2d(dim, eps=1e-6)))
        self._assemble(stages, dims)
        self._make_head(num_classes, global_pool)
        self.apply(init_fan_out)

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the normalised last map (N, C, H / 32, W / 32)."""
        x = self.norm1(self.block1(self.patch_embed1(x)))
        x = self.norm2(self.block2(self.patch_embed2(x)))
        x = self.norm3(self.block3(self.patch_embed3(x)))
        return self.norm4(self.block4(self.patch_embed4(x)))


def _embed(in_chs: int, out_chs: int, side: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(in_chs, out_chs, side, stride=stride, padding=side // 2)
    return nn.Sequential(OrderedDict(proj=conv, norm=nn.BatchNorm2d(out_chs)))


def checkpoint_filter_fn(state_dict: Mapping[str, Any], model: VAN) -> dict[str, Tensor]:
    """Extract the tensors from a checkpoint of the authors; their names are the same as here."""
    return unwrapped(state_dict)


def _cfg(tag: str, **kwargs: Any) -> dict[str, Any]:
    # the authors use the configuration of vision transformers in timm 0.4.12, with mean and deviation 0.5
    return staged_cfg(
        tag,
        crop_pct=0.9,
        mean=IMAGENET_INCEPTION_MEAN,
        std=IMAGENET_INCEPTION_STD,
        first_conv="patch_embed1.proj",
        classifier="head",
        paper_ids="arXiv:2202.09741",
        paper_name="Visual Attention Network",
        origin_url="https://github.com/Visual-Attention-Network/VAN-Classification",
        **kwargs,
    )


default_cfgs = generate_default_cfgs({f"van_b{i}.in1k": _cfg(f"van_b{i}.in1k") for i in range(4)})


def _create_van(variant: str, pretrained: bool = False, **kwargs: Any) -> VAN:
    return build_staged(VAN, variant, pretrained, checkpoint_filter_fn, **kwargs)


@register_model
def van_b0(pretrained: bool = False, **kwargs: Any) -> VAN:
    """VAN-B0: 4.1 M parameters, 0.86 GMACs at 224."""
    model_args = dict(depths=(3, 3, 5, 2), dims=(32, 64, 160, 256))
    return _create_van("van_b0", pretrained, **dict(model_args, **kwargs))


@register_model
def van_b1(pretrained: bool = False, **kwargs: Any) -> VAN:
    """VAN-B1: 13.9 M parameters, 2.50 GMACs at 224."""
    model_args = dict(depths=(2, 2, 4, 2))
    return _create_van("van_b1", pretrained, **dict(model_args, **kwargs))


@register_model
def van_b2(pretrained: bool = False, **kwargs: Any) -> VAN:
    """VAN-B2: 26.6 M parameters, 4.99 GMACs at 224."""
    model_args = dict(depths=(3, 3, 12, 3))
    return _create_van("van_b2", pretrained, **dict(model_args, **kwargs))


@register_model
def van_b3(pretrained: bool = False, **kwargs: Any) -> VAN:
    """VAN-B3: 44.8 M parameters, 8.93 GMACs at 224."""
    model_args = dict(depths=(3, 5, 27, 3))
    return _create_van("van_b3", pretrained, **dict(model_args, **kwargs))
