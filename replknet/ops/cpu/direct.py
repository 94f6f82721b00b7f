"""Direct depthwise convolution in machine code that LLVM compiles on this computer when it is first needed.

The code is written by `direct_code.py` and compiled by llvmlite, a library without dependencies (extra `fast`). Without
it the other forms serve. The kernels are compared with PyTorch's convolution in float64 once in a process; where they
differ, or cannot be compiled, they are left out with one warning. REPLKNET_CPU_KERNELS=0 in the environment turns them
off. They take any strides, and their sums do not depend on the number of threads.
"""

import ctypes
import importlib.util
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from replknet.ops.layout import empty_output

__all__ = ["CAPABILITY", "LANES", "SWITCH", "forward", "in_use", "input_grad", "ready", "weight_grad"]

_LOG = logging.getLogger(__name__)
SWITCH = "REPLKNET_CPU_KERNELS"
"""Environment variable: 0 turns the kernels off."""
CAPABILITY = torch.backends.cpu.get_cpu_capability()
"""What PyTorch's kernels use of this processor, such as "AVX2" or "AVX512"."""
LANES = {"AVX2": 8, "AVX512": 16}
"""Numbers in a vector register of the processors that the kernels serve, by the beginning of their `CAPABILITY`."""
_WIDE = CAPABILITY.startswith("AVX512")
_LANES = LANES["AVX512" if _WIDE else "AVX2"]
# Columns of a tile. A tile has two rows, so 12 of the 16 registers of AVX2, or 24 of the 32 of AVX-512, hold sums. The
# other registers hold two taps and two pixels.
_COLUMNS = 12 if _WIDE else 6
_PARTS = 4  # parts for each thread, so that the others can take over the work of one that is interrupted
_TOLERANCE = 1e-5  # of the largest number of the result
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64
_MAPS, _TAPS, _SIZES = [_POINTER, *[_INT] * 4], [_POINTER, *[_INT] * 3], [*[_INT] * 8, _POINTER]

Kernel = Callable[..., None]


class _Kernels(NamedTuple):
    """What was compiled, and what must live as long."""

    forward: Kernel
    weight_grad: Kernel
    engine: Any


@cache
def ready() -> bool:
    """Whether the kernels can be used; the first call compiles and compares them, which takes half a second."""
    if os.environ.get(SWITCH, "1") == "0" or importlib.util.find_spec("llvmlite") is None:
        return False
    try:
        error = _error(_compile())
    except (ImportError, RuntimeError, OSError, AttributeError, TypeError) as problem:  # by another llvmlite
        _LOG.warning("The compiled CPU kernels are left out: %s", problem)
        return False
    if not error <= _TOLERANCE:
        _LOG.warning("The compiled CPU kernels are left out: they differ from float64 by %.1e", error)
        return False
    return True


def in_use() -> bool:
    """Whether the kernels have been asked for in this process, and can be used; compiles nothing."""
    return ready.cache_info().currsize > 0 and ready()


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Same-padding convolution of float32 (N, C, H, W) with (C, 1, kh, kw), in the layout of `x`."""
    return _convolve(_compile(), x, weight, bias, turned=False)


def input_grad(grad: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gradient to the input from float32 `grad` (N, C, H, W): the same kernel, which reads the filters backwards."""
    return _convolve(_compile(), grad, weight, bias, turned=True)


def weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    """Gradient (C, 1, kh, kw) to the filters from float32 input and output gradient (N, C, H, W)."""
    return _correlate(_compile(), x, grad, kernel_height, kernel_width)


def _convolve(kernels: _Kernels, x: Tensor, weight: Tensor, bias: Tensor | None, *, turned: bool) -> Tensor:
    x, weight = x.resolve_neg(), weight.resolve_neg()
    bias = None if bias is None else bias.resolve_neg().contiguous()
    n, channels, height, width = x.shape
    kernel_height, kernel_width = weight.shape[2:]
    first, (channel, _, row, column) = weight.data_ptr(), weight.stride()
    if turned:
        first += weight.element_size() * ((kernel_height - 1) * row + (kernel_width - 1) * column)
        row, column = -row, -column
    y = empty_output(x)
    maps = (x.data_ptr(), *x.stride(), y.data_ptr(), *y.stride())
    added = (0, 0) if bias is None else (bias.data_ptr(), 1)
    sizes = (n, channels, height, width, kernel_height, kernel_width)
    units = n * -(-channels // _LANES)
    _share(kernels.forward, (*maps, first, channel, row, column, *added, *sizes), units, _room(*sizes[2:]))
    return y


def _correlate(kernels: _Kernels, x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    x, grad = x.resolve_neg(), grad.resolve_neg()
    n, channels, height, width = x.shape
    taps = x.new_empty((channels, 1, kernel_height, kernel_width))
    maps = (x.data_ptr(), *x.stride(), grad.data_ptr(), *grad.stride())
    strides = (taps.data_ptr(), kernel_height * kernel_width, kernel_width, 1)
    sizes = (n, channels, height, width, kernel_height, kernel_width)
    _share(kernels.weight_grad, (*maps, *strides, *sizes), -(-channels // _LANES), _room(*sizes[2:]))
    return taps


def _room(height: int, width: int, kernel_height: int, kernel_width: int) -> int:
    """Numbers that a thread needs: a vector, the taps, the image with zeros around it, and one more map."""
    padded = (height + kernel_height - 1) * (width + kernel_width - 1)
    return _LANES * (1 + kernel_height * kernel_width + padded + height * width)


def _share(kernel: Kernel, arguments: tuple[int, ...], units: int, room: int) -> None:
    """Run the kernel over its units on as many threads as PyTorch uses."""
    workers = min(torch.get_num_threads(), units)

    def run(first: int, last: int) -> None:
        held = torch.empty(
            room, dtype=torch.float32, device="cpu"
        )  # aligned to 64 bytes, and alive until the kernel returns
        kernel(*arguments, first, last, held.data_ptr())

    if workers <= 1:
        run(0, units)
        return
    parts = min(units, _PARTS * workers)
    bounds = [units * part // parts for part in range(parts + 1)]
    for done in [_pool(workers).submit(run, *span) for span in pairwise(bounds)]:
        done.result()


@lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "depthwise")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


@cache
def _compile() -> _Kernels:
    import llvmlite.binding as llvm

    from replknet.ops.cpu.direct_code import build

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(build(_LANES, _COLUMNS))
    module.verify()
    features = llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(llvm.get_host_cpu_name(), features, opt=3)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False  # done by hand
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    forward_type = ctypes.CFUNCTYPE(None, *_MAPS, *_MAPS, *_TAPS, _POINTER, _INT, *_SIZES)
    gradient_type = ctypes.CFUNCTYPE(None, *_MAPS, *_MAPS, *_TAPS, *_SIZES)
    return _Kernels(
        forward_type(engine.get_function_address("forward")),
        gradient_type(engine.get_function_address("weight_grad")),
        engine,
    )


def _error(kernels: _Kernels) -> float:
    """Largest difference of the three kernels from PyTorch's convolution in float64, over the largest number there."""
    generator = torch.Generator().manual_seed(0)

    def noise(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float32, device="cpu")

    x, grad = noise(2, 11, 9, 20), noise(2, 11, 9, 20)
    weight, bias = noise(11, 1, 5, 7) / 6, noise(11)
    doubles = [t.double() for t in (x, grad, weight, bias)]
    padding, wanted = [2, 3], [True, True, False]
    expected = [F.conv2d(doubles[0], doubles[2], doubles[3], padding=padding, groups=11)]
    expected += torch.ops.aten.convolution_backward(
        doubles[1], doubles[0], doubles[2], None, [1, 1], padding, [1, 1], False, [0, 0], 11, wanted
    )[:2]
    found = [
        _convolve(kernels, x, weight, bias, turned=False),
        _convolve(kernels, grad.contiguous(memory_format=torch.channels_last), weight, None, turned=True),
        _correlate(kernels, x, grad, 5, 7),
    ]
    errors = [(a - b).abs().max() / b.abs().max() for a, b in zip(found, expected, strict=True)]
    return max(error.item() for error in errors)
