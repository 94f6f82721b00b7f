"""Compile, load and launch CUDA C++ by calling NVRTC and the CUDA driver through ctypes; no CUDA toolkit is needed.

NVRTC is installed with CUDA builds of PyTorch, as one of NVIDIA's wheels. Compiling needs no GPU, so a test can check
that a kernel compiles for every architecture; loading and launching need the driver.
"""

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

__all__ = ["KernelUnavailable", "compile_source", "find_nvrtc", "launch", "load_function", "supported_architectures"]

_MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class KernelUnavailable(RuntimeError):
    """A kernel cannot be compiled, loaded or launched on this machine; the message says which step failed and why."""


@lru_cache(maxsize=1)
def find_nvrtc() -> str | None:
    """Return the path of the NVRTC library in NVIDIA's wheels, else the system's library; None if there is neither."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        found = sorted(path for path in Path(folder).glob("*/lib/libnvrtc.so*") if "builtins" not in path.name)
        if found:
            return str(found[-1])
    return ctypes.util.find_library("nvrtc")


@lru_cache(maxsize=1)
def _nvrtc() -> ctypes.CDLL:
    path = find_nvrtc()
    if path is None:
        raise KernelUnavailable("NVRTC is not installed; PyTorch's CUDA wheels bring it as nvidia-cuda-nvrtc")
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise KernelUnavailable(f"NVRTC at {path} cannot be loaded: {error}") from error


def supported_architectures() -> list[str]:
    """List the real architectures that this NVRTC compiles for, such as ["sm_80", "sm_90"].

    Raises: KernelUnavailable.
    """
    library, count = _nvrtc(), ctypes.c_int()
    _expect(library.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "number of architectures")
    numbers = (ctypes.c_int * count.value)()
    _expect(library.nvrtcGetSupportedArchs(numbers), "architectures")
    return [f"sm_{number}" for number in numbers]


def compile_source(source: str, *, architecture: str, defines: Sequence[str] = ()) -> bytes:
    """Compile CUDA C++ `source` to machine code (cubin).

    Args:
        source: Translation unit without includes.
        architecture: Real architecture, such as "sm_90".
        defines: Macros as "NAME" or "NAME=value".
    Raises: KernelUnavailable with the compiler's log.
    """
    library = _nvrtc()
    program = ctypes.c_void_p()
    options = [f"--gpu-architecture={architecture}", "--std=c++17", *(f"-D{define}" for define in defines)]
    arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    _expect(
        library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"depthwise.cu", 0, None, None), "create"
    )
    try:
        status = library.nvrtcCompileProgram(program, len(options), arguments)
        if status:
            size = ctypes.c_size_t()
            library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
            log = ctypes.create_string_buffer(max(1, size.value))
            library.nvrtcGetProgramLog(program, log)
            raise KernelUnavailable(f"NVRTC error {status} for {architecture}: {log.value.decode(errors='replace')}")
        size = ctypes.c_size_t()
        _expect(library.nvrtcGetCUBINSize(program, ctypes.byref(size)), "size of the machine code")
        image = ctypes.create_string_buffer(size.value)
        _expect(library.nvrtcGetCUBIN(program, image), "machine code")
        return image.raw
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


@lru_cache(maxsize=1)
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise KernelUnavailable(f"the CUDA driver cannot be loaded: {error}") from error


@lru_cache(maxsize=16)
def _primary_context(device: int) -> ctypes.c_void_p:
    """The context that PyTorch uses on a device; retained for the lifetime of the process, as PyTorch does."""
    context = ctypes.c_void_p()
    _expect(_driver().cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "primary context")
    return context


def load_function(image: bytes, name: str, *, device: int, shared_bytes: int) -> ctypes.c_void_p:
    """Load machine code on a device and let `name` use `shared_bytes` of dynamic shared memory.

    Raises: KernelUnavailable.
    """
    driver = _driver()
    _expect(driver.cuCtxSetCurrent(_primary_context(device)), "current context")
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    _expect(driver.cuModuleLoadData(ctypes.byref(module), image), "load")
    _expect(driver.cuModuleGetFunction(ctypes.byref(function), module, name.encode()), f"find {name}")
    _expect(driver.cuFuncSetAttribute(function, _MAX_DYNAMIC_SHARED, shared_bytes), f"{shared_bytes} shared bytes")
    return function


def launch(
    function: ctypes.c_void_p,
    arguments: Sequence[ctypes._SimpleCData],
    *,
    grid: tuple[int, int],
    threads: int,
    shared_bytes: int,
    device: int,
    stream: int,
) -> None:
    """Queue a kernel on a stream.

    Raises: KernelUnavailable if the driver refuses the launch. Later errors appear at the next synchronisation.
    """
    driver = _driver()
    _expect(driver.cuCtxSetCurrent(_primary_context(device)), "current context")
    pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
    status = driver.cuLaunchKernel(
        function, grid[0], grid[1], 1, threads, 1, 1, shared_bytes, ctypes.c_void_p(stream), pointers, None
    )
    _expect(status, "launch")


def _expect(status: int, step: str) -> None:
    if status:
        raise KernelUnavailable(f"CUDA error {status} at: {step}")
