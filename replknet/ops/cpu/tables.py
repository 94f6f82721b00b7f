"""The fastest form of the depthwise convolution on CPU, by shape: one table for each direction.

The first matching row is used. The forms themselves are in `replknet.ops.cpu.forms`.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from replknet.ops.cpu import direct
from replknet.ops.layout import format_of

__all__ = [
    "CAPABILITY",
    "FORWARD_TABLE",
    "INPUT_GRAD_TABLE",
    "WEIGHT_GRAD_TABLE",
    "WIDENED",
    "Row",
    "select",
    "select_form",
]

_ANY = (-(1 << 62), 1 << 62)
_BF16 = (torch.bfloat16,)
CAPABILITY = direct.CAPABILITY
# Types without a fast kernel, which are computed in float32. oneDNN has a kernel for bfloat16 (with sums in float32) on
# processors with AVX-512; for float16, PyTorch's kernels were up to 300 times slower than for float32.
WIDENED = (torch.float16,) if CAPABILITY.startswith("AVX512") else (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Row:
    """One row of a table: the form to use if all conditions hold. Ranges are inclusive."""

    form: str
    dtype: tuple[torch.dtype, ...] = (torch.float32,)
    layout: torch.memory_format | None = None  # None: either
    kernel_width: tuple[int, int] = _ANY
    taps: tuple[int, int] = _ANY  # kh · kw
    channels: tuple[int, int] = _ANY
    maps: tuple[int, int] = _ANY  # N · C
    batch: tuple[int, int] = _ANY
    area: tuple[int, int] = _ANY  # H · W
    overhang: tuple[int, int] = _ANY  # padding minus the side of the map, on the axis where it is larger
    products: tuple[int, int] = _ANY  # N · C · H · W · kh · kw
    capability: str | None = None  # CPU capability as PyTorch names it; None: any


_NCHW, _NHWC = torch.contiguous_format, torch.channels_last
# The first matching row is used. The limits were measured with PyTorch 2.15 (oneDNN 3.13, MKL) on two cores of an AMD
# EPYC (Zen 4, AVX-512). A form is listed only where it is 10% faster than PyTorch's own call or, for a small call,
# saves more than the 3 microseconds that dispatching to it costs. On other processors the best limits differ a little,
# but the results do not depend on them.
# Rows with the capability AVX2 were measured on one core of an AMD EPYC with AVX2 (PyTorch 2.14), whose vectors are
# half as long: PyTorch's direct kernels take twice the time there, the Fourier transform and the matrix product about
# the same.
# The kernel that is compiled at run time comes first where it is the fastest: with enough work to make up for half a
# second of compiling, and at least as many channels as a vector holds. oneDNN's contiguous kernel for up to 9 taps a
# row and small matrix products are as fast. The limits for AVX-512 were measured on one core of an AMD EPYC of the
# generation Zen 5 (PyTorch 2.14), which has full-width vectors: there oneDNN reaches half of the processor's peak rate.
_DIRECT = tuple(
    Row("direct", capability=capability, channels=(lanes, 1 << 62), products=(1 << 20, 1 << 62))
    for capability, lanes in direct.LANES.items()
)
_DIRECT_CONVOLUTIONS = tuple(
    replace(row, layout=layout, taps=(taps, 1 << 62)) for row in _DIRECT for layout, taps in ((_NHWC, 49), (_NCHW, 100))
)
_AVX2_TOEPLITZ = Row("toeplitz", capability="AVX2", taps=(300, 1 << 62), area=(100, 300), batch=(32, 1 << 62))
_AVX2_FFT = Row("fft", capability="AVX2", taps=(700, 1 << 62), area=(301, 4096), batch=(16, 1 << 62))
FORWARD_TABLE = (
    *_DIRECT_CONVOLUTIONS,
    _AVX2_TOEPLITZ,
    _AVX2_FFT,
    Row("stock_contiguous", dtype=(torch.float64,), taps=(0, 48)),
    Row("fft", dtype=(torch.float64,)),
    Row("float32", dtype=WIDENED),
    # oneDNN's contiguous kernel does not take padding larger than the map; the fallback is 6 to 400 times slower
    Row(
        "cropped",
        dtype=(torch.float32, torch.bfloat16),
        layout=_NCHW,
        kernel_width=(0, 13),
        channels=(16, 1 << 62),
        overhang=(1, 1 << 62),
    ),
    # with few channels (seen with up to 16) and more than 13 taps a row, PyTorch's own call hangs (oneDNN 3.13); this
    # row leaves a margin
    Row("float32", dtype=_BF16, channels=(0, 31), kernel_width=(14, 1 << 62)),
    Row("stock", dtype=_BF16, layout=_NHWC),
    Row("stock", dtype=_BF16, kernel_width=(0, 13)),
    Row("channels_last", dtype=_BF16),
    # few channels do not fill the vectors of the direct kernels
    Row("fft", channels=(0, 15), taps=(700, 1 << 62), area=(1000, 1 << 62)),
    Row("fft", channels=(0, 4), taps=(169, 1 << 62), area=(10000, 1 << 62)),
    Row("fft", taps=(2000, 1 << 62), area=(4096, 1 << 62)),
    Row("channels_last", channels=(0, 1), taps=(700, 1 << 62), area=(0, 60), batch=(0, 3)),
    Row("cropped", channels=(0, 1), taps=(700, 1 << 62), area=(0, 256)),
    Row("stock", channels=(0, 1)),
    Row("transposed", layout=_NHWC, kernel_width=(10, 13), channels=(16, 1 << 62), area=(500, 1 << 62)),
    Row("stock", layout=_NHWC),
    Row("channels_last", kernel_width=(0, 13), channels=(0, 15)),
    Row("channels_last", kernel_width=(0, 13), channels=(0, 63), area=(0, 60)),
    Row("stock", kernel_width=(0, 13)),
    Row("channel_blocks", channels=(64, 1 << 62), area=(4096, 1 << 62)),
    Row("channels_last"),
)
# For the input gradient: "turned" uses the forward table with rotated filters, which costs a copy of the filters;
# "transposed" is PyTorch's transposed convolution in the layout of the gradient; "transposed_channels_last" is the same
# after conversion to channels-last; "stock" is the function that autograd calls.
INPUT_GRAD_TABLE = (
    *_DIRECT_CONVOLUTIONS,
    replace(_AVX2_TOEPLITZ, form="turned"),
    replace(_AVX2_FFT, form="turned"),
    Row("turned", dtype=(torch.float64, *WIDENED)),
    Row("turned", dtype=_BF16, kernel_width=(14, 1 << 62), area=(1000, 1 << 62)),
    Row("transposed", dtype=_BF16),
    # a single channel is in both formats at once, so conversion only changes the strides
    Row("transposed", channels=(0, 1), batch=(0, 1), taps=(0, 9), area=(0, 499)),
    Row("stock", channels=(0, 1), batch=(0, 1), taps=(0, 9)),
    Row("transposed_channels_last", channels=(0, 1), taps=(0, 49)),
    Row("transposed_channels_last", channels=(0, 1), taps=(0, 169), area=(0, 499)),
    Row("transposed_channels_last", channels=(0, 1), taps=(0, 169), area=(0, 1999), batch=(0, 3)),
    Row("transposed_channels_last", channels=(0, 1), area=(0, 60), batch=(0, 3)),
    Row("turned", channels=(0, 1)),
    Row("transposed", area=(0, 999)),
    Row("turned", taps=(2000, 1 << 62)),
    Row("turned", capability="AVX512", layout=_NCHW, taps=(700, 1 << 62), area=(0, 4095)),
    Row("turned", capability="AVX512", layout=_NCHW, taps=(900, 1 << 62)),
    Row("turned", capability="AVX512", layout=_NHWC, kernel_width=(14, 1 << 62)),
    Row("turned", channels=(0, 15), area=(10000, 1 << 62)),
    Row("turned", channels=(0, 15), kernel_width=(10, 13)),
    Row("transposed_channels_last", layout=_NCHW, channels=(0, 15)),
    Row("transposed"),
)
WEIGHT_GRAD_TABLE = (
    _AVX2_FFT,
    *(replace(row, layout=_NHWC, taps=(25, 1 << 62)) for row in _DIRECT),
    *(replace(row, layout=_NCHW, taps=(25, 1 << 62), area=(100, 1 << 62)) for row in _DIRECT),
    _AVX2_TOEPLITZ,
    Row("stock_contiguous", dtype=(torch.float64,), taps=(0, 9)),
    Row("fft", dtype=(torch.float64,)),
    Row("float32", dtype=(torch.float16, torch.bfloat16)),
    Row("stock", taps=(0, 9)),
    Row("toeplitz", area=(0, 9)),
    Row("stock", taps=(0, 25), area=(0, 60), layout=_NHWC),
    Row("stock", taps=(0, 25), area=(0, 60), maps=(0, 64)),
    Row("stock", taps=(0, 49), area=(0, 60), maps=(0, 31)),
    Row("toeplitz", area=(0, 60), taps=(100, 1 << 62), maps=(0, 64)),
    Row("toeplitz", area=(0, 60), taps=(100, 1 << 62), batch=(3, 1 << 62)),
    Row("toeplitz", area=(0, 60), batch=(8, 1 << 62)),
    Row("toeplitz", area=(0, 150), taps=(300, 1 << 62), batch=(4, 1 << 62), maps=(0, 128)),
    Row("toeplitz", area=(0, 150), taps=(300, 1 << 62), batch=(16, 1 << 62)),
    Row("toeplitz", area=(0, 150), batch=(32, 1 << 62)),
    Row("fft", maps=(0, 15)),
    Row("map_as_filter"),
)


def select(purpose: str, x: Tensor, kernel_height: int, kernel_width: int) -> str:
    """Return the name of the form that the table lists for input `x`.

    Args:
        purpose: "forward", "input_grad" or "weight_grad".
        x: Input, or output gradient for "input_grad".
        kernel_height: Height of the kernel; for "weight_grad", without the taps that only ever meet padding.
        kernel_width: Width of the kernel, likewise.
    """
    return select_form(purpose, x.dtype, format_of(x), tuple(x.shape), kernel_height, kernel_width)


@lru_cache(maxsize=4096)
def select_form(
    purpose: str,
    dtype: torch.dtype,
    layout: torch.memory_format,
    shape: tuple[int, ...],
    kernel_height: int,
    kernel_width: int,
) -> str:
    """`select` for an input with this dtype, layout and shape (N, C, H, W)."""
    n, channels, height, width = shape
    facts = {
        "kernel_width": kernel_width,
        "taps": kernel_height * kernel_width,
        "channels": channels,
        "maps": n * channels,
        "batch": n,
        "area": height * width,
        "overhang": max(kernel_height // 2 - height, kernel_width // 2 - width),
        "products": n * channels * height * width * kernel_height * kernel_width,
    }
    for row in {"forward": FORWARD_TABLE, "input_grad": INPUT_GRAD_TABLE, "weight_grad": WEIGHT_GRAD_TABLE}[purpose]:
        if dtype not in row.dtype or row.layout not in (None, layout) or row.capability not in (None, CAPABILITY):
            continue
        if all(low <= facts[name] <= high for name, (low, high) in _ranges(row)):
            if row.form == "direct" and not direct.ready():
                continue
            return row.form
    raise AssertionError(f"no row of the table fits {dtype}, {facts}")


def _ranges(row: Row) -> list[tuple[str, tuple[int, int]]]:
    names = ("kernel_width", "taps", "channels", "maps", "batch", "area", "overhang", "products")
    return [(name, getattr(row, name)) for name in names]
