"""A network is left as it was found: what its forward pass writes to modules is put back."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["as_it_was", "same_buffers"]


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Put attributes of modules back that a forward pass writes, such as caches and counters, and buffers as well."""

    def copied(value: Any) -> Any:
        return type(value)(value) if type(value) in (dict, list, set) else value

    before = [(m, {name: copied(value) for name, value in vars(m).items()}) for m in model.modules()]
    with same_buffers(model):
        try:
            yield
        finally:
            for module, attributes in before:
                own = vars(module)
                for name in [name for name in own if name not in attributes]:
                    del own[name]
                for name, value in attributes.items():
                    held = own.get(name)
                    if type(value) in (dict, list, set) and type(held) is type(value):
                        _refill(held, value)
                    else:
                        own[name] = value


def _refill(container: Any, value: Any) -> None:
    """Give a dictionary, list or set its old contents, without making another of it: others may hold it."""
    container.clear()
    if isinstance(container, list):
        container.extend(value)
    else:
        container.update(value)


@contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """While it lasts, a network runs on copies of its buffers, so that running statistics and the like do not change.

    What was computed may be differentiated while it lasts. Scripted modules keep their buffers to themselves: theirs
    are put back where they were written to.
    """
    copies: dict[int, torch.Tensor] = {}
    changed: list[tuple[dict[str, torch.Tensor | None], dict[str, torch.Tensor | None]]] = []
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                for scripted in module.buffers(recurse=False):
                    stack.enter_context(_same_values(scripted))
            elif module._buffers:
                changed.append((module._buffers, dict(module._buffers)))
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        if id(buffer) not in copies:  # several modules may share it
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
