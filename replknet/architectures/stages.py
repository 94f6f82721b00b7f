"""Common parts of the large-kernel networks: four stages, timm's interface around them, and a few layers.

A network defines its stages (by `_run_stage`, `_norm_of` and `_drop_stage`, or by one of the two common forms below).
Feature maps, pruning, the classifier and gradient checkpointing are then the same for all. Parameter names are those of
the authors' code, so that their checkpoints load unchanged.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import LayerNorm2d, SelectAdaptivePool2d, trunc_normal_
from timm.models import build_model_with_cfg, checkpoint_seq
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from replknet.weights.published import published_cfg

__all__ = [
    "GlobalResponseNorm",
    "NormAfterPooling",
    "NormAfterStages",
    "Permute",
    "SqueezeExcite",
    "Stage",
    "StagedNetwork",
    "build_staged",
    "check_form",
    "halving_layers",
    "init_fan_out",
    "init_trunc_normal",
    "path_rates",
    "staged_cfg",
    "unwrapped",
]


class Stage(nn.Sequential):
    """A sequence of blocks; with `grad_checkpointing`, their activations are recomputed in the backward pass."""

    def __init__(self, *blocks: nn.Module):
        super().__init__(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:  # nn.Sequential names it `input`
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self, x)
        for block in self:
            x = block(x)
        return x


class GlobalResponseNorm(nn.Module):
    """Global response normalisation (ConvNeXt V2, arXiv:2301.00808, Section 3).

    x · (1 + gamma · n) + beta, where n is the norm of each channel over the image, divided by its mean over channels.

    Args:
        dim: Number of channels.
        channels_last: Whether maps are (N, H, W, C) instead of (N, C, H, W).
    """

    def __init__(self, dim: int, *, channels_last: bool):
        super().__init__()
        self.spatial_dims, self.channel_dim = ((1, 2), -1) if channels_last else ((2, 3), 1)
        shape = (1, 1, 1, dim) if channels_last else (1, dim, 1, 1)
        self.gamma = nn.Parameter(torch.zeros(shape))
        self.beta: nn.Parameter | None = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        length = x.norm(p=2, dim=self.spatial_dims, keepdim=True)
        response = length / (length.mean(dim=self.channel_dim, keepdim=True) + 1e-6)
        out = x * (1 + self.gamma * response)
        if self.beta is not None:
            out = out + self.beta
        return out


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (arXiv:1709.01507): each channel is scaled by a gate computed from all channel means."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.down = nn.Conv2d(dim, hidden_dim, 1)
        self.up = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        return x * gate.sigmoid()


class Permute(nn.Module):
    """Permute the dimensions."""

    def __init__(self, *order: int):
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


class StagedNetwork(nn.Module):
    """A network of stages, with timm's interface.

    A subclass sets `feature_info`, creates its stages, calls `_make_head`, and implements the methods on stages.

    Args:
        in_chans: Number of image channels.
        drop_rate: Dropout rate before the classifier.
    """

    __jit_unused_properties__ = ("is_merged",)

    if TYPE_CHECKING:  # TorchScript would read these annotations as types of buffers
        feature_info: list[dict[str, Any]]
        num_features: int
        head: nn.Module

    def __init__(self, in_chans: int, drop_rate: float):
        super().__init__()
        self.in_chans = in_chans
        self.stages_left = 4  # fewer when pruned
        self.head_drop = nn.Dropout(drop_rate)

    # --- stages, defined by a subclass -----------------------------------------------------------------------------

    def _maps(self, x: Tensor, count: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield position, map before its norm, and input of the next stage, for each of the first `count` stages."""
        for i in range(count):
            feat, norm = self._run_stage(i, x), self._norm_of(i)
            x = feat if norm is None else norm(feat)
            yield i, feat, x

    def _run_stage(self, index: int, x: Tensor) -> Tensor:
        """Compute the map of a stage, before its norm, from the output of the previous stage."""
        raise NotImplementedError

    def _norm_of(self, index: int) -> nn.Module | None:
        """Return the normalisation between a stage and the next, or None if there is none."""
        return None

    def _drop_stage(self, index: int) -> None:
        """Replace a stage by Identity."""
        raise NotImplementedError

    def _normed(self, index: int, x: Tensor) -> Tensor:
        """Normalise the map of a stage, as `forward_intermediates(norm=True)` returns it."""
        norm = self._norm_of(index)
        return x if norm is None else norm(x)

    def _drop_norm(self, index: int) -> None:
        """Remove the normalisation after a stage, if there is one."""

    # --- classifier -----------------------------------------------------------------------------------------------

    def _make_pool(self, num_classes: int, global_pool: str, *, flatten: bool) -> None:
        """Create the pooling before the classifier; with `flatten`, it removes the two spatial dimensions.

        Raises: ValueError for a classifier without pooling, or for pooling that doubles the channels.
        """
        if num_classes > 0 and not global_pool:
            raise ValueError(f"num_classes={num_classes} needs pooling before the classifier; global_pool='' has none")
        self.num_classes = num_classes
        self.pooled = bool(global_pool)
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=flatten and self.pooled)
        if self.global_pool.feat_mult() != 1:
            raise ValueError(f"global_pool={global_pool!r} doubles the channels; take 'avg', 'max' or 'avgmax'")

    def _make_head(self, num_classes: int, global_pool: str) -> None:
        self._make_pool(num_classes, global_pool, flatten=True)
        self.head = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the last linear layer; Identity if `num_classes` is 0."""
        return self.head

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; `num_classes=0` removes it, and `global_pool=''` also removes the pooling."""
        like = next(self.parameters())
        self._make_head(num_classes, self.global_pool.pool_type if global_pool is None else global_pool)
        self.head.to(device=like.device, dtype=like.dtype)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute pooled features (`pre_logits`) or logits from the last map."""
        x = self.head_drop(self.global_pool(x))
        return x if pre_logits else self.head(x)

    # --- timm's interface -----------------------------------------------------------------------------------------

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of the blocks in the backward pass instead of storing them."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.grad_checkpointing = enable

    @torch.jit.ignore
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute the outputs of the stages, with the signature that timm uses.

        Args:
            x: Normalised images (N, 3, H, W).
            indices: None for all stages, n for the last n, or a list of positions; negative ones count from the end.
            norm: Whether to apply each stage's own normalisation to its map, where it has one.
            stop_early: Whether to skip the stages after the last requested one.
            output_fmt: Only 'NCHW'.
            intermediates_only: Whether to return only the list, without the final features.

        Returns: Maps (N, C, H / reduction, W / reduction), preceded by `forward_features(x)` unless
            `intermediates_only`.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r}: a convolutional network gives 'NCHW' only")
        take, last_needed = feature_take_indices(len(self.feature_info), indices)
        maps = []
        count = min(last_needed + 1 if stop_early else len(self.feature_info), self.stages_left)
        for i, feat, passed_on in self._maps(x, count):
            x = passed_on
            if i in take:
                maps.append(self._normed(i, feat) if norm else feat)
        return maps if intermediates_only else (x, maps)

    @torch.jit.ignore
    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove everything that the given feature maps do not need, and return their positions (for timm's getter)."""
        take, last_needed = feature_take_indices(len(self.feature_info), indices)
        last = len(self.feature_info) - 1
        for i in range(last_needed + 1, last + 1):
            self._drop_stage(i)
            self._drop_norm(i)
        self.stages_left = last_needed + 1
        if prune_norm:
            self._drop_norm(last_needed)
        if prune_head or last_needed < last:
            self.num_features = self.head_hidden_size = self.feature_info[last_needed]["num_chs"]
            self.reset_classifier(0, "")
        return take

    @torch.jit.ignore
    def reparameterize(self) -> None:
        """Convert the network to its merged form, in place; has no effect if it is merged or has no such form."""
        for module in self.modules():
            merge: Any = getattr(module, "reparameterize", None)
            if module is not self and merge is not None:
                merge()

    @property
    def is_merged(self) -> bool:
        """Whether any block is in merged form."""
        return any(getattr(module, "merged", False) for module in self.modules())


class NormAfterPooling(StagedNetwork):
    """ConvNeXt's form (arXiv:2201.03545): alternating downsampling and stages, then pooling, LayerNorm, classifier."""

    def _assemble(
        self,
        downsample_layers: Sequence[nn.Module],
        stages: Sequence[Stage],
        dims: Sequence[int],
        num_classes: int,
        global_pool: str,
    ) -> None:
        """Register the parts under the names that the authors use."""
        self.downsample_layers = nn.ModuleList(downsample_layers)
        self.stages = nn.ModuleList(stages)
        self.feature_info = [dict(num_chs=d, reduction=4 * 2**i, module=f"stages.{i}") for i, d in enumerate(dims)]
        self.num_features = self.head_hidden_size = dims[-1]
        self.norm: nn.Module = nn.LayerNorm(dims[-1], eps=1e-6)
        self._make_head(num_classes, global_pool)

    def _run_stage(self, index: int, x: Tensor) -> Tensor:
        return self.stages[index](self.downsample_layers[index](x))

    def _normed(self, index: int, x: Tensor) -> Tensor:
        """Apply the final normalisation, which the authors apply after pooling, to each pixel of the last map."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if index == len(self.stages) - 1 else x

    def _drop_stage(self, index: int) -> None:
        self.downsample_layers[index] = self.stages[index] = nn.Identity()

    def _drop_norm(self, index: int) -> None:
        if index == len(self.stages) - 1:
            self.norm = nn.Identity()

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rates, in the form that timm's optimisers expect."""
        blocks: Any = r"^(?:stages|downsample_layers)\.(\d+)"
        if not coarse:
            blocks = [
                (r"^downsample_layers\.(\d+)", (0,)),
                (r"^stages\.(\d+)\.(\d+)", None),
                (r"^norm", (99999,)),
            ]
        return dict(stem=r"^downsample_layers\.0", blocks=blocks)

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the last map (N, C, H / 32, W / 32), without normalisation, which is part of the head."""
        for downsample, stage in zip(self.downsample_layers, self.stages):  # noqa: B905  no `strict` in TorchScript
            x = stage(downsample(x))
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute pooled and normalised features (`pre_logits`) or logits from the last map."""
        x = self.global_pool(x)
        x = self.norm(x) if self.pooled else self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class NormAfterStages(StagedNetwork):
    """Stages of a patch embedding, blocks and a normalisation, whose names end in the stage's number, from 1.

    A subclass sets `blocks_name` and implements `forward_features`, since TorchScript needs fixed names.
    """

    blocks_name: str

    def _assemble(self, stages: Sequence[tuple[nn.Module, Stage, nn.Module]], dims: Sequence[int]) -> None:
        """Register the parts under the names that the authors use."""
        for i, parts in enumerate(stages, start=1):
            for name, part in zip(("patch_embed", self.blocks_name, "norm"), parts, strict=True):
                self.add_module(f"{name}{i}", part)
        self.feature_info = [
            dict(num_chs=d, reduction=4 * 2**i, module=f"{self.blocks_name}{i + 1}") for i, d in enumerate(dims)
        ]
        self.num_features = self.head_hidden_size = dims[-1]

    def _run_stage(self, index: int, x: Tensor) -> Tensor:
        embed, blocks = (self.get_submodule(f"{name}{index + 1}") for name in ("patch_embed", self.blocks_name))
        return blocks(embed(x))

    def _norm_of(self, index: int) -> nn.Module:
        return self.get_submodule(f"norm{index + 1}")

    def _drop_stage(self, index: int) -> None:
        for name in ("patch_embed", self.blocks_name):
            setattr(self, f"{name}{index + 1}", nn.Identity())

    def _drop_norm(self, index: int) -> None:
        setattr(self, f"norm{index + 1}", nn.Identity())

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rates, in the form that timm's optimisers expect."""
        blocks: Any = rf"^(?:patch_embed|{self.blocks_name}|norm)(\d+)"
        if not coarse:
            blocks = [
                (r"^patch_embed(\d+)", (0,)),
                (rf"^{self.blocks_name}(\d+)\.(\d+)", None),
                (r"^norm(\d+)", (99999,)),
            ]
        return dict(stem=r"^patch_embed1", blocks=blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


_Network = TypeVar("_Network", bound=StagedNetwork)


def build_staged(
    cls: type[_Network],
    variant: str,
    pretrained: bool,
    filter_fn: Callable[[Mapping[str, Any], _Network], dict[str, Tensor]],
    **kwargs: Any,
) -> _Network:
    """Build a registered network like timm, with or without weights; `filter_fn` converts the authors' checkpoints."""
    return build_model_with_cfg(
        cls,
        variant,
        pretrained,
        pretrained_filter_fn=filter_fn,
        feature_cfg=dict(out_indices=(0, 1, 2, 3), feature_cls="getter"),
        **kwargs,
    )


def staged_cfg(tag: str, **differs: Any) -> dict[str, Any]:
    """timm's configuration of published weights: ImageNet at 224 pixels, except for the entries in `differs`.

    Raises: KeyError as `published_cfg`.
    """
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        **published_cfg(tag),
        **differs,
    }


def check_form(model: StagedNetwork, *, merged: bool) -> None:
    """Prepare a network for a checkpoint: merge it if the checkpoint is in merged form, so that loading can be strict.

    Raises: ValueError for a checkpoint in training form when the network is already merged.
    """
    if merged:
        model.reparameterize()
    elif model.is_merged:
        raise ValueError(
            "the checkpoint is in training form but the network's kernels are already merged; "
            "load the checkpoint first, then call reparameterize()"
        )


def halving_layers(in_chans: int, dims: Sequence[int]) -> list[nn.Sequential]:
    """UniRepLKNet's downsampling layers: 3×3 convolutions of stride 2, each normalised; the stem has two of them."""

    def halving(in_chs: int, out_chs: int) -> list[nn.Module]:
        return [nn.Conv2d(in_chs, out_chs, 3, stride=2, padding=1), LayerNorm2d(out_chs, eps=1e-6)]

    stem = nn.Sequential(*halving(in_chans, dims[0] // 2), nn.GELU(), *halving(dims[0] // 2, dims[0]))
    return [stem, *(nn.Sequential(*halving(before, after)) for before, after in pairwise(dims))]


def init_trunc_normal(module: nn.Module) -> None:
    """Initialise convolutions and linear layers: normal with standard deviation 0.02, truncated at ±2; biases 0."""
    if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.is_meta:  # there it would take seconds
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_fan_out(module: nn.Module) -> None:
    """Initialise convolutions: normal with variance 2 / (taps · outputs per group), bias 0; linear layers as above."""
    if isinstance(module, nn.Conv2d):
        taps = module.kernel_size[0] * module.kernel_size[1]
        nn.init.normal_(module.weight, 0.0, (2.0 * module.groups / (taps * module.out_channels)) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        init_trunc_normal(module)


def path_rates(drop_path_rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Rates of stochastic depth of the blocks of each stage, from 0 for the first to `drop_path_rate` for the last."""
    blocks = sum(depths)
    rates = [drop_path_rate * i / max(blocks - 1, 1) for i in range(blocks)]
    return [rates[sum(depths[:i]) : sum(depths[: i + 1])] for i in range(len(depths))]


def unwrapped(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Extract the tensors of a checkpoint, under `state_dict`, `model` or `model_ema` if present, without `module.`."""
    for wrapper in ("state_dict", "model", "model_ema"):
        if wrapper in state_dict and isinstance(state_dict[wrapper], Mapping):
            state_dict = state_dict[wrapper]
            break
    return {key.removeprefix("module."): value for key, value in state_dict.items()}
