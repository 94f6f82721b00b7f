"""Follow fields through a network: run it once on a tensor without data and intercept every function that it calls.

PyTorch exposes the functions that are called from Python. Functions that it runs without exposing them (scripted
functions, kernels that call other kernels) are detected one level lower. The field of their results is then unknown.
"""

import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from erf.gradient.fields.field import UNKNOWN, Field, image_field
from erf.gradient.fields.rules import Call, field_of_result
from erf.gradient.image_type import image_type
from erf.gradient.state import as_it_was

__all__ = ["DataDependent", "field_of", "follow", "is_following"]

_Result = TypeVar("_Result")
_NAME = "_receptive_field"
_following: ContextVar[bool] = ContextVar("following", default=False)


class DataDependent(Exception):
    """The path that a network takes depends on its data."""


def field_of(tensor: torch.Tensor) -> Field | None:
    """What a tensor sees of the image, while `follow` runs; None if the tensor does not depend on the image."""
    return getattr(tensor, _NAME, None)


def is_following() -> bool:
    """Whether `follow` is running."""
    return _following.get()


def follow(
    model: nn.Module,
    run: Callable[[torch.Tensor], _Result],
    shape: tuple[int, int, int, int],
    dtype: torch.dtype | None = None,
) -> _Result:
    """Run a network on an image without data, so that `field_of` knows what its tensors see.

    Args:
        model: Network in eval mode; left as it was found.
        run: Receives the image (N, C, H, W), runs the network and reads the fields of the tensors of interest.
        shape: Shape of the image.
        dtype: Data type of the image; None for that of the network.

    Raises: DataDependent if the path of the network depends on its data; any error that `run` raises.
    """
    weight = next(iter([*model.parameters(), *model.buffers()]), torch.empty(0))
    quiet = _quiet("torch._subclasses.fake_tensor")
    randomness = torch.random.fork_rng([weight.device] if weight.device.type == "cuda" else [])
    mode = _WithoutData()
    x = mode.image(shape, weight, dtype or image_type(model))
    token = _following.set(True)
    with quiet, as_it_was(model), randomness, torch.no_grad(), mode, _Unseen(), _Watch():
        setattr(x, _NAME, image_field((shape[2], shape[3])))
        try:
            return run(x)
        except Exception as error:
            if any(isinstance(e, (DataDependentOutputException, DynamicOutputShapeException)) for e in _causes(error)):
                raise DataDependent from error
            raise
        finally:
            _following.reset(token)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence a logger of PyTorch, which reports errors before they are raised."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _WithoutData(FakeTensorMode):
    """Computes what depends on the image without data, and everything else as usual.

    What a network stores outside of its modules, such as a table of coordinates that a function caches, is then as
    valid as after any other forward pass.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._begun = False

    def image(self, shape: tuple[int, ...], like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The input of the network: an image without data."""
        with self:
            image = torch.empty(shape, device=like.device, dtype=dtype)
        self._begun = True
        return image

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._begun and not any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if func is torch.ops.aten.native_batch_norm.default and not args[5]:  # index 5: training
            return self._normalized(types, args[0])
        result: Any = super().__torch_dispatch__(func, types, args, kwargs)
        fill = _FILLED.get(func._schema.name)
        if fill is None or result.numel() > _MOST_FILLED:
            return result
        real = torch.empty_strided(result.shape, result.stride(), dtype=result.dtype, device=result.device)
        return real.fill_(fill(args, kwargs))

    def _normalized(self, types: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What batch normalisation in eval mode returns, without PyTorch's own steps in Python: the shape is known.

        These steps take some 20 ms per layer, which was half of the time that a network needed to start.
        """
        y: Any = super().__torch_dispatch__(torch.ops.aten.empty_like.default, types, (x,), {})
        statistics: Any = super().__torch_dispatch__(torch.ops.aten.new_empty.default, types, (x, [0]), {})
        return y, statistics, statistics


_FILLED: dict[str, Callable[[Any, Any], Any]] = {  # functions that use only a tensor's shape, and their fill values
    **dict.fromkeys(["aten::zeros_like", "aten::new_zeros", "aten::empty_like", "aten::new_empty"], lambda *_: 0),
    **dict.fromkeys(["aten::ones_like", "aten::new_ones"], lambda *_: 1),
    "aten::full_like": lambda args, kwargs: args[1] if len(args) > 1 else kwargs["fill_value"],
    "aten::new_full": lambda args, kwargs: args[2] if len(args) > 2 else kwargs["fill_value"],
}
_MOST_FILLED = 1 << 24  # elements; larger tensors are not tables, and leaving them without data saves memory


class _Watch(TorchFunctionMode):
    """Follows fields through every function of PyTorch that is called."""

    def __init__(self) -> None:
        super().__init__()
        self._sharing: dict[int, list[weakref.ref[torch.Tensor]]] = {}
        self._written: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no other tensor gets the same address

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        before = {id(tensor): self._field_of(tensor) for tensor in given}
        result = func(*args, **kwargs)
        name, in_place = _name_of(func)
        written = given[0] if given else None
        leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        call = Call(name, tuple(args), kwargs, result, lambda tensor: before.get(id(tensor)))
        if name == "setitem" and written is not None:
            had = before[id(written)]
            if call.seeing:
                self._write(
                    written, Field(had.axes if had else None, None, UNKNOWN + "a part of a tensor is written to")
                )
            return result
        if not leaves:
            return result
        field = field_of_result(call)
        if kwargs.get("out") is not None and field is not None:
            field = field.unknown("a result that is written into another tensor")
        if in_place and written is not None:
            self._write(written, field)
        elif not in_place:
            for leaf in leaves:
                self._set(leaf, field)
        return result

    def _field_of(self, tensor: torch.Tensor) -> Field | None:
        """The field of a tensor; unknown for a tensor without one whose memory was written to through a view."""
        field = field_of(tensor)
        if field is None and self._written and _memory_of(tensor) in self._written:
            return Field(None, None, UNKNOWN + "a part of a tensor is written to")
        return field

    def _set(self, tensor: torch.Tensor, field: Field | None) -> None:
        if field is None:
            if field_of(tensor) is not None:
                delattr(tensor, _NAME)
            return
        if field.axes is not None and not field.axes.fits(tensor.shape):
            field = field.unknown("positions are rearranged")
        setattr(tensor, _NAME, field)
        self._sharing.setdefault(_memory_of(tensor), []).append(weakref.ref(tensor))

    def _write(self, tensor: torch.Tensor, field: Field | None) -> None:
        """Record that a tensor was written to, and with it all tensors that share its memory."""
        self._set(tensor, field)
        if field is not None:
            self._written[_memory_of(tensor)] = tensor.untyped_storage()
        for reference in self._sharing.get(_memory_of(tensor), []):
            other = reference()
            if other is None or other is tensor:
                continue
            had = field_of(other)
            if had is not None and field is not None and (had.reach, had.reason) == (field.reach, field.reason):
                continue
            setattr(other, _NAME, Field(had.axes if had else None, None, UNKNOWN + "a part of a tensor is written to"))


def _memory_of(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _name_of(func: Any) -> tuple[str, bool]:
    """A function's name, the same for its in-place and operator forms, and whether it writes to its first argument."""
    name = getattr(func, "__name__", str(func))
    if name == "__get__":  # an attribute, such as x.T
        return str(getattr(getattr(func, "__self__", None), "__name__", name)), False
    bare = name.strip("_")
    dunder = name.startswith("__")
    return bare, name in _WRITING or (name.endswith("_") and not dunder)


_WRITING = frozenset(["__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ipow__"])


class _Unseen(TorchDispatchMode):
    """Marks the results of functions that PyTorch does not expose as unknown; `_Watch` corrects those that it saw."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        fields = [
            field
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor) and (field := field_of(leaf)) is not None
        ]
        if fields:
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    setattr(leaf, _NAME, Field(None, None, UNKNOWN + "a function that PyTorch does not show"))
        return result
