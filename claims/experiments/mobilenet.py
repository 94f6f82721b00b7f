"""MobileNetV2 at half width with other depthwise kernels, registered in timm: the networks of the miniatures.

The network is timm's (Sandler et al., arXiv:1801.04381), with four differences. The stem has stride 1, so that images
of 96 pixels give maps of 96 to 6, close to the paper's 112 to 7. The depthwise kernels of all blocks, or of the last
stage, have another side or dilation. Shortcuts may be missing. The head has 640 features instead of 1280.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._efficientnet_builder import decode_arch_def, efficientnet_init_weights, round_channels
from timm.models.efficientnet import EfficientNet
from torch import nn

from replknet.ops import DepthwiseConv2d
from replknet.weights.imagenette import imagenette_cfg

__all__ = ["VARIANTS", "Variant"]

_WIDTH = 0.5
# groups of blocks of MobileNetV2: repetitions, stride of the first block, expansion and channels
_BLOCKS = (
    "ds_r1_k3_s1_c16",
    "ir_r2_k3_s2_e6_c24",
    "ir_r3_k3_s2_e6_c32",
    "ir_r4_k3_s2_e6_c64",
    "ir_r3_k3_s1_e6_c96",
    "ir_r3_k3_s2_e6_c160",
    "ir_r1_k3_s1_e6_c320",
)
_LAST_STAGE = 5  # index of the first group of blocks whose maps are the smallest


@dataclass(frozen=True)
class Variant:
    """Changes to MobileNetV2: its depthwise convolutions and its shortcuts.

    Attributes:
        kernel: Side of the depthwise kernels; odd.
        dilation: Distance between neighbouring taps in pixels.
        small_kernel: Side of a parallel kernel with its own normalisation (re-parameterisation); None for none.
        shortcut: Whether blocks keep their identity shortcuts.
        last_stage: Whether only the last stage is changed, while the others keep plain 3×3 kernels.
    """

    kernel: int = 3
    dilation: int = 1
    small_kernel: int | None = None
    shortcut: bool = True
    last_stage: bool = False


VARIANTS = {
    "mobilenetv2n_k3": Variant(),
    "mobilenetv2n_k9": Variant(9),
    "mobilenetv2n_k13": Variant(13),
    "mobilenetv2n_k3_no_shortcut": Variant(shortcut=False),
    "mobilenetv2n_k13_no_shortcut": Variant(13, shortcut=False),
    "mobilenetv2n_k9_with_k3": Variant(9, small_kernel=3),
    "mobilenetv2n_k13_with_k3": Variant(13, small_kernel=3),
    "mobilenetv2n_last_k7": Variant(7, small_kernel=3, last_stage=True),
    "mobilenetv2n_last_k13": Variant(13, small_kernel=3, last_stage=True),
    "mobilenetv2n_k3_dilated_to_9": Variant(dilation=4),
    "mobilenetv2n_k3_dilated_to_13": Variant(dilation=6),
}


def _branch(channels: int, kernel: int, stride: int, dilation: int) -> nn.Sequential:
    """A depthwise convolution and its normalisation.

    Kernels above 3×3 use our operator, which has no strides; pixels are dropped after it instead.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if kernel > 3:
        layers["conv"] = DepthwiseConv2d(channels, kernel, bias=False)
        if stride > 1:
            layers["stride"] = nn.MaxPool2d(1, stride)
    else:
        padding = dilation * (kernel // 2)
        layers["conv"] = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
    layers["bn"] = nn.BatchNorm2d(channels)
    return nn.Sequential(layers)


class DepthwiseBranches(nn.Module):
    """The sum of a depthwise convolution and an optional smaller one in parallel, each with its own normalisation."""

    def __init__(self, channels: int, stride: int, variant: Variant):
        super().__init__()
        self.large = _branch(channels, variant.kernel, stride, variant.dilation)
        self.small = None
        if variant.small_kernel is not None:
            self.small = _branch(channels, variant.small_kernel, stride, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.large(x)
        return out if self.small is None else out + self.small(x)


class MobileNetVariant(EfficientNet):
    """MobileNetV2 with the depthwise convolutions of a `Variant`."""

    def __init__(self, depthwise: Variant, **kwargs: Any):
        super().__init__(
            block_args=decode_arch_def([[block] for block in _BLOCKS]),
            num_features=640,
            round_chs_fn=lambda channels: round_channels(channels, multiplier=_WIDTH),
            act_layer=nn.ReLU6,
            **kwargs,
        )
        self.conv_stem.stride = (1, 1)
        for feature in self.feature_info:
            feature["reduction"] //= 2
        groups: Any = self.blocks
        for index, group in enumerate(groups):
            changed = depthwise if index >= _LAST_STAGE or not depthwise.last_stage else Variant()
            for block in group:
                block.has_skip = block.has_skip and depthwise.shortcut
                norm = "bn1" if index == 0 else "bn2"  # the first block has no expansion before its depthwise kernel
                block.conv_dw = DepthwiseBranches(block.conv_dw.in_channels, block.conv_dw.stride[0], changed)
                setattr(block, norm, nn.ReLU6())  # the branches have their own normalisations
        efficientnet_init_weights(self)


default_cfgs = generate_default_cfgs(
    {
        f"{name}.untrained": imagenette_cfg(pool_size=(7, 7), first_conv="conv_stem", classifier="classifier")
        for name in VARIANTS
    }
)


def _register(name: str, variant: Variant) -> None:
    def entry_point(pretrained: bool = False, **kwargs: Any) -> MobileNetVariant:
        return build_model_with_cfg(MobileNetVariant, name, pretrained, depthwise=variant, **kwargs)

    entry_point.__name__ = name
    register_model(entry_point)


for _name, _variant in VARIANTS.items():
    _register(_name, _variant)
