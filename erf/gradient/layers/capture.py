"""Capturing the output of a submodule while its network runs."""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import nn

from erf.gradient.layers.layer import ForwardError, Layer, LayerError
from erf.gradient.layers.modules import modules_of, parameters_of

__all__ = [
    "capture",
    "clean_name",
    "eager",
    "find_module",
    "is_eager",
    "refuse_unfinished",
    "select",
    "some_names",
    "unwrapped",
]

_INPUT = "in"
_WRAPPER = "_orig_mod"


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside wrappers such as `torch.compile` and DataParallel."""
    while True:
        if hasattr(model, _WRAPPER):
            model = getattr(model, _WRAPPER)
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


def refuse_unfinished(model: nn.Module, modules: Sequence[nn.Module]) -> None:
    """Refuse a network whose parameters have no shape until its first forward pass (`nn.LazyConv2d`).

    Args:
        modules: The modules of the network, as `modules_of` returns them.

    Raises: ForwardError.
    """
    unfinished = nn.parameter.UninitializedParameter
    if any(isinstance(parameter, unfinished) for parameter in parameters_of(modules)):
        name = next(name for name, parameter in model.named_parameters() if isinstance(parameter, unfinished))
        raise ForwardError(f"its parameter {name!r} has no shape yet", "run the network once on some images")


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Run compiled modules uncompiled inside this context, so that their hooks are called."""
    modules = modules_of(model)
    compiled = [m for m in modules if _is_compiled(m)]
    implementations = [m._compiled_call_impl for m in compiled]
    for module in compiled:
        module._compiled_call_impl = None
    try:
        with torch.compiler.set_stance("force_eager") if _are_wrapped(modules) else nullcontext():
            yield
    finally:
        for module, implementation in zip(compiled, implementations, strict=True):
            module._compiled_call_impl = implementation


def is_eager(modules: Sequence[nn.Module]) -> bool:
    """Whether no module of a network is compiled, so that the network runs in the same way inside of `eager`."""
    return not any(map(_is_compiled, modules)) and not _are_wrapped(modules)


def _is_compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None


def _are_wrapped(modules: Sequence[nn.Module]) -> bool:
    """Whether `torch.compile` compiled one of the modules; avoids `hasattr`, which raises exceptions on modules."""
    if "torch._dynamo" not in sys.modules:
        return False
    types = {type(module) for module in modules}
    return any(hasattr(one, _WRAPPER) for one in types) or any(
        _WRAPPER in module._modules or _WRAPPER in vars(module) for module in modules
    )


def clean_name(name: str) -> str:
    """A module's name without the parts that `torch.compile` adds."""
    return ".".join(part for part in name.split(".") if part != _WRAPPER)


def find_module(model: nn.Module, name: str) -> nn.Module | None:
    """Find a submodule by its name, with or without the names of wrappers; '' is the network itself."""
    module: nn.Module | None = model
    for part in name.split(".") if name else ():
        module = module._modules[part] if module is not None and part in module._modules else None
    if module is not None:
        return module
    modules = dict(model.named_modules(remove_duplicate=False))
    if name in modules:
        return modules[name]
    clean = {clean_name(full): module for full, module in modules.items()}
    wanted = clean_name(name)
    return clean.get(wanted, clean.get(wanted.removeprefix("module.")))


def some_names(model: nn.Module) -> str:
    """Some of the submodules' names, for messages."""
    names = [name for name, _ in model.named_modules() if name]
    shown = [name for name in names if name.count(".") <= 1] or names
    return ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")


class _Stop(BaseException):
    """The requested output was captured. Not an `Exception`, since a network might catch that."""


def capture(model: nn.Module, run: Callable[[], object], layer: Layer) -> Any:
    """Capture the output or the input of a submodule in a forward pass. It is copied at once, as it may be overwritten.

    Args:
        model: The network, unwrapped.
        run: Runs the network. It is stopped as soon as the call that `layer` names has finished.
        layer: A layer that names a submodule.

    Returns: A tensor, or tensors in dictionaries and lists.
    Raises: LayerError if there is no such module, it is never called, or it is called several times and `layer` does
        not say which call is meant.
    """
    module = find_module(model, layer.module)
    if module is None or layer.name == "":
        raise LayerError(f"layer {layer.name!r}: there is no such module; there are {some_names(model)}")
    if isinstance(module, torch.jit.ScriptModule):
        raise LayerError(
            f"layer {layer.name!r} is scripted, so its output cannot be captured; use the network without scripting"
        )
    wanted = layer.call
    if wanted is not None and wanted < 0:
        with torch.no_grad():
            count = len(_shapes(module, run))
        wanted += count
        if wanted < 0:
            raise LayerError(
                f"layer {layer.module!r} runs {count} times in a forward pass; there is no call {layer.call}"
            )
    kept: list[Any] = []
    shapes: list[str] = []

    def keep(value: Any) -> None:
        shapes.append(_shape_of(value))
        if len(shapes) - 1 == (wanted or 0):
            kept.append(_copied(value))
            if wanted is not None:
                raise _Stop

    with _hooked(module, keep, of_input=layer.keys[:1] == (_INPUT,)), suppress(_Stop):
        run()
    if not shapes:
        raise LayerError(f"layer {layer.module!r} was not run by the network's forward pass")
    if not kept:
        raise LayerError(_no_such_call(layer, len(shapes)))
    if wanted is None and len(shapes) > 1:
        given = ", ".join(shapes[:6]) + (", ..." if len(shapes) > 6 else "")
        raise LayerError(
            f"layer {layer.module!r} runs {len(shapes)} times in a forward pass (it gives {given}); say which by "
            f"call=0 to call={len(shapes) - 1} (--call)"
        )
    return kept[0]


def _no_such_call(layer: Layer, count: int) -> str:
    return f"layer {layer.module!r} runs {count} times in a forward pass; there is no call {layer.call}"


def _shapes(module: nn.Module, run: Callable[[], object]) -> list[str]:
    shapes: list[str] = []
    with _hooked(module, lambda value: shapes.append(_shape_of(value)), of_input=False):
        run()
    return shapes


@contextmanager
def _hooked(module: nn.Module, keep: Callable[[Any], None], *, of_input: bool) -> Iterator[None]:
    """Inside this context, pass each output of a module, or its first argument, to `keep`."""
    if of_input:
        handle = module.register_forward_pre_hook(
            lambda module, args, kwargs: keep(next(iter([*args, *kwargs.values()]), None)), with_kwargs=True
        )
    else:
        handle = module.register_forward_hook(lambda module, args, output: keep(output))
    try:
        yield
    finally:
        handle.remove()


def _copied(value: Any) -> Any:
    """Copies of the tensors in an output, in plain dictionaries and lists."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if (entries := _entries(value)) is not None:
        return {key: _copied(entry) for key, entry in entries.items()}
    return value


def _entries(value: Any) -> dict[str, Any] | None:
    """The entries of an output by key or index; None if it has none."""
    if isinstance(value, Mapping):
        return {str(key): entry for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return {str(i): entry for i, entry in enumerate(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def select(output: Any, layer: Layer) -> Any:
    """The entry of an output that a layer names; if it names none, the only tensor in the output.

    Raises: LayerError if there is no such entry, or no entry is named and there are several tensors.
    """
    keys = layer.keys[1:] if layer.keys[:1] == (_INPUT,) else layer.keys
    for depth, key in enumerate(keys):
        entries = _entries(output)
        at = ":".join([layer.module, *keys[:depth]])
        if entries is None:
            raise LayerError(f"layer {at!r} gives {_shape_of(output)}, which has no entry {key!r}")
        if key not in entries and key.lstrip("-").isdigit() and -len(entries) <= int(key) < len(entries):
            key = list(entries)[int(key)]
        if key not in entries:
            raise LayerError(f"layer {at!r} gives no {key!r}; there are {_choices(output, at)}")
        output = entries[key]
    tensors = dict(_tensors(output, ":".join([layer.module, *keys])))
    if isinstance(output, torch.Tensor) or not tensors:
        return output
    if len(tensors) > 1:
        raise LayerError(f"layer {layer.name!r} gives several tensors; name one: {_choices(output, layer.name)}")
    return next(iter(tensors.values()))


def _tensors(output: Any, at: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(output, torch.Tensor):
        yield at, output
    for key, entry in (_entries(output) or {}).items():
        yield from _tensors(entry, f"{at}:{key}")


def _choices(output: Any, at: str) -> str:
    found = [f"{name} {tuple(tensor.shape)}" for name, tensor in _tensors(output, at)]
    return ", ".join(found[:8]) + (", ..." if len(found) > 8 else "") if found else _shape_of(output)


def _shape_of(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__
