"""ResNet-18 at half width: the residual network with which the nano RepLKNets are compared, at a similar cost.

The network is timm's (He et al., arXiv:1512.03385); only its widths are different.
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet

from replknet.weights.imagenette import TAG, shipped_cfg

__all__ = ["resnet18n"]

default_cfgs = generate_default_cfgs(
    {f"resnet18n.{TAG}": shipped_cfg("resnet18n", first_conv="conv1", classifier="fc")}
)


@register_model
def resnet18n(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-18 with 32 to 256 channels: 2.8 M parameters, 0.19 GMACs at 128; trained like `replknet31n`."""
    model_args = dict(block=BasicBlock, layers=(2, 2, 2, 2), channels=(32, 64, 128, 256))
    return build_model_with_cfg(ResNet, "resnet18n", pretrained, **dict(model_args, **kwargs))
