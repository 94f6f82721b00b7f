"""Depthwise convolution in Triton: the portable form for GPUs on which the CUDA C++ kernels do not run.

Row-Toeplitz form: for every filter row i, Y += X[rows + i] · T_i, where T_i[s, w] is the tap that connects input column
s with output column w. The matrix is gathered from the filter on the fly. With tiles of 16 or 32 columns, about half of
its entries are taps, at kernel sides of about the same size. Sums are accumulated in float32; float32 products are
exact ("ieee") unless PyTorch's matrix products may use tf32.
"""

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["forward"]


@triton.jit
def _row_toeplitz(
    x_pointer,
    w_pointer,
    bias_pointer,
    y_pointer,
    channels,
    height,
    width,
    tiles_x,
    KH: tl.constexpr,
    KW: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Compute one tile of ROWS × COLS outputs of one plane, with DEPTH input columns per matrix product."""
    plane = tl.program_id(0).to(tl.int64)
    channel = plane % channels
    row = (tl.program_id(1) // tiles_x) * ROWS + tl.arange(0, ROWS)
    col = (tl.program_id(1) % tiles_x) * COLS + tl.arange(0, COLS)
    x_pointer += plane * height * width
    w_pointer += channel * KH * KW
    total = tl.zeros((ROWS, COLS), dtype=tl.float32)
    for i in range(KH):
        source_row = row + i - KH // 2
        row_inside = (source_row >= 0) & (source_row < height)
        for start in range(0, COLS + KW - 1, DEPTH):
            # column of the padded map, counted from the left edge of this tile's input
            offset = start + tl.arange(0, DEPTH)
            source_col = (tl.program_id(1) % tiles_x) * COLS + offset - KW // 2
            inside = row_inside[:, None] & (source_col >= 0)[None, :] & (source_col < width)[None, :]
            x = tl.load(x_pointer + source_row[:, None] * width + source_col[None, :], mask=inside, other=0.0)
            tap = offset[:, None] - tl.arange(0, COLS)[None, :]
            band = (tap >= 0) & (tap < KW)
            toeplitz = tl.load(w_pointer + i * KW + tap, mask=band, other=0.0)
            if UPCAST:
                x = x.to(tl.float32)
                toeplitz = toeplitz.to(tl.float32)
            total += tl.dot(x, toeplitz, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias_pointer + channel).to(tl.float32)
    inside = (row < height)[:, None] & (col < width)[None, :]
    target = y_pointer + plane * height * width + row[:, None] * width + col[None, :]
    tl.store(target, total.to(y_pointer.dtype.element_ty), mask=inside)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Same-padding convolution of contiguous (N, C, H, W) with (C, 1, kh, kw); float32, float16 or bfloat16.

    With TRITON_INTERPRET=1 in the environment, Triton's interpreter runs it on CPU tensors.
    """
    n, channels, height, width = x.shape
    y = torch.empty_like(x)
    rows = 16 if height <= 16 else 32
    columns = 16 if width <= 16 else 32
    tiles_x, tiles_y = triton.cdiv(width, columns), triton.cdiv(height, rows)
    tf32 = torch.get_float32_matmul_precision() != "highest"
    _row_toeplitz[(n * channels, tiles_x * tiles_y)](
        x,
        weight,
        weight if bias is None else bias,
        y,
        channels,
        height,
        width,
        tiles_x,
        KH=weight.shape[2],
        KW=weight.shape[3],
        HAS_BIAS=bias is not None,
        PRECISION="tf32" if tf32 else "ieee",
        # the interpreter multiplies the bits of bfloat16 numbers as integers
        UPCAST=os.environ.get("TRITON_INTERPRET") == "1",
        ROWS=rows,
        COLS=columns,
        DEPTH=32,
        num_warps=4,
    )
    return y
