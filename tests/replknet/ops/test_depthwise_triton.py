"""The Triton kernel, run by Triton's interpreter on the CPU, and compiled to machine code for Hopper without a GPU."""

import importlib.util
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

INTERPRETED = """
import torch
from replknet.ops import depthwise_conv2d_reference
from replknet.ops.cuda import triton_kernels

tolerance = {torch.float32: (1e-5, 1e-5), torch.float16: (1e-3, 1e-3), torch.bfloat16: (8e-3, 1e-3)}
generator = torch.Generator().manual_seed(3)
cases = 0
for dtype, (rtol, atol) in tolerance.items():
    shapes = [(1, 1, 7, 7, 3, 3), (2, 3, 7, 7, 13, 13), (1, 1, 20, 33, 5, 51)]
    if dtype == torch.float32:  # the types differ in loads and stores only, and the interpreter is slow
        shapes += [(1, 1, 33, 20, 51, 5), (1, 1, 33, 40, 31, 31), (2, 1, 14, 14, 27, 27)]
    for n, c, h, w, kh, kw in shapes:
        x = torch.randn(n, c, h, w, generator=generator).to(dtype)
        weight = (torch.randn(c, 1, kh, kw, generator=generator) / (kh * kw) ** 0.5).to(dtype)
        bias = torch.randn(c, generator=generator).to(dtype) if cases % 2 else None
        y = triton_kernels.forward(x, weight, bias)
        expected = depthwise_conv2d_reference(x.double(), weight.double(), None if bias is None else bias.double())
        torch.testing.assert_close(y, expected.to(dtype), rtol=rtol, atol=atol)
        cases += 1
print("cases", cases)
"""

PROVEN = """
import torch
from replknet.ops.cuda import proof, triton_kernels

x, weight, bias = torch.zeros(1, 2, 14, 17), torch.zeros(2, 1, 7, 5), torch.zeros(2)
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    arguments = (x.to(dtype), weight.to(dtype), bias.to(dtype))
    proof.prove("Triton", triton_kernels.forward, *arguments)
    try:
        proof.prove("wrong", lambda x, w, b: triton_kernels.forward(x, w.flip(2), b), *arguments)
    except proof.WrongResult as error:
        print(str(error).split(" differs")[0])
"""

COMPILED = """
import inspect

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from replknet.ops.cuda.triton_kernels import _row_toeplitz

for kind, upcast in (("fp32", False), ("bf16", False), ("fp16", False)):
    signature = {name: f"*{kind}" for name in ("x_pointer", "w_pointer", "bias_pointer", "y_pointer")}
    signature |= {name: "i32" for name in ("channels", "height", "width", "tiles_x")}
    constants = dict(KH=31, KW=31, HAS_BIAS=True, PRECISION="ieee", UPCAST=upcast, ROWS=32, COLS=32, DEPTH=32)
    if "constexprs" in inspect.signature(ASTSource).parameters:
        signature |= {name: "constexpr" for name in constants}
        source = ASTSource(fn=_row_toeplitz, signature=signature, constexprs=constants)
    else:  # Triton 3.2, of PyTorch 2.6
        source = ASTSource(fn=_row_toeplitz, signature=signature, constants=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert compiled.asm["cubin"][:4] == b"\\x7fELF"
    if kind != "fp32":
        assert "mma" in compiled.asm["ptx"], "no tensor instruction"
print("compiled")
"""


def run(code: str, **environment: str) -> str:
    """Standard output of a new Python process, because TRITON_INTERPRET is read when Triton is imported."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_interpreted():
    assert run(INTERPRETED, TRITON_INTERPRET="1").strip() == "cases 12"


def test_proves_itself():
    said = run(PROVEN, TRITON_INTERPRET="1").splitlines()
    assert said == [f"a kernel of 7 x 5 in {dtype}" for dtype in ("float32", "float16", "bfloat16")]


def test_compiles_for_hopper(tmp_path):
    assert run(COMPILED, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path)).strip() == "compiled"
