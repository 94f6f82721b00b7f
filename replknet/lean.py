"""RepLKNet's layers with a backward pass to the input alone, which keeps masks instead of activations.

A contribution map needs the gradient of the input and no other. Then a ReLU needs to know only where it was open (one
byte in place of four), a convolution nothing but its weight, and a residual sum nothing at all; only GELU needs its
input. PyTorch's own backward keeps every activation, since it cannot know that no parameter will want a gradient.

The classes below are those of `replknet.replknet` with another `forward`; `make_lean` changes the class of a folded
network's layers, parameters and state dict stay. Gradients are the same up to rounding. Where a parameter wants a
gradient, or the input wants none, the ordinary forward pass runs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replknet.ops import depthwise_conv2d
from replknet.replknet import ConvFFN, RepLKBlock, RepLKNet

__all__ = ["make_lean"]


def make_lean(model: RepLKNet) -> RepLKNet:
    """Give the layers of a merged and folded network their lean form, in place; does nothing the second time.

    Raises: ValueError if the kernels are not merged or the normalisations not folded.
    """
    for module in list(model.modules()):
        if type(module) is RepLKBlock:
            if module.large_kernel.lkb_reparam is None or not isinstance(module.prelkb_bn, nn.Identity):
                raise ValueError("make_lean() needs reparameterize() and fold_batchnorm() first")
            module.__class__ = LeanRepLKBlock
        elif type(module) is ConvFFN:
            if not isinstance(module.preffn_bn, nn.Identity):
                raise ValueError("make_lean() needs fold_batchnorm() first")
            module.__class__ = LeanConvFFN
    for part in (model.stem, *(stage.downsample for stage in model.stages)):
        for layer in part.children():
            if type(layer) is nn.Sequential:
                layer.__class__ = LeanConvAct
    return model


def _only_the_input_learns(module: nn.Module, x: Tensor) -> bool:
    wants = torch.is_grad_enabled() and x.requires_grad and not module.training
    return wants and not any(p.requires_grad for p in module.parameters())


class LeanRepLKBlock(RepLKBlock):
    """`RepLKBlock` that keeps two masks."""

    def forward(self, x: Tensor) -> Tensor:
        if not _only_the_input_learns(self, x):
            return super().forward(x)
        first, large, last = self.pw1.conv, self.large_kernel.lkb_reparam, self.pw2.conv
        return _LargeKernelBlock.apply(x, first.weight, first.bias, large.weight, large.bias, last.weight, last.bias)


class LeanConvFFN(ConvFFN):
    """`ConvFFN` that keeps the input of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        if not _only_the_input_learns(self, x):
            return super().forward(x)
        first, last = self.pw1.conv, self.pw2.conv
        return _FeedForward.apply(x, first.weight, first.bias, last.weight, last.bias)


class LeanConvAct(nn.Sequential):
    """A folded convolution and ReLU that keep one mask."""

    def forward(self, input: Tensor) -> Tensor:  # the name nn.Sequential gives it
        if not _only_the_input_learns(self, input):
            return super().forward(input)
        conv = self.conv
        return _ConvReLU.apply(input, conv.weight, conv.bias, conv.stride, conv.padding, conv.groups)


class _LargeKernelBlock(torch.autograd.Function):
    """x + W2 relu(K * relu(W1 x + b1) + bk) + b2, with 1×1 convolutions W and the depthwise convolution K."""

    @staticmethod
    def forward(ctx: Any, x, w1, b1, wk, bk, w2, b2):
        h = F.conv2d(x, w1, b1).relu_()
        open1 = h > 0
        h = depthwise_conv2d(h, wk, bk).relu_()
        open2 = h > 0
        ctx.save_for_backward(open1, open2, w1, wk, w2)
        return F.conv2d(h, w2, b2).add_(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor):
        open1, open2, w1, wk, w2 = ctx.saved_tensors
        g = F.conv2d(grad, w2.transpose(0, 1)).mul_(open2)
        g = torch.ops.replknet.depthwise_conv2d_input_grad(g, wk).mul_(open1)
        return F.conv2d(g, w1.transpose(0, 1)).add_(grad), *[None] * 6


class _FeedForward(torch.autograd.Function):
    """x + W2 gelu(W1 x + b1) + b2 with 1×1 convolutions."""

    @staticmethod
    def forward(ctx: Any, x, w1, b1, w2, b2):
        a = F.conv2d(x, w1, b1)
        ctx.save_for_backward(a, w1, w2)
        return F.conv2d(F.gelu(a), w2, b2).add_(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor):
        a, w1, w2 = ctx.saved_tensors
        g = torch.ops.aten.gelu_backward(F.conv2d(grad, w2.transpose(0, 1)), a)
        return F.conv2d(g, w1.transpose(0, 1)).add_(grad), *[None] * 4


class _ConvReLU(torch.autograd.Function):
    """relu(W * x + b) for any convolution."""

    @staticmethod
    def forward(ctx: Any, x, weight, bias, stride, padding, groups):
        y = F.conv2d(x, weight, bias, stride, padding, groups=groups).relu_()
        ctx.save_for_backward(y > 0, weight)
        ctx.geometry = dict(stride=stride, padding=padding, groups=groups)
        ctx.input_shape = x.shape
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor):
        is_open, weight = ctx.saved_tensors
        g = torch.nn.grad.conv2d_input(ctx.input_shape, weight, grad * is_open, **ctx.geometry)
        return g, *[None] * 5
