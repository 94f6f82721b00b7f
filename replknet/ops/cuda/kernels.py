"""Depthwise convolution on CUDA: kernels compiled at run time, or PyTorch's own where these do not apply.

The forward pass and the input gradient use the first of these that works: CUDA C++ through NVRTC (`source.py`), Triton
(`triton_kernels.py`), `F.conv2d`. A kernel that cannot be compiled or launched, or whose result is wrong (`proof.py`),
is not used again; this is logged once. REPLKNET_CUDA_KERNELS=0 in the environment turns both kinds of kernels off. The
weight gradient is computed by the Fourier transform in float32 (float64 for float64 tensors), which costs about as much
as the direct sum at the peak rate of float32 and needs no kernel. All kernels read contiguous tensors; channels-last
tensors are converted there and back.

The tiles are the fastest of 350 that were compiled and timed on an H200, with kernels of 7 to 31 on maps of 7 to 256
pixels.
"""

import ctypes
import logging
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from replknet.ops import fft
from replknet.ops.cuda import nvrtc, proof
from replknet.ops.cuda.source import DEVICE_HEADER, SOURCE
from replknet.ops.layout import as_format, crop, empty_output, format_of

__all__ = ["Tile", "choose_tile", "direct_tile", "forward", "launch_tile", "mma_tile", "weight_grad"]

_LOG = logging.getLogger(__name__)
_SCALARS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_TF32 = 3
_SHARED_BYTES = 64 << 10  # per block, so that two blocks fit on every architecture since sm_80
_SHARED_LIMIT = 99 << 10  # per block: the smallest limit of the architectures since sm_80
_SMALL_TAPS = 25  # up to 5×5, PyTorch's kernels are specialised
_SMALL_MAP = 16  # pixels a side; on maps of 14 and 7 pixels PyTorch's kernels were 1.2 to 4 times as fast
_ROWS = 4  # rows of outputs per thread in depthwise_direct; there are 4 or 8 columns
_NARROW = 32  # pixels
_FEW_TAPS = 81
_THREADS = 64
_SPECTRUM_NUMBERS = 1 << 27  # complex numbers per chunk of images in the weight gradient: 1 GiB
_left_out: set[str] = set()


@dataclass(frozen=True)
class Tile:
    """A variant of a kernel: its name and macros, and the planes × rows × columns that a block of threads covers."""

    kernel: str
    defines: tuple[str, ...]
    planes: int
    rows: int
    columns: int
    threads: int
    shared_bytes: int


def choose_tile(scalar: int, *, tensor_cores: bool, planes: int, height: int, width: int, kh: int, kw: int) -> Tile:
    """Choose a tile for maps of height × width and a cropped kernel; `scalar` is SCALAR in `source.py`."""
    if tensor_cores:
        warps = _cover(height, 16, (1, 2, 4, 8))
        tiles_n = _cover(width, 8, (1, 2, 4) if scalar == _TF32 and warps == 8 else (1, 2, 4, 8))
        while (one := _mma_shared_bytes(scalar, tiles_n, warps, kh, kw)) > _SHARED_LIMIT and (warps > 1 or tiles_n > 1):
            warps, tiles_n = (warps // 2, tiles_n) if warps > 1 else (warps, tiles_n // 2)
        if one > _SHARED_LIMIT:  # the fragments alone are too large: kernels above about 51×51 in tf32
            return choose_tile(0, tensor_cores=False, planes=planes, height=height, width=width, kh=kh, kw=kw)
        return mma_tile(scalar, kh, kw, tiles_n=tiles_n, warps=warps, planes=_planes(one, 32 * warps, planes))
    narrow = width <= _NARROW or kh * kw <= _FEW_TAPS
    cols = 4 if narrow else 8
    tx = _cover(width, cols, (2, 4, 8, 16) if narrow else (2, 4, 8))
    ty = _cover(height, _ROWS, (4, 8) if narrow else (4, 8, 16))
    one = direct_tile(kh, kw, rows=_ROWS, cols=cols, tx=tx, ty=ty, planes=1).shared_bytes
    count = _planes(one, tx * ty, planes)
    return direct_tile(kh, kw, rows=_ROWS, cols=cols, tx=tx, ty=ty, planes=count, scalar=scalar)


def direct_tile(kh: int, kw: int, *, rows: int, cols: int, tx: int, ty: int, planes: int, scalar: int = 0) -> Tile:
    """`depthwise_direct` with `rows` × `cols` outputs per thread and `tx` × `ty` threads for each of `planes` maps."""
    pitch = -(-(cols * tx + kw - 1) // 4) * 4
    shared = ((rows * ty + kh - 1) * pitch + kh * (-(-kw // 4) * 4)) * 4
    names = {"TX": tx, "TY": ty, "ROWS": rows, "COLS": cols, "PLANES": planes, "SCALAR": scalar, "KH": kh, "KW": kw}
    defines = ("DIRECT", *(f"{name}={value}" for name, value in names.items()))
    return Tile("depthwise_direct", defines, planes, rows * ty, cols * tx, tx * ty * planes, shared * planes)


def mma_tile(scalar: int, kh: int, kw: int, *, tiles_n: int, warps: int, planes: int) -> Tile:
    """`depthwise_mma` with 16 rows × `8 * tiles_n` columns per warp, and `warps` warps for each of `planes` maps."""
    shared = _mma_shared_bytes(scalar, tiles_n, warps, kh, kw)
    names = {"NT": tiles_n, "WARPS": warps, "PLANES": planes, "SCALAR": scalar, "KH": kh, "KW": kw}
    defines = ("MMA", *(f"{name}={value}" for name, value in names.items()))
    return Tile("depthwise_mma", defines, planes, 16 * warps, 8 * tiles_n, 32 * warps * planes, shared * planes)


def _mma_shared_bytes(scalar: int, tiles_n: int, warps: int, kh: int, kw: int) -> int:
    """Bytes of shared memory per plane in `depthwise_mma`: the fragments of all filter rows, then the input rows."""
    depth, chunk_tiles, size = (8, 1, 4) if scalar == _TF32 else (16, 2, 2)
    chunks = -(-(8 + kw - 1) // depth)
    tiles = tiles_n + chunk_tiles * chunks - 1
    pitch = 8 * tiles + (4 if scalar == _TF32 else 8 * (tiles % 2 == 0))
    return kh * chunks * 256 + (16 * warps + kh - 1) * pitch * size


def _planes(shared_bytes: int, threads: int, planes: int) -> int:
    """Planes per block: enough for two warps (more were slower), and a power of two, so that there are few variants."""
    room = max(1, min(_SHARED_BYTES // shared_bytes, _THREADS // threads, planes))
    return 1 << (room.bit_length() - 1)


def _cover(side: int, unit: int, counts: tuple[int, ...]) -> int:
    """The smallest of the counts whose units cover a side, or the largest count if none does."""
    return next((count for count in counts if unit * count >= side), counts[-1])


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`depthwise_conv2d` for CUDA tensors that have been checked."""
    if x.numel() == 0:
        return empty_output(x)
    cropped = crop(weight, x.shape[2], x.shape[3])
    kernels = []
    small = cropped.shape[2] * cropped.shape[3] <= _SMALL_TAPS or max(x.shape[2:]) <= _SMALL_MAP
    if x.dtype in _SCALARS and not small and not proof.turned_off():
        kernels = [("NVRTC", _forward_nvrtc), ("Triton", _forward_triton)]
    for name, kernel in kernels:
        if name in _left_out:
            continue
        arguments = (x.contiguous(), cropped, None if bias is None else bias.contiguous())
        try:
            if proof.can_prove_now(x):
                proof.prove(name, kernel, *arguments)
            y = kernel(*arguments)
        except Exception as error:  # failures to compile or launch have many types
            _left_out.add(name)
            _LOG.warning(
                "depthwise_conv2d leaves out its %s kernels on this machine and goes on with the next best: %s: %s",
                name,
                type(error).__name__,
                error,
            )
            continue
        return as_format(y, format_of(x))
    # cuDNN's kernel for channels-last tensors took 7 times as long at 27×27
    layout = format_of(x) if cropped.shape[2] * cropped.shape[3] <= _SMALL_TAPS else torch.contiguous_format
    y = F.conv2d(
        as_format(x, layout),
        cropped,
        bias,
        padding=(cropped.shape[2] // 2, cropped.shape[3] // 2),
        groups=x.shape[1],
    )
    return as_format(y, format_of(x))


def weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    """Gradient (C, 1, kh, kw) of the filters, for checked CUDA tensors; float64 in float64, all others in float32."""
    n, channels, height, width = x.shape
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    total = torch.zeros((channels, 1, kernel_height, kernel_width), dtype=dtype, device=x.device)
    if x.numel() == 0:
        return total.to(x.dtype)
    per_image = channels * (height + kernel_height // 2) * (width + kernel_width // 2)
    step = max(1, _SPECTRUM_NUMBERS // per_image)
    for first in range(0, n, step):
        images = slice(first, first + step)
        total += fft.weight_grad(x[images].to(dtype), grad[images].to(dtype), kernel_height, kernel_width)
    return total.to(x.dtype)


def _forward_nvrtc(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    device = x.device.index
    major, minor = torch.cuda.get_device_capability(device)
    n, channels, height, width = x.shape
    kh, kw = weight.shape[2:]
    scalar = _SCALARS[x.dtype]
    # PyTorch's setting for matrix products; by default float32 stays float32
    if x.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        scalar = _TF32
    tensor_cores = scalar != 0 and major >= 8
    scalar = 0 if scalar == _TF32 and not tensor_cores else scalar
    tile = choose_tile(scalar, tensor_cores=tensor_cores, planes=n * channels, height=height, width=width, kh=kh, kw=kw)
    function = _function(tile, f"sm_{major}{minor}", device)
    y = torch.empty_like(x)
    launch_tile(tile, function, x, weight, bias, y)
    return y


def launch_tile(
    tile: Tile, function: ctypes.c_void_p, x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor
) -> None:
    """Queue a loaded kernel on the current stream; it writes the convolution of contiguous (N, C, H, W) to `y`.

    Raises: nvrtc.KernelUnavailable if the driver refuses the launch.
    """
    device = x.device.index
    n, channels, height, width = x.shape
    tiles_x, tiles_y = -(-width // tile.columns), -(-height // tile.rows)
    arguments = (
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_void_p(weight.data_ptr()),
        ctypes.c_void_p(None if bias is None else bias.data_ptr()),
        ctypes.c_void_p(y.data_ptr()),
        ctypes.c_longlong(n * channels),
        ctypes.c_int(channels),
        ctypes.c_int(height),
        ctypes.c_int(width),
        ctypes.c_int(tiles_x),
    )
    nvrtc.launch(
        function,
        arguments,
        grid=(-(-n * channels // tile.planes), tiles_x * tiles_y),
        threads=tile.threads,
        shared_bytes=tile.shared_bytes,
        device=device,
        stream=torch.cuda.current_stream(device).cuda_stream,
    )


@lru_cache(maxsize=256)
def _function(tile: Tile, architecture: str, device: int) -> ctypes.c_void_p:
    image = nvrtc.compile_source(DEVICE_HEADER + SOURCE, architecture=architecture, defines=tile.defines)
    return nvrtc.load_function(image, tile.kernel, device=device, shared_bytes=tile.shared_bytes)


def _forward_triton(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    from replknet.ops.cuda import triton_kernels  # Triton takes a second to import, and is not always installed

    with torch.cuda.device(x.device):  # Triton launches on the current device
        return triton_kernels.forward(x, weight, bias)
