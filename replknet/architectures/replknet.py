"""RepLKNet: a convolutional network with depthwise kernels of up to 31×31, registered in timm.

Paper: Ding, Zhang, Zhou, Han, Ding, Sun, "Scaling Up Your Kernels to 31x31: Revisiting Large Kernel Design in CNNs",
CVPR 2022, arXiv:2203.06717, Section 4. Behaviour and parameter names follow the authors' code
(DingXiaoH/RepLKNet-pytorch, `replknet.py`, MIT), so that their checkpoints load; the classes are our own code and
follow timm's conventions.

A network has two forms that compute the same function in eval mode:

- training form: a 5×5 kernel runs parallel to each large kernel, each followed by its own batch normalisation;
- merged form, after `reparameterize()`: one convolution with a bias. Folding the other normalisations as well
  (`fold_batchnorm()`) is a separate step. The two may be called in either order and more than once.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.data.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
)
from timm.layers import ClassifierHead, DropPath
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import nn

from replknet.architectures.merging import affine_of, conv_with, folded
from replknet.ops import DepthwiseConv2d
from replknet.weights.imagenette import TAG, imagenette_cfg, shipped_cfg

__all__ = ["ConvFFN", "RepLKBlock", "RepLKNet", "ReparamLargeKernelConv", "checkpoint_filter_fn"]


def _with_norm(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(conv.out_channels)))


def _conv_norm(in_chs: int, out_chs: int, kernel_size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_chs, out_chs, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False)
    return _with_norm(conv)


def _conv_norm_act(in_chs: int, out_chs: int, kernel_size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layers = _conv_norm(in_chs, out_chs, kernel_size, stride=stride, groups=groups)
    layers.add_module("nonlinear", nn.ReLU())
    return layers


def _fold_conv_norm(conv_norm: nn.Sequential) -> None:
    """Fold the normalisation after a convolution into its weight and bias, in place; has no effect if folded."""
    if isinstance(conv_norm.bn, nn.Identity):
        return
    conv_norm.conv = conv_with(conv_norm.conv, *folded(conv_norm.conv, conv_norm.bn))
    conv_norm.bn = nn.Identity()


def _fold_norm_conv(norm: nn.BatchNorm2d | nn.Identity, conv_norm: nn.Sequential) -> nn.Identity:
    """Fold a normalisation into the 1×1 convolution that follows it (exact, since 1×1 needs no padding)."""
    _fold_conv_norm(conv_norm)
    if not isinstance(norm, nn.Identity):
        conv: nn.Conv2d = conv_norm.conv
        scale, shift = affine_of(norm, conv.weight[0, :, 0, 0])
        weight = conv.weight.double() * scale[None, :, None, None]
        bias = conv.bias.double() + (conv.weight.double() * shift[None, :, None, None]).sum((1, 2, 3))
        conv_norm.conv = conv_with(conv, weight, bias)
    return nn.Identity()


class ReparamLargeKernelConv(nn.Module):
    """Large depthwise convolution with a parallel small one that can be merged into it (paper, Section 3, guideline 3).

    Args:
        channels: Number of channels of input and output.
        kernel_size: Side K of the large kernel, odd; a padding of K // 2 keeps the size of the map.
        small_kernel: Side of the parallel kernel, odd, at most K; None for none.
    """

    def __init__(self, channels: int, kernel_size: int, small_kernel: int | None = None):
        super().__init__()
        if small_kernel is not None and small_kernel > kernel_size:
            raise ValueError(f"small_kernel={small_kernel} does not fit into kernel_size={kernel_size}")
        self.lkb_origin = _with_norm(DepthwiseConv2d(channels, kernel_size, bias=False))
        self.small_conv = None
        if small_kernel is not None:
            self.small_conv = _conv_norm(channels, channels, small_kernel, groups=channels)
        self.lkb_reparam = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.lkb_reparam is not None:
            return self.lkb_reparam(x)
        out = self.lkb_origin(x)
        if self.small_conv is not None:
            out = out + self.small_conv(x)
        return out

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Merge both kernels and their normalisations into one convolution with bias, in place.

        Sums are computed in float64 and rounded once. Has no effect if already merged.
        """
        if self.lkb_reparam is not None:
            return
        weight, bias = folded(self.lkb_origin.conv, self.lkb_origin.bn)
        if self.small_conv is not None:
            small_weight, small_bias = folded(self.small_conv.conv, self.small_conv.bn)
            margin = (weight.shape[-1] - small_weight.shape[-1]) // 2
            weight = weight + nn.functional.pad(small_weight, [margin] * 4)
            bias = bias + small_bias
        self.lkb_reparam = conv_with(self.lkb_origin.conv, weight, bias)
        self.lkb_origin = None
        self.small_conv = None


class RepLKBlock(nn.Module):
    """Residual block: norm, 1×1, large depthwise kernel, ReLU, 1×1 (paper, Figure 2)."""

    def __init__(self, dim: int, dw_dim: int, kernel_size: int, small_kernel: int | None, drop_path: float = 0.0):
        super().__init__()
        self.pw1 = _conv_norm_act(dim, dw_dim, 1)
        self.pw2 = _conv_norm(dw_dim, dim, 1)
        self.large_kernel = ReparamLargeKernelConv(dw_dim, kernel_size, small_kernel)
        self.lk_nonlinear = nn.ReLU()
        self.prelkb_bn = nn.BatchNorm2d(dim)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.pw1(self.prelkb_bn(x))
        out = self.lk_nonlinear(self.large_kernel(out))
        return x + self.drop_path(self.pw2(out))

    @torch.no_grad()
    def fold_batchnorm(self) -> None:
        self.prelkb_bn = _fold_norm_conv(self.prelkb_bn, self.pw1)
        _fold_conv_norm(self.pw2)
        for branch in (self.large_kernel.lkb_origin, self.large_kernel.small_conv):
            if branch is not None:
                _fold_conv_norm(branch)


class ConvFFN(nn.Module):
    """Residual feed-forward block: two 1×1 convolutions with a GELU in between (paper, Figure 2)."""

    def __init__(self, dim: int, hidden_dim: int, drop_path: float = 0.0):
        super().__init__()
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()
        self.preffn_bn = nn.BatchNorm2d(dim)
        self.pw1 = _conv_norm(dim, hidden_dim, 1)
        self.pw2 = _conv_norm(hidden_dim, dim, 1)
        self.nonlinear = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.nonlinear(self.pw1(self.preffn_bn(x)))
        return x + self.drop_path(self.pw2(out))

    @torch.no_grad()
    def fold_batchnorm(self) -> None:
        self.preffn_bn = _fold_norm_conv(self.preffn_bn, self.pw1)
        _fold_conv_norm(self.pw2)


class RepLKNetStage(nn.Module):
    """Optional downsampling (1×1, then 3×3 depthwise with stride 2), then alternating RepLKBlock and ConvFFN."""

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        downsample: bool,
        kernel_size: int,
        small_kernel: int | None,
        drop_path_rates: Sequence[float],
        dw_ratio: float,
        ffn_ratio: float,
    ):
        super().__init__()
        self.grad_checkpointing = False
        self.downsample: nn.Module = nn.Identity()
        if downsample:
            self.downsample = nn.Sequential(
                _conv_norm_act(in_dim, dim, 1), _conv_norm_act(dim, dim, 3, stride=2, groups=dim)
            )
        blocks: list[nn.Module] = []
        for rate in drop_path_rates:
            blocks.append(RepLKBlock(dim, int(dim * dw_ratio), kernel_size, small_kernel, rate))
            blocks.append(ConvFFN(dim, int(dim * ffn_ratio), rate))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.downsample(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, x)
        return self.blocks(x)


class RepLKNet(nn.Module):
    """RepLKNet (arXiv:2203.06717, Section 4.1).

    Weights have PyTorch's default initialisation, as in the authors' code.

    Args:
        kernel_sizes: Side of the large kernel in each of the four stages, or one side for all; odd.
        depths: Number of (RepLKBlock, ConvFFN) pairs in each stage.
        dims: Number of channels in each stage.
        small_kernel: Side of the parallel kernel, odd, or None. Stages whose large kernel is smaller have none.
        dw_ratio: Ratio of the channels of the depthwise convolution to the channels of the stage.
        ffn_ratio: Ratio of the hidden channels of ConvFFN to the channels of the stage.
        in_chans: Number of image channels.
        num_classes: Number of classes; 0 for no classifier.
        global_pool: Pooling before the classifier, by its name in timm, such as 'avg'; '' for none.
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Rate of stochastic depth of the last block; it rises linearly from 0 in the first.

    Raises: ValueError for an even kernel, or a list that does not have one entry for each of the four stages.
    """

    def __init__(
        self,
        kernel_sizes: int | Sequence[int] = (31, 29, 27, 13),
        depths: Sequence[int] = (2, 2, 18, 2),
        dims: Sequence[int] = (128, 256, 512, 1024),
        small_kernel: int | None = 5,
        dw_ratio: float = 1.0,
        ffn_ratio: float = 4.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        kernel_sizes = (kernel_sizes,) * 4 if isinstance(kernel_sizes, int) else tuple(kernel_sizes)
        _check_arguments(kernel_sizes, depths, dims, small_kernel)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        stem_dim = dims[0]
        self.stem = nn.Sequential(
            _conv_norm_act(in_chans, stem_dim, 3, stride=2),
            _conv_norm_act(stem_dim, stem_dim, 3, groups=stem_dim),
            _conv_norm_act(stem_dim, stem_dim, 1),
            _conv_norm_act(stem_dim, stem_dim, 3, stride=2, groups=stem_dim),
        )
        blocks = sum(depths)
        rates = [drop_path_rate * i / max(blocks - 1, 1) for i in range(blocks)]
        stages = []
        self.feature_info = []
        for i, (dim, depth, kernel_size) in enumerate(zip(dims, depths, kernel_sizes, strict=True)):
            first = sum(depths[:i])
            stages.append(
                RepLKNetStage(
                    dims[max(i - 1, 0)],
                    dim,
                    downsample=i > 0,
                    kernel_size=kernel_size,
                    small_kernel=None if small_kernel is None or small_kernel > kernel_size else small_kernel,
                    drop_path_rates=rates[first : first + depth],
                    dw_ratio=dw_ratio,
                    ffn_ratio=ffn_ratio,
                )
            )
            self.feature_info.append(dict(num_chs=dim, reduction=4 * 2**i, module=f"stages.{i}"))
        self.stages = nn.Sequential(*stages)
        self.num_features = self.head_hidden_size = dims[-1]
        self.norm: nn.Module = nn.BatchNorm2d(self.num_features)
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rates, in the form that timm's optimisers expect."""
        blocks: Any = r"^stages\.(\d+)"
        if not coarse:
            blocks = [
                (r"^stages\.(\d+)\.downsample", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^norm", (99999,)),
            ]
        return dict(stem=r"^stem", blocks=blocks)

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of the blocks in the backward pass instead of storing them."""
        for stage in self.stages:
            stage.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the last linear layer; Identity if `num_classes` is 0."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; `num_classes=0` removes it, and `global_pool=''` also removes the pooling."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    @torch.jit.ignore
    def reparameterize(self) -> None:
        """Merge all small kernels and their normalisations into the large kernels, in place; no effect if merged."""
        for module in self.modules():
            if isinstance(module, ReparamLargeKernelConv):
                module.reparameterize()

    @torch.jit.ignore
    @torch.no_grad()
    def fold_batchnorm(self) -> None:
        """Fold every batch normalisation except the final one into a neighbouring convolution, in place.

        Only for inference: the folded network no longer uses the statistics of its batches. The final normalisation is
        kept, since feature maps are taken before it. Has no effect if already folded.
        """
        for module in self.modules():
            if isinstance(module, (RepLKBlock, ConvFFN)):
                module.fold_batchnorm()
        for part in (self.stem, *(stage.downsample for stage in self.stages)):
            for layer in part.children():
                _fold_conv_norm(layer)

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[torch.Tensor] | tuple[torch.Tensor, list[torch.Tensor]]:
        """Compute the outputs of the stages, with the signature that timm uses.

        Args:
            x: Normalised images (N, 3, H, W).
            indices: None for all stages, n for the last n, or a list of positions; negative ones count from the end.
            norm: Whether to apply the final normalisation to the last stage's map.
            stop_early: Whether to skip the stages after the last requested one.
            output_fmt: Only 'NCHW'.
            intermediates_only: Whether to return only the list, without the final features.

        Returns: Maps (N, C, H / reduction, W / reduction), preceded by `forward_features(x)` unless
            `intermediates_only`.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r}: a convolutional network gives 'NCHW' only")
        take, last_needed = feature_take_indices(len(self.stages), indices)
        last = len(self.stages) - 1
        maps = []
        x = self.stem(x)
        stages = self.stages[: last_needed + 1] if stop_early else self.stages
        for i, stage in enumerate(stages):
            x = stage(x)
            if i in take:
                maps.append(self.norm(x) if norm and i == last else x)
        if intermediates_only:
            return maps
        return (self.norm(x) if len(stages) == last + 1 else x), maps

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove everything that the given feature maps do not need, and return their positions (for timm's getter)."""
        take, last_needed = feature_take_indices(len(self.stages), indices)
        shortened = last_needed < len(self.stages) - 1
        self.stages = self.stages[: last_needed + 1]
        if prune_norm or shortened:
            self.norm = nn.Identity()
        if prune_head or shortened:
            self.num_features = self.head_hidden_size = self.feature_info[last_needed]["num_chs"]
            self.reset_classifier(0, "")
        return take

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the normalised last map (N, C, H / 32, W / 32)."""
        return self.norm(self.stages(self.stem(x)))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Compute pooled features (`pre_logits`) or logits from the last map."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def _check_arguments(
    kernel_sizes: Sequence[int], depths: Sequence[int], dims: Sequence[int], small_kernel: int | None
) -> None:
    for name, values in (("kernel_sizes", kernel_sizes), ("depths", depths), ("dims", dims)):
        if len(values) != 4:
            raise ValueError(f"{name}={tuple(values)}: RepLKNet has four stages, give one value for each")
    sides = [("kernel_sizes", k) for k in kernel_sizes]
    if small_kernel is not None:
        sides.append(("small_kernel", small_kernel))
    for name, side in sides:
        if side < 1 or side % 2 == 0:
            raise ValueError(
                f"{name} has {side}: a kernel's side must be odd and positive, so that the map keeps its size and its "
                f"centre; take {max(side - 1, 1)} or {max(side + 1, 1)}"
            )


def checkpoint_filter_fn(state_dict: Mapping[str, Any], model: RepLKNet) -> dict[str, torch.Tensor]:
    """Convert a checkpoint to this module's key layout.

    The supported layouts are this one, the authors' (`transitions.i`, `head.weight`), and OpenMMLab's (`backbone.`,
    `backbone.stages.3.norm`), each either bare or under `model` or `state_dict`, with or without a leading `module.`,
    in training or merged form. For a merged checkpoint, the network is merged first, so that loading can be strict.

    Raises: ValueError for a checkpoint in training form when the network is already merged.
    """
    for wrapper in ("state_dict", "model"):
        if wrapper in state_dict and isinstance(state_dict[wrapper], Mapping):
            state_dict = state_dict[wrapper]
    merged = any("lkb_reparam" in key for key in state_dict)
    if merged:
        model.reparameterize()
    elif any("lkb_reparam" in key for key in model.state_dict()) and any("lkb_origin" in key for key in state_dict):
        raise ValueError(
            "the checkpoint is in training form but the network's kernels are already merged; "
            "load the checkpoint first, then call reparameterize()"
        )
    return {_our_key(key): value for key, value in state_dict.items()}


def _our_key(key: str) -> str:
    key = key.removeprefix("module.").removeprefix("backbone.")
    if key.startswith("transitions."):
        _, index, rest = key.split(".", 2)
        return f"stages.{int(index) + 1}.downsample.{rest}"
    if key.startswith("stages.3.norm."):
        return key.removeprefix("stages.3.")
    if key in ("head.weight", "head.bias"):
        return key.replace("head.", "head.fc.")
    return key


def _cfg(url: str = "", **kwargs: Any) -> dict[str, Any]:
    return {
        "url": url,
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.0.conv",
        "classifier": "head.fc",
        "license": "mit",
        "paper_ids": "arXiv:2203.06717",
        "paper_name": "Scaling Up Your Kernels to 31x31: Revisiting Large Kernel Design in CNNs",
        "origin_url": "https://github.com/DingXiaoH/RepLKNet-pytorch",
        **kwargs,
    }


# The authors warp the whole image at 384 pixels, and take a centre crop of 7/8 below (their `datasets.py`).
_AT_384 = dict(input_size=(3, 384, 384), pool_size=(12, 12), crop_pct=1.0, crop_mode="squash")
_AT_320 = dict(input_size=(3, 320, 320), pool_size=(10, 10))
# The authors' weights, hosted by OpenMMLab; the names end in the first 8 digits of the file's SHA-256.
_MIRROR = "https://download.openmmlab.com/mmclassification/v0/replknet/"

_NANO_NAMES = ("replknet31n", "replknet13n", "replknet7n", "replknet3n")
_AS_REPLKNET = dict(first_conv="stem.0.conv", classifier="head.fc", paper_ids="arXiv:2203.06717")
_NANO_AT_224 = dict(_AS_REPLKNET, input_size=(3, 224, 224), pool_size=(7, 7))

default_cfgs = generate_default_cfgs(
    {
        "replknet31b.in1k": _cfg(_MIRROR + "replknet-31B_3rdparty_in1k_20221118-fd08e268.pth"),  # top-1 83.48
        "replknet31b.in1k_384": _cfg(  # 84.84
            _MIRROR + "replknet-31B_3rdparty_in1k-384px_20221118-03a170ce.pth", **_AT_384
        ),
        "replknet31b.in22k_ft_in1k": _cfg(  # 85.20
            _MIRROR + "replknet-31B_in21k-pre_3rdparty_in1k_20221118-54ed5c46.pth"
        ),
        "replknet31b.in22k_ft_in1k_384": _cfg(  # 85.99
            _MIRROR + "replknet-31B_in21k-pre_3rdparty_in1k-384px_20221118-76c92b24.pth", **_AT_384
        ),
        "replknet31l.in22k_ft_in1k_384": _cfg(  # 86.63
            _MIRROR + "replknet-31L_in21k-pre_3rdparty_in1k-384px_20221118-dc3fc07c.pth", **_AT_384
        ),
        "replknetxl.meg73m_ft_in1k_320": _cfg(  # 87.57
            _MIRROR + "replknet-XL_meg73m-pre_3rdparty_in1k-320px_20221118-88259b1d.pth",
            mean=IMAGENET_INCEPTION_MEAN,
            std=IMAGENET_INCEPTION_STD,
            **_AT_320,
        ),
        # no file that can be downloaded: the authors' RepLKNet-13 is on Google Drive, so users give its path
        "replknet31s.untrained": _cfg(),
        "replknet13.untrained": _cfg(),
        "replknet3.untrained": _cfg(),
        **{f"{name}.{TAG}": shipped_cfg(name, **_AS_REPLKNET) for name in _NANO_NAMES},
        **{f"{name}.untrained": imagenette_cfg(**_NANO_AT_224) for name in ("replknet31n_224", "replknet13n_224")},
    }
)


def _create_replknet(variant: str, pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    return build_model_with_cfg(
        RepLKNet,
        variant,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg=dict(out_indices=(0, 1, 2, 3), flatten_sequential=True),
        **kwargs,
    )


@register_model
def replknet31b(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """RepLKNet-31B: kernels 31, 29, 27, 13; 79.5 M parameters merged, 15.4 GMACs at 224."""
    return _create_replknet("replknet31b", pretrained, **kwargs)


@register_model
def replknet31l(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """RepLKNet-31L: like 31B, but 1.5 times as wide; 172.2 M parameters merged, 96.0 GMACs at 384."""
    model_args = dict(dims=(192, 384, 768, 1536))
    return _create_replknet("replknet31l", pretrained, **dict(model_args, **kwargs))


@register_model
def replknetxl(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """RepLKNet-XL: kernels 27, 27, 27, 13 without small kernels; 335.4 M parameters, 128.7 GMACs at 320."""
    model_args = dict(kernel_sizes=(27, 27, 27, 13), dims=(256, 512, 1024, 2048), small_kernel=None, dw_ratio=1.5)
    return _create_replknet("replknetxl", pretrained, **dict(model_args, **kwargs))


@register_model
def replknet31s(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """RepLKNet-31Small, known from public re-implementations: 31B with kernels 31, 29, 15, 7; no published weights."""
    model_args = dict(kernel_sizes=(31, 29, 15, 7))
    return _create_replknet("replknet31s", pretrained, **dict(model_args, **kwargs))


@register_model
def replknet13(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """RepLKNet-13 of the paper's figure of receptive fields: 31B with all kernels 13."""
    model_args = dict(kernel_sizes=13)
    return _create_replknet("replknet13", pretrained, **dict(model_args, **kwargs))


@register_model
def replknet3(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """31B with all kernels 3, the paper's small-kernel baseline; too small for a parallel 5×5."""
    model_args = dict(kernel_sizes=3)
    return _create_replknet("replknet3", pretrained, **dict(model_args, **kwargs))


# The nano networks only differ in their kernels. Images of 128 pixels, the largest size of the default recipe, reach
# every tap of these kernels: their maps have sides of n = 32, 16, 8 and 4 pixels, and no kernel extends further than
# n - 1 pixels from its centre.
_NANO = dict(dims=(32, 64, 128, 256), depths=(2, 2, 4, 2))


@register_model
def replknet31n(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """Nano: a quarter of the width of 31B, ten blocks; kernels 31, 29, 15, 7; 2.5 M parameters, 0.22 GMACs at 128."""
    model_args = dict(_NANO, kernel_sizes=(31, 29, 15, 7))
    return _create_replknet("replknet31n", pretrained, **dict(model_args, **kwargs))


@register_model
def replknet13n(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """`replknet31n` with kernels 13, 13, 13, 7: 2.3 M parameters, 0.15 GMACs at 128."""
    model_args = dict(_NANO, kernel_sizes=(13, 13, 13, 7))
    return _create_replknet("replknet13n", pretrained, **dict(model_args, **kwargs))


@register_model
def replknet7n(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """`replknet31n` with all kernels 7: 2.2 M parameters, 0.13 GMACs at 128."""
    model_args = dict(_NANO, kernel_sizes=7)
    return _create_replknet("replknet7n", pretrained, **dict(model_args, **kwargs))


@register_model
def replknet3n(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """`replknet31n` with all kernels 3, too small for a parallel 5×5: 2.2 M parameters, 0.12 GMACs at 128."""
    model_args = dict(_NANO, kernel_sizes=3)
    return _create_replknet("replknet3n", pretrained, **dict(model_args, **kwargs))


@register_model
def replknet31n_224(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """`replknet31n` with the kernels of 31B (31, 29, 27, 13), for images of 224 pixels, which reach all their taps."""
    model_args = dict(_NANO, kernel_sizes=(31, 29, 27, 13))
    return _create_replknet("replknet31n_224", pretrained, **dict(model_args, **kwargs))


@register_model
def replknet13n_224(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """`replknet31n_224` with all kernels 13."""
    model_args = dict(_NANO, kernel_sizes=13)
    return _create_replknet("replknet13n_224", pretrained, **dict(model_args, **kwargs))
