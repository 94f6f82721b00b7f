"""The last feature map of timm networks: the last spatial map before any final normalisation and pooling.

A normalisation that follows a convolution belongs to it, and so does the activation after that. A normalisation is
final if it stands alone behind the last block, be it a LayerNorm or a batch normalisation (DenseNet). For most
families, this is the last map that timm itself names in its `feature_info`. The table lists the other families.
"""

from dataclasses import dataclass

from torch import nn

from erf.gradient.layers.layer import Layer

__all__ = ["LAST_LAYERS", "Last", "family_of", "last_layer", "last_note"]


@dataclass(frozen=True)
class Last:
    """The last map of a family.

    Attributes:
        path: Path of the submodule, given by names or indices; ':in' for its input. None for timm's own last map.
        why: What is left out or included, compared with timm's last map.
        only: Class that the submodule must have, for families in which only some networks have such a submodule.
        note: Anything else that readers of the result should know about the map.
    """

    path: str | None
    why: str = ""
    only: type[nn.Module] | None = None
    note: str = ""


_HEAD_CONV = "with the convolution of the head that comes before pooling"
_STAGE_NORM = "without the normalisation that ends the last stage"

LAST_LAYERS = {
    "coat": Last(None, note="three of its scales end in the head; this is the coarsest"),
    "cpubone": Last("head.in_conv", _HEAD_CONV),
    "crossvit": Last(None, note="two branches end in the head; this is that of the larger patches"),
    "densenet": Last("features.-2", "without the final normalisation"),
    "efficientnet": Last("bn2", _HEAD_CONV),
    "efficientvim": Last(None, note="the head reads the states of all stages, too"),
    "efficientvit_mit": Last("head.in_conv", _HEAD_CONV),
    "fastvit": Last("final_conv", "with the convolution after the last stage"),
    "gcvit": Last("stages.-1.blocks.-1", _STAGE_NORM),
    "ghostnet": Last("blocks.-1", "with the blocks that timm leaves out"),
    "hrnet": Last("final_layer", "where its branches are joined"),
    "lowformer": Last("in_conv", _HEAD_CONV),
    "mobilenetv5": Last("msfa.norm:in", "with the fusion of its stages"),
    "nfnet": Last("final_act", "with the activation of the last convolution"),
    "pvt_v2": Last("stages.-1.blocks.-1", _STAGE_NORM),
    "regnet": Last("final_conv", "with the convolution or activation after the last stage"),
    "repghost": Last("blocks.-1", "with the blocks that timm leaves out"),
    "rexnet": Last("features.-1", "with the convolution after the last stage"),
    "swin_transformer_v2_cr": Last("stages.-1.blocks.-1.norm3:in", _STAGE_NORM, only=nn.LayerNorm),
    "vgg": Last(None, "without the fully connected layers, which timm computes as convolutions"),
    "vision_transformer_sam": Last("neck.2", "with the convolutions of the neck", only=nn.Conv2d),
    "xception_aligned": Last("act", "with the activation of the last convolution"),
}
"""The last map of timm's networks, by the name of the timm file that defines them."""


def family_of(model: nn.Module) -> str:
    """Name of the timm file that defines a network; '' for other networks."""
    package, _, family = type(model).__module__.rpartition(".")
    return family if package == "timm.models" else ""


def last_layer(model: nn.Module) -> Layer | None:
    """The submodule that gives the last map; None if that is timm's own last map, or the network is not from timm."""
    last = LAST_LAYERS.get(family_of(model))
    if last is None or last.path is None:
        return None
    path, _, key = last.path.partition(":")
    names: list[str] = []
    module = model
    for part in path.split("."):
        children = dict(module.named_children())
        name = list(children)[int(part)] if part.startswith("-") and len(children) >= -int(part) else part
        if name not in children:  # a truncated network, or one of another kind
            return None
        module = children[name]
        names.append(name)
    if last.only is not None and not isinstance(module, last.only):
        return None
    return Layer(":".join([".".join(names), *([key] if key else [])]), call=0)


def last_note(model: nn.Module) -> str:
    """A note for readers of the result about a network's last map; '' if there is none."""
    last = LAST_LAYERS.get(family_of(model))
    return last.note if last else ""
