"""The CUDA kernels of the depthwise convolution, compiled for each architecture and emulated on the CPU.

The emulation compiles the same source as NVRTC, but as plain C++. The threads of a block are coroutines that switch at
every barrier, and the tensor instruction follows the table of fragments in the PTX manual. This tests indices, borders
and layouts, but not speed. `test_on_a_gpu.py` runs the kernels themselves.
"""

import ctypes
import importlib.util
import logging
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from replknet.ops import depthwise_conv2d_reference
from replknet.ops.cuda import kernels as cuda
from replknet.ops.cuda import nvrtc
from replknet.ops.cuda.source import DEVICE_HEADER, SOURCE

# as in test_depthwise.py; tf32 keeps 10 bits of each factor, so a sum of deviation 1 is off by about 2^-11
TOLERANCE = {
    0: {"rtol": 1e-5, "atol": 1e-5},
    1: {"rtol": 1e-3, "atol": 1e-3},
    2: {"rtol": 8e-3, "atol": 1e-3},
    3: {"rtol": 2e-3, "atol": 5e-3},
}
DTYPES = {0: torch.float32, 1: torch.float16, 2: torch.bfloat16, 3: torch.float32}

# (N, C, H, W, kh, kw): borders in every direction, several tiles, maps smaller than the kernel, rectangular kernels
SHAPES = [
    (1, 1, 7, 7, 3, 3),
    (3, 5, 7, 7, 13, 13),
    (1, 2, 33, 70, 31, 31),
    (2, 3, 14, 14, 27, 27),
    (1, 1, 66, 20, 51, 5),
    (1, 2, 20, 33, 5, 51),
    (1, 1, 40, 40, 63, 63),
]

EMULATION = r"""
#include <ucontext.h>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#define EMULATE
#define __device__
#define __global__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(n)
struct Index { unsigned x, y; };
struct alignas(16) float4 { float x, y, z, w; };
static Index threadIdx, blockIdx;
static unsigned char* emulated_shared;
#define SHARED_MEMORY(name) unsigned char* name = emulated_shared

static std::vector<ucontext_t> contexts;
static ucontext_t scheduler;
static unsigned current;
static void barrier() { swapcontext(&contexts[current], &scheduler); }  // all threads reach the same barriers
static void __syncthreads() { barrier(); }

static float half_to_float(unsigned short v) { _Float16 h; memcpy(&h, &v, 2); return (float)h; }
static unsigned short float_to_half(float v) {
  _Float16 h = (_Float16)v;
  unsigned short u;
  memcpy(&u, &h, 2);
  return u;
}
static unsigned round_to_tf32(float v) { unsigned u; memcpy(&u, &v, 4); return (u + 0x1000u) & 0xffffe000u; }
static float as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }

struct Operands { unsigned a[4], b[2]; };
static Operands operands[1024];
static float element(unsigned word, int part) {
#if SCALAR == 3
  return as_float(word);
#else
  unsigned short v = part ? word >> 16 : word & 0xffff;
#if SCALAR == 1
  return half_to_float(v);
#else
  return as_float((unsigned)v << 16);
#endif
#endif
}
// D = A B + D of one warp, A 16 x DEPTH by rows, B DEPTH x 8 by columns, spread over the lanes as the PTX manual says
static void mma_sync(float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  operands[threadIdx.x] = {{a0, a1, a2, a3}, {b0, b1}};
  barrier();
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x - lane;
#if SCALAR == 3
  const int depth = 8, pack = 1;
#else
  const int depth = 16, pack = 2;
#endif
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + 8 * (e / 2), col = lane % 4 * 2 + e % 2;
    float sum = d[e];
    for (int k = 0; k < depth; ++k) {
      const int half = k / (4 * pack), within = k % (4 * pack);
      const Operands& of_a = operands[warp + row % 8 * 4 + within / pack];
      const Operands& of_b = operands[warp + col * 4 + within / pack];
      sum += element(of_a.a[row / 8 + 2 * half], within % pack) * element(of_b.b[half], within % pack);
    }
    d[e] = sum;
  }
  barrier();
}
"""

DRIVER = r"""
static void (*body)();
static std::vector<char> finished;
static void enter() { body(); finished[current] = 1; swapcontext(&contexts[current], &scheduler); }

static const scalar *arg_x, *arg_w, *arg_bias;
static scalar* arg_y;
static i64 arg_planes;
static int arg_channels, arg_height, arg_width, arg_tiles_x;
static void call() {
  KERNEL(arg_x, arg_w, arg_bias, arg_y, arg_planes, arg_channels, arg_height, arg_width, arg_tiles_x);
}

extern "C" int run(const void* x, const void* w, const void* bias, void* y, i64 planes, int channels, int height,
                   int width, int tiles_x, int grid_x, int grid_y, int threads, int shared_bytes) {
  arg_x = (const scalar*)x; arg_w = (const scalar*)w; arg_bias = (const scalar*)bias; arg_y = (scalar*)y;
  arg_planes = planes; arg_channels = channels; arg_height = height; arg_width = width; arg_tiles_x = tiles_x;
  body = call;
  const size_t guard = 4096, stack = 1 << 17;
  unsigned char* memory = (unsigned char*)aligned_alloc(4096, (shared_bytes + 2 * guard + 4095) / 4096 * 4096);
  std::vector<char> stacks(threads * stack);
  int broken = 0;
  for (int by = 0; by < grid_y; ++by)
    for (int bx = 0; bx < grid_x; ++bx) {
      memset(memory, 0xff, shared_bytes + guard);  // NaN wherever nothing is written
      emulated_shared = memory;
      contexts.assign(threads, ucontext_t());
      finished.assign(threads, 0);
      for (int t = 0; t < threads; ++t) {
        getcontext(&contexts[t]);
        contexts[t].uc_stack.ss_sp = &stacks[t * stack];
        contexts[t].uc_stack.ss_size = stack;
        makecontext(&contexts[t], enter, 0);
      }
      for (int left = threads; left > 0;) {
        left = 0;
        for (int t = 0; t < threads; ++t) {
          if (finished[t]) continue;
          current = t;
          threadIdx = {(unsigned)t, 0};
          blockIdx = {(unsigned)bx, (unsigned)by};
          swapcontext(&scheduler, &contexts[t]);
          left += !finished[t];
        }
      }
      for (size_t i = 0; i < guard; ++i) broken |= memory[shared_bytes + i] != 0xff;  // wrote past its shared memory
    }
  free(memory);
  return broken;
}
"""


def tile_for(scalar: int, shape: tuple[int, ...]) -> cuda.Tile:
    n, c, h, w, kh, kw = shape
    kh, kw = min(kh, 2 * h - 1), min(kw, 2 * w - 1)
    return cuda.choose_tile(scalar, tensor_cores=scalar != 0, planes=n * c, height=h, width=w, kh=kh, kw=kw)


def emulate(tile: cuda.Tile, x: Tensor, weight: Tensor, bias: Tensor | None, folder: Path) -> Tensor:
    """Run the CUDA source of a tile on CPU tensors."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed: the emulation compiles the CUDA source as C++")
    source = folder / "kernel.cpp"
    source.write_text(EMULATION + SOURCE + f"#define KERNEL {tile.kernel}\n" + DRIVER)
    library = folder / "kernel.so"
    command = [compiler, "-O1", "-std=c++17", "-w", "-shared", "-fPIC", str(source), "-o", str(library)]
    subprocess.run([*command, *(f"-D{define}" for define in tile.defines)], check=True, capture_output=True)
    n, c, h, w = x.shape
    y = torch.full_like(x, float("nan"))
    tiles_x, tiles_y = -(-w // tile.columns), -(-h // tile.rows)
    broken = ctypes.CDLL(str(library)).run(
        *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in (x, weight, bias, y)),
        ctypes.c_longlong(n * c),
        *(ctypes.c_int(v) for v in (c, h, w, tiles_x, -(-n * c // tile.planes), tiles_x * tiles_y)),
        *(ctypes.c_int(v) for v in (tile.threads, tile.shared_bytes)),
    )
    assert not broken, "the kernel wrote past the shared memory it asked for"
    return y


@pytest.mark.parametrize("tensor_cores", [False, True], ids=["direct", "mma"])
@pytest.mark.parametrize("scalar", [0, 1, 2, 3], ids=["float32", "float16", "bfloat16", "tf32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_emulated_kernels(shape, scalar, tensor_cores, tmp_path):
    if (scalar == 0 and tensor_cores) or (scalar == 3 and not tensor_cores):
        pytest.skip("float32 has the direct kernel only, tf32 the tensor cores only")
    if not tensor_cores and scalar in (1, 2) and shape[4] not in (13, 31):
        pytest.skip("the direct kernel differs between types in loads and stores only")
    n, c, h, w, kh, kw = shape
    kh, kw = min(kh, 2 * h - 1), min(kw, 2 * w - 1)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n, c, h, w, generator=generator).to(DTYPES[scalar])
    weight = (torch.randn(c, 1, kh, kw, generator=generator) / (kh * kw) ** 0.5).to(DTYPES[scalar])
    bias = torch.randn(c, generator=generator).to(DTYPES[scalar]) if scalar % 2 == 0 else None
    tile = cuda.choose_tile(scalar, tensor_cores=tensor_cores, planes=n * c, height=h, width=w, kh=kh, kw=kw)
    y = emulate(tile, x, weight, bias, tmp_path)
    expected = depthwise_conv2d_reference(x.double(), weight.double(), None if bias is None else bias.double())
    torch.testing.assert_close(y, expected.to(y.dtype), **TOLERANCE[scalar])


@pytest.mark.skipif(nvrtc.find_nvrtc() is None, reason="NVRTC is not installed")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("scalar", [0, 1, 2, 3], ids=["float32", "float16", "bfloat16", "tf32"])
def test_nvrtc_compiles(scalar, architecture):
    if architecture not in nvrtc.supported_architectures():
        pytest.skip(f"this NVRTC is older than {architecture}: 12.8 and newer know sm_100")
    for shape in [(64, 128, 56, 56, 31, 31), (64, 512, 14, 14, 27, 27), (1, 128, 256, 256, 31, 31)]:
        tile = tile_for(scalar, shape)
        image = nvrtc.compile_source(DEVICE_HEADER + SOURCE, architecture=architecture, defines=tile.defines)
        assert image[:4] == b"\x7fELF"
        assert tile.kernel.encode() in image


def disassembler() -> Path | None:
    """NVIDIA's disassembler, which is part of Triton's wheel."""
    spec = importlib.util.find_spec("triton")
    found = spec and Path(spec.origin).parent / "backends/nvidia/bin/nvdisasm"
    return found if found and found.exists() else None


@pytest.mark.skipif(nvrtc.find_nvrtc() is None, reason="NVRTC is not installed")
@pytest.mark.skipif(disassembler() is None, reason="Triton's copy of nvdisasm is not installed")
@pytest.mark.parametrize(("scalar", "products", "loads"), [(0, ("FFMA", 992), 42), (2, ("HMMA", 96), 92)])
def test_machine_code_is_as_designed(scalar, products, loads, tmp_path):
    """31×31 on Hopper: the inner loop has the intended numbers of products and shared loads, and spills no register.

    On tensor cores, the loop handles four filter rows, 8 apart: 24 products each, 60 loads of input and 24 of filters.
    """
    tile = tile_for(scalar, (1, 128, 256, 256, 31, 31))
    image = tmp_path / "kernel.cubin"
    image.write_bytes(nvrtc.compile_source(DEVICE_HEADER + SOURCE, architecture="sm_90", defines=tile.defines))
    listing = subprocess.run([disassembler(), image], capture_output=True, encoding="utf-8", check=True).stdout
    mnemonics = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\d+ )?([A-Z0-9]+)", listing, re.M)
    assert mnemonics.count(products[0]) == products[1]
    assert mnemonics.count("LDS") <= loads
    assert mnemonics.count("LDL") == mnemonics.count("STL") == 0


@pytest.mark.skipif(nvrtc.find_nvrtc() is None, reason="NVRTC is not installed")
def test_nvrtc_reports_what_is_wrong():
    with pytest.raises(nvrtc.KernelUnavailable, match=r"NVRTC error .* for sm_90.*identifier"):
        nvrtc.compile_source("__global__ void f() { nonsense(); }", architecture="sm_90")


def test_tiles_cover_the_map_and_fit_the_hardware():
    for scalar in (0, 1, 2, 3):
        for h, w in ((3, 3), (7, 7), (14, 14), (28, 28), (56, 56), (256, 256), (130, 33)):
            for kh, kw in ((13, 13), (31, 31), (51, 5), (63, 63)):
                tile = tile_for(scalar, (64, 128, h, w, kh, kw))
                assert tile.threads <= 256
                assert tile.shared_bytes <= 99 << 10, (tile, h, w)  # the smallest limit since sm_80
                assert tile.rows >= min(h, 16)
                assert tile.columns >= min(w, 8)


def test_failing_kernels_fall_back_with_one_warning(monkeypatch, caplog):
    """The launcher on CPU tensors: both kernels fail, PyTorch computes the output, each failure is reported once."""

    def fail(*_: Tensor) -> Tensor:
        raise nvrtc.KernelUnavailable("no such kernel")

    monkeypatch.setattr(cuda, "_left_out", set())
    monkeypatch.setattr(cuda, "_forward_nvrtc", fail)
    monkeypatch.setattr(cuda, "_forward_triton", fail)
    x, weight = torch.randn(1, 3, 20, 20), torch.randn(3, 1, 7, 7)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            y = cuda.forward(x, weight, None)
    torch.testing.assert_close(y, depthwise_conv2d_reference(x, weight), rtol=1e-5, atol=1e-5)
    assert [re.search(r"its (\w+) kernels", r.message).group(1) for r in caplog.records] == ["NVRTC", "Triton"]


def test_weight_gradient_in_chunks(monkeypatch):
    """The Fourier path of the CUDA weight gradient, on CPU tensors, with a chunk of one image."""
    x, grad = torch.randn(3, 2, 9, 11), torch.randn(3, 2, 9, 11)
    expected = torch.ops.replknet.depthwise_conv2d_weight_grad(x.double(), grad.double(), 13, 5)
    monkeypatch.setattr(cuda, "_SPECTRUM_NUMBERS", 1)
    torch.testing.assert_close(cuda.weight_grad(x, grad, 13, 5).double(), expected, rtol=1e-4, atol=1e-4)
