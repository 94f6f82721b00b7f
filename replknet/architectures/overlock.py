"""OverLoCK: large kernels, and per-pixel kernels computed from an overview of the whole image; registered in timm.

Paper: Lou, Yu, "OverLoCK: An Overview-first-Look-Closely-next ConvNet with Context-Mixing Dynamic Kernels", CVPR 2025,
arXiv:2502.20087, Section 3. Behaviour and parameter names follow the authors' code (LMMMEng/OverLoCK,
`models/overlock.py`, Apache-2.0), so that their checkpoints load unchanged; the classes are our own code.

The network has three parts: the base network, down to an eighth of the image's side; the overview network, which
continues to a coarse map of the context; and the focus network, which takes the base network's map again, together with
this context. The kernels of the focus network's dynamic convolution (ContMix) are computed from products of each pixel
with 7×7 regions of the whole map. Therefore every unit from its first block on depends on the whole image.

In the merged form (`reparameterize()`), the dilated branches are merged into the large kernels, as in UniRepLKNet.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from replknet.architectures.stages import (
    GlobalResponseNorm,
    Stage,
    StagedNetwork,
    build_staged,
    check_form,
    init_trunc_normal,
    path_rates,
    staged_cfg,
    unwrapped,
)
from replknet.architectures.unireplknet import DilatedReparamConv
from replknet.ops import neighbourhood_sum

__all__ = ["ContMixBlock", "OverLoCK", "RepConvBlock", "checkpoint_filter_fn"]

# Side of a large kernel -> (side, dilation) of its parallel branches; the table is the authors'.
_BRANCHES = {
    17: ((5, 1), (7, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    15: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    11: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4)),
    7: ((5, 1), (3, 1), (3, 2), (3, 3)),
}
_REGIONS = 7  # number of regions of the context along each side
_SMALL_KERNEL = 5  # side of the dynamic kernels of the first half of the channels


class _ResidualConv(nn.Conv2d):
    """x + depthwise3×3(x)."""

    def __init__(self, dim: int):
        super().__init__(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self._conv_forward(x, self.weight, self.bias)


class _Affine(nn.Module):
    """A learned scale and shift for each channel: the authors' layer scale, on the shortcut."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class _SqueezeExcite(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        hidden_dim = max(16, dim // 8)
        self.proj = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(dim, hidden_dim, 1),
            nn.GELU(),
            nn.Conv2d(hidden_dim, dim, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.proj(x)


def _feed_forward(in_dim: int, hidden_dim: int, out_dim: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_dim, hidden_dim, 1),
        nn.GELU(),
        _ResidualConv(hidden_dim),
        GlobalResponseNorm(hidden_dim, channels_last=False),
        nn.Conv2d(hidden_dim, out_dim, 1),
    ]


def _conv_norm(in_dim: int, out_dim: int, side: int = 1, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_dim, out_dim, side, stride=stride, padding=side // 2, bias=False)
    return [conv, nn.BatchNorm2d(out_dim)]


class RepConvBlock(nn.Module):
    """Block of the base and overview networks: a large kernel, squeeze-and-excitation, a feed-forward part.

    Args:
        dim: Number of channels.
        kernel_size: Side of the large kernel.
        mlp_ratio: Ratio of hidden channels to channels in the feed-forward part.
        scaled: Whether the shortcut has a scale and a shift for each channel.
        drop_path: Rate of stochastic depth.
    """

    def __init__(self, dim: int, kernel_size: int, mlp_ratio: float, *, scaled: bool, drop_path: float):
        super().__init__()
        self.dwconv = _ResidualConv(dim)
        self.proj = nn.Sequential(
            LayerNorm2d(dim, eps=1e-6),
            DilatedReparamConv(dim, kernel_size, _BRANCHES[kernel_size]),
            nn.BatchNorm2d(dim),
            _SqueezeExcite(dim),
            *_feed_forward(dim, int(dim * mlp_ratio), dim),
            DropPath(drop_path) if drop_path > 0.0 else nn.Identity(),
        )
        self.ls = _Affine(dim) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.dwconv(x)
        return self.ls(x) + self.proj(x)


class ContMixBlock(nn.Module):
    """Block of the focus network: context-mixing dynamic convolution and a feed-forward part (paper, Section 3.2).

    Args:
        dim: Number of channels of the map.
        context_dim: Number of channels of the context that accompanies the map.
        kernel_size: Side of the dynamic kernels for the second half of the channels.
        num_heads: Number of kernels per pixel for each half of the channels.
        mlp_ratio: Ratio of hidden channels to `dim` in the feed-forward part.
        first: Whether this is the first block, which uses the context as it is; others add the initial context to it.
        drop_path: Rate of stochastic depth.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int,
        kernel_size: int,
        num_heads: int,
        mlp_ratio: float,
        *,
        first: bool,
        drop_path: float,
    ):
        super().__init__()
        both = dim + context_dim
        self.dims = (dim, context_dim)
        self.kernel_size, self.num_heads = kernel_size, num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.rpb1 = nn.Parameter(torch.zeros(num_heads, 2 * _SMALL_KERNEL - 1, 2 * _SMALL_KERNEL - 1))
        self.rpb2 = nn.Parameter(torch.zeros(num_heads, 2 * kernel_size - 1, 2 * kernel_size - 1))
        self.x_scale = nn.Identity() if first else _Affine(context_dim)
        self.h_scale = nn.Identity() if first else _Affine(context_dim)
        self.first = first
        self.dwconv1 = _ResidualConv(both)
        self.norm1 = LayerNorm2d(both, eps=1e-6)
        self.fusion = nn.Sequential(
            nn.Conv2d(both, both, 3, padding=1, groups=both),
            nn.BatchNorm2d(both),
            nn.GELU(),
            nn.Conv2d(both, dim, 1),
            GlobalResponseNorm(dim, channels_last=False),
        )
        self.weight_query = nn.Sequential(*_conv_norm(dim, dim // 2))
        self.weight_key = nn.Sequential(nn.AdaptiveAvgPool2d(_REGIONS), *_conv_norm(context_dim, dim // 2))
        self.weight_proj = nn.Conv2d(_REGIONS**2, kernel_size**2 + _SMALL_KERNEL**2, 1)
        self.dyconv_proj = nn.Sequential(*_conv_norm(dim, dim))
        self.lepe = nn.Sequential(DilatedReparamConv(dim, kernel_size, _BRANCHES[kernel_size]), nn.BatchNorm2d(dim))
        self.se_layer = _SqueezeExcite(dim)
        self.gate = nn.Sequential(*_conv_norm(dim, dim), nn.SiLU())
        self.proj = nn.Sequential(nn.BatchNorm2d(dim), nn.Conv2d(dim, both, 1))
        self.dwconv2 = _ResidualConv(both)
        self.norm2 = LayerNorm2d(both, eps=1e-6)
        self.mlp = nn.Sequential(*_feed_forward(both, int(dim * mlp_ratio), both))
        self.ls1, self.ls2 = _Affine(both), _Affine(both)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: Tensor, context: Tensor, first_context: Tensor) -> Tensor:
        """Compute the map and the context, concatenated: (N, dim + context_dim, H, W)."""
        if not self.first:
            context = self.x_scale(context) + self.h_scale(first_context)
        both = self.dwconv1(torch.cat([x, context], dim=1))
        normed = self.norm1(both)
        x = self.fusion(normed)
        mixed = self.dyconv_proj(self._dynamic_convolution(x, normed))
        mixed = self.se_layer(mixed + self.lepe(x))
        both = self.ls1(both) + self.drop_path(self.proj(self.gate(x) * mixed))
        both = self.dwconv2(both)
        return self.ls2(both) + self.drop_path(self.mlp(self.norm2(both)))

    def _dynamic_convolution(self, x: Tensor, both: Tensor) -> Tensor:
        """Convolve `x` with kernels that are computed from the products of each pixel with regions of the context."""
        query, key = _enlarged(both, self.kernel_size).split(self.dims, dim=1)
        query = (self.weight_query(query) * self.scale).unflatten(1, (self.num_heads, -1)).flatten(3)
        key = self.weight_key(key).unflatten(1, (self.num_heads, -1)).flatten(3)
        weights = self.weight_proj(torch.einsum("bgcn,bgcl->blgn", query, key))
        return _mixed(x, weights, self.rpb1, self.rpb2)


@fx.wrap
def _enlarged(x: Tensor, side: int) -> Tensor:
    """Enlarge a map so that its smaller side is `side`, unless it is at least that already."""
    height, width = x.shape[2], x.shape[3]
    if min(height, width) >= side:
        return x
    size = [side, int(side / height * width)] if height < width else [int(side / width * height), side]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


@fx.wrap
def _mixed(x: Tensor, weights: Tensor, small_bias: Tensor, large_bias: Tensor) -> Tensor:
    """Convolve each half of the channels with its own kernels, of 5×5 and K×K.

    Args:
        x: (N, C, H, W).
        weights: (N, 5·5 + K·K, G, h·w), the kernels before their softmax; h and w are the sides of the enlarged map.
        small_bias: (G, 9, 9), added to the 5×5 kernels by the neighbour's position relative to the pixel.
        large_bias: (G, 2K - 1, 2K - 1), likewise for the K×K kernels.
    """
    side = (large_bias.shape[1] + 1) // 2
    large = _enlarged(x, side)
    small_side = (small_bias.shape[1] + 1) // 2
    weights = weights.unflatten(3, (large.shape[2], large.shape[3]))
    small_kernels, large_kernels = weights.split([small_side * small_side, side * side], dim=1)
    first, second = large.chunk(2, dim=1)
    out = torch.cat(
        [_half(first, small_kernels, small_bias, small_side), _half(second, large_kernels, large_bias, side)], dim=1
    )
    return out if out.shape == x.shape else F.adaptive_avg_pool2d(out, [x.shape[2], x.shape[3]])


def _half(x: Tensor, kernels: Tensor, bias: Tensor, side: int) -> Tensor:
    rows = _places(x.shape[2], side, x.device)
    columns = _places(x.shape[3], side, x.device)
    # (G, H, 1, k, 1) and (G, 1, W, 1, k) -> (G, H, W, k, k) -> (k·k, G, H, W)
    added = bias[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3).permute(3, 0, 1, 2)
    return neighbourhood_sum((kernels + added).softmax(dim=1), x)


def _places(size: int, side: int, device: torch.device) -> Tensor:
    """Offset between each of `size` pixels and the `side` pixels of its window, shifted to 0 to 2 · (side - 1)."""
    pixels = torch.arange(size, device=device)
    start = (pixels - side // 2).clamp(0, size - side)
    return start[:, None] + torch.arange(side, device=device) - pixels[:, None] + (side - 1)


class _ContextDownsample(nn.Module):
    """Halve the sides of the map and of its context."""

    def __init__(self, dim: int, out_dim: int, context_dim: int):
        super().__init__()
        self.x_proj = nn.Sequential(*_conv_norm(dim, out_dim, 3, 2))
        self.h_proj = nn.Sequential(*_conv_norm(context_dim, context_dim, 3, 2))

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return self.x_proj(x), self.h_proj(context)


class OverLoCK(StagedNetwork):
    """OverLoCK (arXiv:2502.20087, Section 3.3).

    Feature maps are those of the base network (1/4 and 1/8 of the side) and of the focus network (1/16, and 1/32 with
    the context concatenated). In train mode, a network with an auxiliary head returns two logits: (main, auxiliary).

    Args:
        depths: Number of blocks in the two stages of the base network and the two stages of the overview network.
        focus_depths: Number of blocks in the two stages of the focus network.
        dims: Number of channels at each of the four resolutions.
        kernel_sizes: Side of the large kernels at each resolution.
        num_heads: Number of heads in the two focus stages; each half of the channels has twice as many kernels per
            pixel.
        mlp_ratio: Ratio of hidden channels to channels in the base and overview networks.
        focus_mlp_ratio: The same in the focus network.
        projection: Number of channels before the classifier.
        aux_head: Whether the overview network has its own classifier, for training.
        in_chans: Number of image channels.
        num_classes: Number of classes; 0 for no classifier.
        global_pool: Pooling before the classifier, by its name in timm, such as 'avg'; '' for none.
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Rate of stochastic depth of the last block; it rises linearly from 0 in the first.
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 3, 2),
        focus_depths: Sequence[int] = (6, 2),
        dims: Sequence[int] = (56, 112, 256, 336),
        kernel_sizes: Sequence[int] = (17, 15, 13, 7),
        num_heads: Sequence[int] = (4, 6),
        mlp_ratio: float = 4,
        focus_mlp_ratio: float = 3,
        projection: int = 1024,
        aux_head: bool = True,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__(in_chans, drop_rate)
        context_dim = dims[3] // 4
        self.dims = (dims[2], context_dim)
        self.grad_checkpointing = False
        self.patch_embed1 = _stem(in_chans, dims[0])
        self.patch_embed2 = nn.Sequential(*_conv_norm(dims[0], dims[1], 3, 2))
        self.patch_embed3 = nn.Sequential(*_conv_norm(dims[1], dims[2], 3, 2))
        self.patch_embed4 = nn.Sequential(*_conv_norm(dims[2], dims[3], 3, 2))
        self.high_level_proj = nn.Conv2d(dims[3], context_dim, 1)
        self.patch_embedx = _ContextDownsample(dims[2], dims[3], context_dim)
        rates = path_rates(drop_path_rate, [*depths, *focus_depths])
        for i in range(4):
            blocks = (
                RepConvBlock(dims[i], kernel_sizes[i], mlp_ratio, scaled=i >= 2, drop_path=rate) for rate in rates[i]
            )
            self.add_module(f"blocks{i + 1}", Stage(*blocks))
        for i in (2, 3):
            focus = (
                ContMixBlock(
                    dims[i],
                    context_dim,
                    kernel_sizes[i],
                    2 * num_heads[i - 2],
                    focus_mlp_ratio,
                    first=i == 2 and j == 0,
                    drop_path=rate,
                )
                for j, rate in enumerate(rates[i + 2])
            )
            self.add_module(f"sub_blocks{i + 1}", nn.ModuleList(focus))
        names = ("blocks1", "blocks2", "sub_blocks3", "sub_blocks4")
        widths = (*dims[:3], dims[3] + context_dim)
        self.feature_info = [
            dict(num_chs=dim, reduction=4 * 2**i, module=name)
            for i, (dim, name) in enumerate(zip(widths, names, strict=True))
        ]
        self.num_features, self.head_hidden_size = widths[3], projection
        aux = nn.Sequential(nn.BatchNorm2d(dims[3]), nn.AdaptiveAvgPool2d(1), nn.Identity())
        self.aux_head: nn.Module | None = aux if aux_head else None
        self.head = nn.Sequential(*_conv_norm(widths[3], projection), nn.SiLU(), nn.Identity(), nn.Identity())
        self._make_head(num_classes, global_pool)
        self.apply(init_trunc_normal)

    # --- classifier -----------------------------------------------------------------------------------------------

    def _make_head(self, num_classes: int, global_pool: str) -> None:
        self._make_pool(num_classes, global_pool, flatten=False)  # the head consists of 1×1 convolutions
        if isinstance(self.head, nn.Sequential):
            self.head[4] = self._classifier(self.head_hidden_size)
        if self.aux_head is not None:
            self.aux_head[2] = self._classifier(self.aux_head[0].num_features)

    def _classifier(self, in_dim: int) -> nn.Module:
        if self.num_classes == 0:
            return nn.Identity()
        conv = nn.Conv2d(in_dim, self.num_classes, 1)
        init_trunc_normal(conv)
        return conv

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the last 1×1 convolution; Identity if `num_classes` is 0."""
        return self.head[4] if isinstance(self.head, nn.Sequential) else self.head

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute pooled features (`pre_logits`) or logits from the last map."""
        x = self.head_drop(self.global_pool(self.head[2](self.head[1](self.head[0](x)))))
        if not pre_logits:
            x = self.head[4](x)
        return x.flatten(1) if self.pooled else x

    # --- stages ---------------------------------------------------------------------------------------------------

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of the blocks in the backward pass instead of storing them."""
        super().set_grad_checkpointing(enable)
        self.grad_checkpointing = enable

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rates, in the form that timm's optimisers expect."""
        base: Any = r"^(?:patch_embed|blocks)(\d+)"
        focus: Any = [(r"^high_level_proj", (0,)), (r"^sub_blocks(\d+)", None), (r"^patch_embedx", (4,))]
        if not coarse:
            base = [(r"^patch_embed(\d+)", (0,)), (r"^blocks(\d+)\.(\d+)", None)]
            focus[1] = (r"^sub_blocks(\d+)\.(\d+)", None)
        return dict(stem=r"^patch_embed1", base=base, focus=focus)

    def _maps(self, x: Tensor, count: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        x = self.blocks1(self.patch_embed1(x))
        yield 0, x, x
        if count > 1:
            x = self.blocks2(self.patch_embed2(x))
            yield 1, x, x
        if count > 2:
            x, context = self._overview(x)
            x, context, first = self._focus(x, context)
            yield 2, x, x
            if count > 3:
                x = self._focus_last(x, context, first)
                yield 3, x, x

    def _drop_stage(self, index: int) -> None:
        gone = {
            1: ("patch_embed2", "blocks2"),
            2: ("patch_embed3", "blocks3", "patch_embed4", "blocks4", "high_level_proj", "sub_blocks3"),
            3: ("patch_embedx", "sub_blocks4"),
        }
        for name in gone[index]:
            setattr(self, name, nn.Identity())
        self.head, self.aux_head = nn.Identity(), None

    def _overview(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the map at 1/16 of the side, and the context at 1/32."""
        x = self.blocks3(self.patch_embed3(x))
        return x, self.blocks4(self.patch_embed4(x))

    def _focus(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute map and context after the first focus stage; also return the initial context, not enlarged."""
        first = self.high_level_proj(context)
        enlarged = F.interpolate(first, size=x.shape[2:], mode="bilinear", align_corners=False)
        context = enlarged
        for block in self.sub_blocks3:
            if self.grad_checkpointing and not torch.jit.is_scripting():
                both = checkpoint(block, x, context, enlarged, use_reentrant=False)
            else:
                both = block(x, context, enlarged)
            x, context = both.split(self.dims, dim=1)
        return x, context, first

    def _focus_last(self, x: Tensor, context: Tensor, first: Tensor) -> Tensor:
        """Compute the last map, concatenated with its context."""
        x, context = self.patch_embedx(x, context)
        both = torch.cat([x, context], dim=1)
        for block in self.sub_blocks4:
            x, context = both.split([both.shape[1] - self.dims[1], self.dims[1]], dim=1)
            if self.grad_checkpointing and not torch.jit.is_scripting():
                both = checkpoint(block, x, context, first, use_reentrant=False)
            else:
                both = block(x, context, first)
        return both

    def _both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the last map, and the output of the overview network for the auxiliary head."""
        x = self.blocks2(self.patch_embed2(self.blocks1(self.patch_embed1(x))))
        x, overview = self._overview(x)
        x, context, first = self._focus(x, overview)
        return self._focus_last(x, context, first), overview

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the last map, concatenated with its context: (N, C, H / 32, W / 32)."""
        return self._both(x)[0]

    def forward(self, x: Tensor):  # no return annotation: TorchScript infers the type
        x, overview = self._both(x)
        out = self.forward_head(x)
        if not torch.jit.is_scripting():  # a separate `if`, or TorchScript compiles its body  # noqa: SIM102
            if self.training and self.aux_head is not None:
                return out, self.aux_head(overview).flatten(1)
        return out


def _stem(in_chans: int, dim: int) -> nn.Sequential:
    return nn.Sequential(
        *_conv_norm(in_chans, dim // 2, 3, 2),
        nn.GELU(),
        *_conv_norm(dim // 2, dim // 2, 3),
        nn.GELU(),
        *_conv_norm(dim // 2, dim, 3, 2),
        nn.GELU(),
        *_conv_norm(dim, dim, 3),
    )


def checkpoint_filter_fn(state_dict: Mapping[str, Any], model: OverLoCK) -> dict[str, Tensor]:
    """Extract the tensors from a checkpoint of the authors; their names are the same as here.

    For a checkpoint in merged form, the network is merged first, and for one without auxiliary head, the network's is
    removed, so that loading can be strict.

    Raises: ValueError for a checkpoint in training form when the network is already merged.
    """
    tensors = unwrapped(state_dict)
    check_form(model, merged=not any(".origin_bn." in key for key in tensors))
    if not any(key.startswith("aux_head.") for key in tensors):
        model.aux_head = None
    return tensors


def _cfg(tag: str, **kwargs: Any) -> dict[str, Any]:
    return staged_cfg(
        tag,
        first_conv="patch_embed1.0",
        classifier=("head.4", "aux_head.2"),
        paper_ids="arXiv:2502.20087",
        paper_name="OverLoCK: An Overview-first-Look-Closely-next ConvNet with Context-Mixing Dynamic Kernels",
        origin_url="https://github.com/LMMMEng/OverLoCK",
        **kwargs,
    )


_CROPS = {"xt": 0.925, "t": 0.95, "s": 0.95, "b": 0.975}
default_cfgs = generate_default_cfgs(
    {
        f"overlock_{size}.{tag}": _cfg(f"overlock_{size}.{tag}", crop_pct=crop)
        for size, crop in _CROPS.items()
        for tag in ("in1k", "in1k_reparam")  # the same weights, merged by the authors
    }
)


def _create_overlock(variant: str, pretrained: bool = False, **kwargs: Any) -> OverLoCK:
    return build_staged(OverLoCK, variant, pretrained, checkpoint_filter_fn, **kwargs)


@register_model
def overlock_xt(pretrained: bool = False, **kwargs: Any) -> OverLoCK:
    """OverLoCK-XT: 16.8 M parameters merged with the auxiliary head, 2.66 GMACs at 224 without dynamic convolutions."""
    return _create_overlock("overlock_xt", pretrained, **kwargs)


@register_model
def overlock_t(pretrained: bool = False, **kwargs: Any) -> OverLoCK:
    """OverLoCK-T: 34.0 M parameters merged with the auxiliary head, 5.57 GMACs at 224 without dynamic convolutions."""
    model_args = dict(depths=(4, 4, 6, 2), focus_depths=(12, 2), dims=(64, 128, 256, 512), num_heads=(4, 8))
    return _create_overlock("overlock_t", pretrained, **dict(model_args, **kwargs))


@register_model
def overlock_s(pretrained: bool = False, **kwargs: Any) -> OverLoCK:
    """OverLoCK-S: 56.7 M parameters merged with the auxiliary head, 9.76 GMACs at 224 without dynamic convolutions."""
    model_args = dict(depths=(6, 6, 8, 3), focus_depths=(16, 3), dims=(64, 128, 320, 512), num_heads=(8, 16))
    return _create_overlock("overlock_s", pretrained, **dict(model_args, **kwargs))


@register_model
def overlock_b(pretrained: bool = False, **kwargs: Any) -> OverLoCK:
    """OverLoCK-B: 95.5 M parameters merged with the auxiliary head, 16.90 GMACs at 224 without dynamic convolutions."""
    model_args = dict(depths=(8, 8, 10, 4), focus_depths=(20, 4), dims=(80, 160, 384, 576), num_heads=(6, 9))
    return _create_overlock("overlock_b", pretrained, **dict(model_args, **kwargs))
