"""What a network gives for an image has to be settled by that image alone.

It is not where the forward pass draws random numbers, goes on counting, or computes something over the images of a
batch (`x.mean(0)`, `F.batch_norm` with `training=True`): then a map would be another one the next time, or with another
batch size. A few forward passes on small images of noise tell, before the first map.
"""

from collections.abc import Iterator

import torch
from torch import nn

from erf.gradient.layers.find import output_of_layer
from erf.gradient.layers.known import known_of
from erf.gradient.layers.layer import ForwardError, Layer, LayerError
from erf.gradient.state import as_it_was

__all__ = ["UnsteadyForward", "check_steady", "normalises_by_batch"]

_SIDE, _STRIDE = 64, 32  # of small images; sides that differ by a multiple of the stride are padded alike
_ROUNDING = 1000.0  # epsilons of the type: by so much the same output may differ where it is computed otherwise
_MOST_ROUNDING = 0.05  # of types with few digits, and of another algorithm for another batch size
_RANDOM_TRIES = 3
_LOUDER = 3.0  # times the contrast of the image beside it: the largest value of a batch is then not in the first image


class UnsteadyForward(ValueError):
    """What a network gives for an image depends on more than that image: chance, earlier passes, or other images."""


def normalises_by_batch(model: nn.Module) -> bool:
    """Whether a normalisation takes its statistics from the batch, even in eval mode; then images run one by one."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None for m in model.modules())


def check_steady(model: nn.Module, images: torch.Tensor, layer: Layer) -> None:
    """Try once whether a layer's output is settled by each image alone.

    Args:
        model: In eval mode, unwrapped; left as it was found, as are PyTorch's random numbers.
        images: (N, C, H, W), of which only shape, type and device are used.
        layer: The layer whose output is compared.

    Raises: UnsteadyForward if it is not.
    """
    found, key = known_of(model), ("steady", layer, images.shape[1:], images.dtype, images.device)
    if key in found:
        return
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.no_grad(), torch.inference_mode(False), as_it_was(model), torch.random.fork_rng(devices):
        for size in _sizes(images.shape[2], images.shape[3]):
            try:
                _Passes(model, layer, images, size).check()
            except (ForwardError, LayerError):  # it takes no such images; if it takes none, its map will say so
                continue
            found[key] = True
            return


def _sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Sizes of images to try: a small one, then that of the images."""
    small = tuple(min(side, _SIDE + side % _STRIDE) for side in (height, width))
    yield small[0], small[1]
    if small != (height, width):
        yield height, width


class _Passes:
    """Forward passes of one size, and what they tell."""

    def __init__(self, model: nn.Module, layer: Layer, like: torch.Tensor, size: tuple[int, int]):
        self._model, self._layer, self._like = model, layer, like
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(3, like.shape[1], *size, generator=generator).to(like)
        self._first, self._second, self._third = noise[:1], _LOUDER * noise[1:2], noise[2:]
        exact = _ROUNDING * torch.finfo(like.dtype).eps
        self._rounding = min(exact, _MOST_ROUNDING)

    def check(self) -> None:
        """Raises: UnsteadyForward; ForwardError and LayerError if the network does not take these images."""
        state = _random_state(self._like.device)
        alone = self._run(self._first)
        drawn = any(
            not torch.equal(before, now) for before, now in zip(state, _random_state(self._like.device), strict=True)
        )
        alone_only = normalises_by_batch(self._model)
        pair = None if alone_only else self._pair(self._second)
        if pair is None or drawn:
            self._check_repeated(alone, _RANDOM_TRIES if drawn else 1)
        if not alone_only:
            self._check_beside(alone, pair, at=0)
            self._check_beside(alone, self._pair(self._second, at=1), at=1)

    def _check_beside(self, alone: torch.Tensor, pair: torch.Tensor | None, at: int) -> None:
        """Whether an image gives the same alone as in a pair, at its place there."""
        if pair is None or (difference := _difference(alone, pair)) <= self._rounding:
            return
        # by rounding, since a pair is computed in another order, or by more?
        self._check_repeated(alone, 1)
        other = self._pair(self._third, at)
        if other is not None:
            apart = _difference(pair, other)
            if apart > self._rounding or difference > _MOST_ROUNDING:
                raise UnsteadyForward(
                    f"what the network gives for an image changes by {max(apart, difference):.1%} with the other "
                    "images of its batch, and a contribution map is that of one image: leave out of its forward pass "
                    "what runs over the images, such as x.mean(0) or F.batch_norm with training=True"
                )

    def _check_repeated(self, alone: torch.Tensor, times: int) -> None:
        for _ in range(times):
            difference = _difference(alone, self._run(self._first))
            if difference > self._rounding:
                raise UnsteadyForward(
                    f"what the network gives for the same image changes by {difference:.1%} from one forward pass to "
                    "the next: leave out of it what is random, such as F.dropout with training=True or torch.rand, and "
                    "what depends on earlier passes, such as a buffer or a counter that it updates"
                )

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        autocast = torch.autocast(x.device.type, enabled=False)
        with autocast:
            return output_of_layer(self._model, x.clone(), self._layer)

    def _pair(self, beside: torch.Tensor, at: int = 0) -> torch.Tensor | None:
        """The part of the first image in the output for it and another one; None if the network takes no pairs.

        Args:
            at: Its place in the pair, 0 or 1.
        """
        try:
            output = self._run(torch.cat([beside, self._first] if at else [self._first, beside]))
        except (ForwardError, LayerError):
            return None
        half, rest = divmod(len(output), 2)
        return None if rest else output[at * half : (at + 1) * half]


def _random_state(device: torch.device) -> list[torch.Tensor]:
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.random.get_rng_state(), *cuda]


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative difference of two outputs where both are finite; infinite if they are not of one shape."""
    if a.shape != b.shape:
        return float("inf")
    a, b = a.double(), b.double()
    finite = a.isfinite() & b.isfinite()
    apart, size = (a - b)[finite].norm().item(), a[finite].norm().item()
    return apart / size if size else float(apart > 0)
