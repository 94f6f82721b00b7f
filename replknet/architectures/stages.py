"""What the large-kernel networks share: four stages, timm's hooks around them, and a few layers.

A network says what its stages are (`_run_stage`, `_norm_of`, `_drop_stage`, or one of the two common forms below);
feature maps, pruning, the classifier and gradient checkpointing are then the same for all. Parameter names are those of
the authors' code, so that their checkpoints load as they are.
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
    """Blocks one after the other; their activations are recomputed in the backward pass if `grad_checkpointing`."""

    def __init__(self, *blocks: nn.Module):
        super().__init__(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:  # the name nn.Sequential gives it is `input`
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self, x)
        for block in self:
            x = block(x)
        return x


class GlobalResponseNorm(nn.Module):
    """Global response normalisation (ConvNeXt V2, arXiv:2301.00808, Section 3).

    x · (1 + gamma · n) + beta, where n is the norm of each channel over the image, divided by its mean over channels.

    Args:
        dim: Channels.
        channels_last: Whether maps are (N, H, W, C), else (N, C, H, W).
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
    """Squeeze-and-excitation (arXiv:1709.01507): each channel times a gate made from the means of all."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.down = nn.Conv2d(dim, hidden_dim, 1)
        self.up = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        return x * gate.sigmoid()


class Permute(nn.Module):
    """Puts the dimensions into another order."""

    def __init__(self, *order: int):
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


class StagedNetwork(nn.Module):
    """A network of stages, with timm's hooks.

    A subclass sets `feature_info` and its stages, calls `_make_head`, and says what its stages are.

    Args:
        in_chans: Image channels.
        drop_rate: Dropout before the classifier.
    """

    __jit_unused_properties__ = ("is_merged",)

    if TYPE_CHECKING:  # TorchScript would take an annotation here for the type of a buffer
        feature_info: list[dict[str, Any]]
        num_features: int
        head: nn.Module

    def __init__(self, in_chans: int, drop_rate: float):
        super().__init__()
        self.in_chans = in_chans
        self.stages_left = 4  # fewer when pruned
        self.head_drop = nn.Dropout(drop_rate)

    # --- what a network says of itself ----------------------------------------------------------------------------

    def _maps(self, x: Tensor, count: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Position, map before its norm, and what goes on to the next stage, of the first `count` stages."""
        for i in range(count):
            feat, norm = self._run_stage(i, x), self._norm_of(i)
            x = feat if norm is None else norm(feat)
            yield i, feat, x

    def _run_stage(self, index: int, x: Tensor) -> Tensor:
        """Map of a stage, before its norm, from what the stage before it gave out."""
        raise NotImplementedError

    def _norm_of(self, index: int) -> nn.Module | None:
        """The normalisation between a stage and the next, None if there is none."""
        return None

    def _drop_stage(self, index: int) -> None:
        """Put Identity in the place of a stage."""
        raise NotImplementedError

    def _normed(self, index: int, x: Tensor) -> Tensor:
        """The map of a stage as `forward_intermediates(norm=True)` gives it."""
        norm = self._norm_of(index)
        return x if norm is None else norm(x)

    def _drop_norm(self, index: int) -> None:
        """Take the normalisation after a stage away."""

    # --- classifier -----------------------------------------------------------------------------------------------

    def _make_pool(self, num_classes: int, global_pool: str, *, flatten: bool) -> None:
        """Pooling before the classifier; `flatten` takes the pixel's two dimensions away.

        Raises: ValueError for classes without pooling, or pooling that doubles the channels.
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
        """The last linear layer, Identity where `num_classes` is 0."""
        return self.head

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one; 0 classes for none, `global_pool=''` for no pooling either."""
        like = next(self.parameters())
        self._make_head(num_classes, self.global_pool.pool_type if global_pool is None else global_pool)
        self.head.to(device=like.device, dtype=like.dtype)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooled features (`pre_logits`) or logits from the last map."""
        x = self.head_drop(self.global_pool(x))
        return x if pre_logits else self.head(x)

    # --- timm's hooks ---------------------------------------------------------------------------------------------

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass instead of keeping their activations."""
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
        """Outputs of the stages, in timm's calling convention.

        Args:
            x: Normalised images (N, 3, H, W).
            indices: None for all stages, n for the last n, or a list of positions, negative ones from the end.
            norm: Apply each stage's own normalisation to its map, where it has one.
            stop_early: Do not compute stages after the last one asked for.
            output_fmt: Only 'NCHW'.
            intermediates_only: Return the list without the final features.

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
        """Drop what the given feature maps do not need, as timm's feature getter asks; returns the positions."""
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
        """Bring the network to its merged form, in place and once; nothing where it has none."""
        for module in self.modules():
            merge: Any = getattr(module, "reparameterize", None)
            if module is not self and merge is not None:
                merge()

    @property
    def is_merged(self) -> bool:
        """Whether any block is in merged form."""
        return any(getattr(module, "merged", False) for module in self.modules())


class NormAfterPooling(StagedNetwork):
    """Downsampling layers and stages in turn, pooling, LayerNorm, classifier: ConvNeXt's form (arXiv:2201.03545)."""

    def _assemble(
        self,
        downsample_layers: Sequence[nn.Module],
        stages: Sequence[Stage],
        dims: Sequence[int],
        num_classes: int,
        global_pool: str,
    ) -> None:
        """Put the parts in their places, under the authors' names."""
        self.downsample_layers = nn.ModuleList(downsample_layers)
        self.stages = nn.ModuleList(stages)
        self.feature_info = [dict(num_chs=d, reduction=4 * 2**i, module=f"stages.{i}") for i, d in enumerate(dims)]
        self.num_features = self.head_hidden_size = dims[-1]
        self.norm: nn.Module = nn.LayerNorm(dims[-1], eps=1e-6)
        self._make_head(num_classes, global_pool)

    def _run_stage(self, index: int, x: Tensor) -> Tensor:
        return self.stages[index](self.downsample_layers[index](x))

    def _normed(self, index: int, x: Tensor) -> Tensor:
        """The authors normalise after pooling; on a map that is each pixel by itself."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if index == len(self.stages) - 1 else x

    def _drop_stage(self, index: int) -> None:
        self.downsample_layers[index] = self.stages[index] = nn.Identity()

    def _drop_norm(self, index: int) -> None:
        if index == len(self.stages) - 1:
            self.norm = nn.Identity()

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rates, as timm's optimisers ask for them."""
        blocks: Any = r"^(?:stages|downsample_layers)\.(\d+)"
        if not coarse:
            blocks = [
                (r"^downsample_layers\.(\d+)", (0,)),
                (r"^stages\.(\d+)\.(\d+)", None),
                (r"^norm", (99999,)),
            ]
        return dict(stem=r"^downsample_layers\.0", blocks=blocks)

    def forward_features(self, x: Tensor) -> Tensor:
        """Last map (N, C, H / 32, W / 32); the normalisation is the head's."""
        for downsample, stage in zip(self.downsample_layers, self.stages):  # noqa: B905  TorchScript knows no `strict`
            x = stage(downsample(x))
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooled and normalised features (`pre_logits`) or logits from the last map."""
        x = self.global_pool(x)
        x = self.norm(x) if self.pooled else self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class NormAfterStages(StagedNetwork):
    """Stages of a patch embedding, blocks and a normalisation, under names that end in the stage's number, from 1.

    A subclass says what its blocks are called, and writes `forward_features` out, since TorchScript needs fixed names.
    """

    blocks_name: str

    def _assemble(self, stages: Sequence[tuple[nn.Module, Stage, nn.Module]], dims: Sequence[int]) -> None:
        """Put the parts in their places, under the authors' names."""
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
        """Parameter groups for layer-wise learning rates, as timm's optimisers ask for them."""
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
    """Build a registered network as timm does, with or without its weights; `filter_fn` reads the authors' files."""
    return build_model_with_cfg(
        cls,
        variant,
        pretrained,
        pretrained_filter_fn=filter_fn,
        feature_cfg=dict(out_indices=(0, 1, 2, 3), feature_cls="getter"),
        **kwargs,
    )


def staged_cfg(tag: str, **differs: Any) -> dict[str, Any]:
    """timm's description of published weights: ImageNet at 224 pixels, but for what differs.

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
    """Make ready for a checkpoint: one in merged form merges the network first, so that loading can stay strict.

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
    """UniRepLKNet's downsampling: 3×3 convolutions of stride 2, each normalised; two of them make the stem."""

    def halving(in_chs: int, out_chs: int) -> list[nn.Module]:
        return [nn.Conv2d(in_chs, out_chs, 3, stride=2, padding=1), LayerNorm2d(out_chs, eps=1e-6)]

    stem = nn.Sequential(*halving(in_chans, dims[0] // 2), nn.GELU(), *halving(dims[0] // 2, dims[0]))
    return [stem, *(nn.Sequential(*halving(before, after)) for before, after in pairwise(dims))]


def init_trunc_normal(module: nn.Module) -> None:
    """Start of convolutions and linear layers of standard deviation 0.02, cut off at 2, with biases of 0."""
    if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.is_meta:  # where it would take seconds
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_fan_out(module: nn.Module) -> None:
    """Start of convolutions of variance 2 / (taps · outputs of a group), biases 0; of linear layers as above."""
    if isinstance(module, nn.Conv2d):
        taps = module.kernel_size[0] * module.kernel_size[1]
        nn.init.normal_(module.weight, 0.0, (2.0 * module.groups / (taps * module.out_channels)) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        init_trunc_normal(module)


def path_rates(drop_path_rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Rate of stochastic depth of each block of each stage: from 0 for the first to `drop_path_rate` for the last."""
    blocks = sum(depths)
    rates = [drop_path_rate * i / max(blocks - 1, 1) for i in range(blocks)]
    return [rates[sum(depths[:i]) : sum(depths[: i + 1])] for i in range(len(depths))]


def unwrapped(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a checkpoint that may lie under `state_dict`, `model` or `model_ema`, names without `module.`."""
    for wrapper in ("state_dict", "model", "model_ema"):
        if wrapper in state_dict and isinstance(state_dict[wrapper], Mapping):
            state_dict = state_dict[wrapper]
            break
    return {key.removeprefix("module."): value for key, value in state_dict.items()}
