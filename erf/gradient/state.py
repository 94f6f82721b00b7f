"""Restore the state of a network: undo whatever its forward pass writes to modules."""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from erf.gradient.layers.modules import modules_of

__all__ = ["as_it_was", "same_buffers"]

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


@contextmanager
def same_buffers(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Run the modules of a network on copies of their buffers inside this context, so that running statistics stay.

    The result may be differentiated inside the context. The buffers of scripted modules cannot be replaced, so they are
    restored after they were written to.
    """
    copies: dict[int, torch.Tensor] = {}
    changed: list[tuple[dict[str, torch.Tensor | None], dict[str, torch.Tensor | None]]] = []
    with ExitStack() as stack:
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):
                for scripted in module.buffers(recurse=False):
                    stack.enter_context(_same_values(scripted))
            elif module._buffers:
                changed.append((module._buffers, dict(module._buffers)))
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        if id(buffer) not in copies:  # several modules may share a buffer
                            copies[id(buffer)] = buffer.clone()
                        module._buffers[name] = copies[id(buffer)]
        try:
            yield
        finally:
            for buffers, own in changed:
                buffers.clear()
                buffers.update(own)


@contextmanager
def _same_values(buffer: torch.Tensor) -> Iterator[None]:
    kept = buffer.clone()
    try:
        yield
    finally:
        if not torch.equal(buffer, kept):
            buffer.data.copy_(kept)
