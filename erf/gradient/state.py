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

__all__ = ["SameBuffers", "StatisticsChanged", "as_it_was"]

_CONTAINERS = frozenset([dict, list, set, OrderedDict, defaultdict, deque])


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Restore module attributes that a forward pass writes, such as caches and counters, as well as buffers."""
    modules = modules_of(model)
    before = [(vars(module), _noted(module)) for module in modules]
    with SameBuffers(modules).during():
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


_Buffers = dict[str, torch.Tensor | None]


class SameBuffers:
    """Keeps the buffers of a network's modules as they are while the network runs, so that running statistics stay.

    The modules are listed once, because a traversal takes a noticeable part of the time of a small network's map.

    Args:
        modules: The modules of the network. None may be added, and none may get another buffer, between two passes.
    """

    def __init__(self, modules: Sequence[nn.Module]):
        self._scripted: list[torch.Tensor] = []
        self._norms: list[_Buffers] = []
        self._others: list[_Buffers] = []
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):
                self._scripted.extend(module.buffers(recurse=False))
            elif module._buffers:
                has_version = not any(buffer.is_inference() for buffer in _tensors(module._buffers))
                is_norm = type(module) in _NORMS and has_version
                (self._norms if is_norm else self._others).append(module._buffers)
        self._read: _Read | None = None  # buffers of normalisations, once known not to be written to
        self._seems_read: _Read | None = None  # the same after one pass, before their numbers are compared

    @contextmanager
    def during(self) -> Iterator[None]:
        """Run the modules on copies of their buffers inside this context. Results may be differentiated inside it.

        The buffers of scripted modules cannot be replaced, so they are restored after they were written to. The
        buffers of normalisations are not copied after a pass that did not write to them.

        Raises: StatisticsChanged if buffers that were not copied have been written to.
        """
        if self._seems_read is not None:
            self._read = self._seems_read if self._seems_read.is_unchanged() else None
            self._seems_read = None
        with ExitStack() as stack:
            for scripted in self._scripted:
                stack.enter_context(_same_values(scripted))
            if self._read is None:
                own = _all_tensors(self._norms)
                stack.enter_context(_copied([*self._norms, *self._others]))
                copies = _all_tensors(self._norms)
                yield
                replaced = [*map(id, _all_tensors(self._norms))] != [*map(id, copies)]
                if not replaced and not any(_versions(copies)):
                    self._seems_read = _Read(own, copies, _versions(own))
            else:
                stack.enter_context(_copied(self._others))
                with self._read.during():
                    yield


@dataclass(frozen=True)
class _Read:
    """Buffers that an earlier pass did not write to, copies of them, and their versions at that time."""

    buffers: list[torch.Tensor]
    copies: list[torch.Tensor]
    versions: list[int]

    def is_unchanged(self) -> bool:
        """Whether the numbers of the copies, which the pass used, are still those of the buffers.

        Some writes, such as `buffer.data.add_(1)`, leave the version as it is.
        """
        return _versions(self.buffers) == self.versions and all(map(_same, self.copies, self.buffers))

    @contextmanager
    def during(self) -> Iterator[None]:
        """Restore the buffers if they are written to inside this context.

        Raises: StatisticsChanged if they were.
        """
        before = _versions(self.buffers)
        if before != self.versions:  # the user has written to them
            self.copies[:] = [buffer.clone() for buffer in self.buffers]
            self.versions[:] = before
        try:
            yield
        finally:
            after = _versions(self.buffers)
            changed = [i for i in range(len(after)) if after[i] != before[i]] if after != before else []
            for i in changed:
                self.buffers[i].data.copy_(self.copies[i])
        if changed:
            raise StatisticsChanged("the network writes to running statistics, but not in each forward pass")


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())


@contextmanager
def _copied(of_modules: Sequence[_Buffers]) -> Iterator[None]:
    """Replace the buffers of modules by copies inside this context."""
    before = [dict(buffers) for buffers in of_modules]
    copies: dict[int, torch.Tensor] = {}
    for buffers in of_modules:
        for name, buffer in buffers.items():
            if buffer is not None:
                if id(buffer) not in copies:  # several modules may share a buffer
                    copies[id(buffer)] = buffer.clone()
                buffers[name] = copies[id(buffer)]
    try:
        yield
    finally:
        for buffers, old in zip(of_modules, before, strict=True):
            buffers.clear()
            buffers.update(old)


def _tensors(buffers: _Buffers) -> list[torch.Tensor]:
    return [buffer for buffer in buffers.values() if buffer is not None]


def _all_tensors(of_modules: Sequence[_Buffers]) -> list[torch.Tensor]:
    return [buffer for buffers in of_modules for buffer in _tensors(buffers)]


def _versions(tensors: Sequence[torch.Tensor]) -> list[int]:
    """The number of times that each tensor was written to."""
    return [tensor._version for tensor in tensors]


@contextmanager
def _same_values(buffer: torch.Tensor) -> Iterator[None]:
    kept = buffer.clone()
    try:
        yield
    finally:
        if not torch.equal(buffer, kept):
            buffer.data.copy_(kept)
