"""Restore the state of a network: undo whatever its forward pass writes to modules."""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import nn

from erf.gradient.layers.modules import modules_of

__all__ = ["StatisticsChanged", "as_it_was", "same_buffers"]

_CONTAINERS = frozenset([dict, list, set, OrderedDict, defaultdict, deque])


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Restore module attributes that a forward pass writes, such as caches and counters, as well as buffers."""
    modules = modules_of(model)
    before = [(vars(module), _noted(module)) for module in modules]
    with same_buffers(modules):
        try:
            yield
        finally:
            for own, noted in before:
                for name in [name for name in own if name not in noted]:
                    del own[name]
                for name, (value, content) in noted.items():
                    own[name] = value
                    if content is not None and (content or value):
                        _refill(value, content)


def _noted(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """The attributes of a module, each with a copy of its contents if it is a container."""
    return {
        name: (value, (value.copy() if value else ()) if type(value) in _CONTAINERS else None)
        for name, value in vars(module).items()
    }


def _refill(container: Any, content: Any) -> None:
    """Restore the contents of a dictionary, list, set or queue in place, since others may hold a reference to it."""
    container.clear()
    if isinstance(container, (list, deque)):
        container.extend(content)
    else:
        container.update(content)


_NORMS = frozenset([nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d])
"""Modules that in eval mode read their buffers and write nothing. Code of other modules may still write to them."""


class StatisticsChanged(RuntimeError):
    """Running statistics were written to, although an earlier pass of the same network did not do so."""


@dataclass
class BufferUse:
    """What a network did with its buffers.

    Attributes:
        norms_written: Whether buffers of normalisations were written to.
    """

    norms_written: bool = False


@contextmanager
def same_buffers(modules: Sequence[nn.Module], *, norms_are_read: bool = False) -> Iterator[BufferUse]:
    """Run the modules of a network on copies of their buffers inside this context, so that running statistics stay.

    The result may be differentiated inside the context. The buffers of scripted modules cannot be replaced, so they are
    restored after they were written to.

    Args:
        norms_are_read: Whether an earlier pass wrote to no buffer of a normalisation. They are then not copied, which
            takes a tenth of the time of a small network's map.

    Raises: StatisticsChanged if buffers that were not copied have been written to.
    """
    copies: dict[int, torch.Tensor] = {}
    changed: list[tuple[dict[str, torch.Tensor | None], dict[str, torch.Tensor | None]]] = []
    norms: list[tuple[torch.Tensor, int]] = []  # tensors that should not be written to, with their versions
    with ExitStack() as stack:
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):
                for scripted in module.buffers(recurse=False):
                    stack.enter_context(_same_values(scripted))
            elif module._buffers:
                is_norm = type(module) in _NORMS
                own = [buffer for buffer in module._buffers.values() if buffer is not None]
                if is_norm and norms_are_read and not any(buffer.is_inference() for buffer in own):
                    norms.extend([(buffer, buffer._version) for buffer in own])
                    continue
                changed.append((module._buffers, dict(module._buffers)))
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        if id(buffer) not in copies:  # several modules may share a buffer
                            copies[id(buffer)] = buffer.clone()
                        module._buffers[name] = copies[id(buffer)]
                        if is_norm:
                            norms.append((copies[id(buffer)], 0))
        use = BufferUse()
        try:
            yield use
        finally:
            use.norms_written = any(buffer._version != version for buffer, version in norms)
            for buffers, before in changed:
                buffers.clear()
                buffers.update(before)
    if norms_are_read and use.norms_written:
        raise StatisticsChanged("the network writes to running statistics, but not in each forward pass")


@contextmanager
def _same_values(buffer: torch.Tensor) -> Iterator[None]:
    kept = buffer.clone()
    try:
        yield
    finally:
        if not torch.equal(buffer, kept):
            buffer.data.copy_(kept)
