"""Check that the output for an image depends on that image alone.

It depends on more if the forward pass draws random numbers, keeps state from one pass to the next, or computes
something over the images of a batch (`x.mean(0)`, `F.batch_norm` with `training=True`). The map of an image would then
change from run to run, or with the batch size. A few forward passes on small noise images test this before the first
map of each batch size.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from erf.gradient.layers.chance import drawing, same_random_numbers, what_was_drawn
from erf.gradient.layers.find import output_of_layer
from erf.gradient.layers.known import drop_known, known_of
from erf.gradient.layers.layer import ForwardError, Layer, LayerError
from erf.gradient.layers.modules import modules_of
from erf.gradient.state import as_it_was

__all__ = ["UnsteadyForward", "check_again", "check_steady", "normalises_by_batch"]

_SIDE, _STRIDE = 64, 32  # size of small images; sides that differ by a multiple of the stride are padded alike
_ROUNDING = 1000.0  # in epsilons of the type: tolerance for the same output computed in another way
_MOST_ROUNDING = 0.05  # limit for types with few digits, and for another algorithm at another batch size
_RANDOM_TRIES = 3
_STEADY = "steady"
_CONTRASTS = (1.0, 3.0, 1.0)  # of the noise images; the largest value of a batch is then not in the first one


class UnsteadyForward(ValueError):
    """The output of a network for an image depends on more than it: on chance, earlier passes or other images."""


def normalises_by_batch(modules: Sequence[nn.Module]) -> bool:
    """Whether a normalisation uses the statistics of the batch even in eval mode. Images must then run one by one."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None for m in modules)


def check_again(model: nn.Module) -> None:
    """Let the next `check_steady` test a network again: something that its attributes do not show may have changed."""
    drop_known(model, _STEADY)


def check_steady(model: nn.Module, images: torch.Tensor, layer: Layer, *, by_batch: bool | None = None) -> None:
    """Test, once for each batch size, whether a layer's output for an image depends on that image alone.

    Args:
        model: In eval mode, unwrapped. It is left as it was found, and so are all random number generators.
        images: (N, C, H, W), of which only shape, type and device are used. A single image is tested in a batch of two.
        layer: The layer whose output is compared.
        by_batch: Whether the network `normalises_by_batch`; None to find out.

    Raises: UnsteadyForward if the output depends on anything else.
    """
    if by_batch is None:
        by_batch = normalises_by_batch(modules_of(model))
    count = 1 if by_batch else max(len(images), 2)
    found, key = known_of(model), (_STEADY, layer, count, images.shape[1:], images.dtype, images.device)
    if key in found:
        return
    with torch.no_grad(), torch.inference_mode(False), same_random_numbers(images.device):
        for size in _sizes(images.shape[2], images.shape[3]):
            try:
                _Passes(model, layer, images, size).check(count)
            except (ForwardError, LayerError):  # takes no such images; if it takes none at all, its map will fail
                continue
            found[key] = True
            return


def _sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Sizes of images to test: a small one, then that of the images."""
    small = tuple(min(side, _SIDE + side % _STRIDE) for side in (height, width))
    yield small[0], small[1]
    if small != (height, width):
        yield height, width


class _Passes:
    """Forward passes on noise images of one size, and the comparisons between them."""

    def __init__(self, model: nn.Module, layer: Layer, like: torch.Tensor, size: tuple[int, int]):
        self._model, self._layer, self._device = model, layer, like.device
        generator = torch.Generator().manual_seed(0)
        contrasts = torch.tensor(_CONTRASTS, dtype=torch.float32, device="cpu").view(-1, 1, 1, 1)
        shape = (len(_CONTRASTS), like.shape[1], *size)
        noise = contrasts * torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        self._images = noise.to(like).split(1)
        exact = _ROUNDING * torch.finfo(like.dtype).eps
        self._rounding = min(exact, _MOST_ROUNDING)

    def check(self, count: int) -> None:
        """Compare each image of a batch with the same image alone.

        Raises: UnsteadyForward; ForwardError and LayerError if the network does not take these images.
        """
        order = _order(count)
        alone = {}
        for i in sorted({*order[1:], 1}):  # image 0 last: state that it leaves behind shows in the others
            with as_it_was(self._model):
                alone[i] = self._run([i])
        with as_it_was(self._model):
            before = what_was_drawn(self._device)
            alone[0] = self._run([0])
            if what_was_drawn(self._device) != before:
                self._check_chance(alone[0])
            if len(alone[0]) != 1:  # its first dimension is not that of the images, so its map is refused later
                return
            batch = self._batch(order) if count > 1 else None
            if batch is None:
                self._check_repeated(alone, 0)
                self._check_repeated(alone, 1)
            else:
                self._check_batch(alone, batch, order)

    def _check_chance(self, alone: torch.Tensor) -> None:
        """Refuse a network whose output changes with the random numbers that it draws."""
        for which in ("smallest", "largest"):
            with drawing(which):
                self._refuse_another(alone, self._run([0]))
        for _ in range(_RANDOM_TRIES):
            self._refuse_another(alone, self._run([0]))

    def _check_repeated(self, alone: dict[int, torch.Tensor], which: int) -> None:
        """Refuse a network that gives another output for an image after other images have been run."""
        self._refuse_another(alone[which], self._run([which]))

    def _refuse_another(self, output: torch.Tensor, again: torch.Tensor) -> None:
        difference = _difference(output, again)
        if difference > self._rounding:
            raise UnsteadyForward(
                f"what the network gives for the same image changes {_by(difference)} from one forward pass to "
                "the next: leave out of it what is random, such as F.dropout with training=True or torch.rand, and "
                "what depends on earlier passes, such as a counter, a buffer that it updates, or features that it keeps"
            )

    def _check_batch(self, alone: dict[int, torch.Tensor], batch: list[torch.Tensor], order: Sequence[int]) -> None:
        """Refuse a network that gives another output for an image alone than for the same image in a batch."""
        differences = [_difference(alone[i], part) for i, part in zip(order, batch, strict=True)]
        largest = max(differences)
        if largest <= self._rounding:
            return
        for which in alone:  # does the difference come from state that earlier passes left behind?
            self._check_repeated(alone, which)
        # is it only rounding, since a batch is computed in another order, or more?
        apart = 0.0
        for kept in _halves(len(order)):
            others = [i if stays else (i + 1) % len(self._images) for i, stays in zip(order, kept, strict=True)]
            again = self._batch(others)
            if again is not None:
                apart = max(apart, *(_difference(batch[at], again[at]) for at, stays in enumerate(kept) if stays))
        if apart > self._rounding or largest > _MOST_ROUNDING:
            raise UnsteadyForward(
                f"what the network gives for an image changes {_by(max(apart, largest))} with the other images of "
                "its batch, and a contribution map is that of one image: leave out of its forward pass what runs over "
                "the images, such as x.mean(0) or F.batch_norm with training=True"
            )

    def _run(self, order: Sequence[int]) -> torch.Tensor:
        x = torch.cat([self._images[i] for i in order])
        autocast = torch.autocast(x.device.type, enabled=False)
        with autocast:
            return output_of_layer(self._model, x, self._layer)

    def _batch(self, order: Sequence[int]) -> list[torch.Tensor] | None:
        """The output of a batch, split into the parts of its images; None if the network does not take such a batch."""
        try:
            output = self._run(order)
        except (ForwardError, LayerError):
            return None
        return None if len(output) % len(order) else list(output.chunk(len(order)))


def _order(count: int) -> list[int]:
    """Indices of the noise images that fill a batch: first each of them once, then a random sequence of them."""
    kinds = len(_CONTRASTS)
    generator = torch.Generator().manual_seed(0)
    rest = torch.randint(0, kinds, (max(count - kinds, 0),), generator=generator, device="cpu").tolist()
    return [*range(kinds), *rest][:count]


def _halves(count: int) -> Iterator[list[bool]]:
    """Two choices of the images of a batch that stay while the others change: a random half, then its complement."""
    stays = (torch.rand(count, generator=torch.Generator().manual_seed(0), device="cpu") < 0.5).tolist()
    stays[:2] = True, False
    yield stays
    yield [not one for one in stays]


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative difference of two outputs where both are finite; infinite if their shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    a, b = a.double(), b.double()
    finite = a.isfinite() & b.isfinite()
    apart, size = (a - b)[finite].norm().item(), a[finite].norm().item()
    return apart / size if size else float(apart > 0)


def _by(difference: float) -> str:
    return "in shape" if difference == float("inf") else f"by {difference:.1%}"
