"""The long part of a run: images through the network, one mean map out, with progress that survives an interruption.

Maps are added in float64 in the order of the images, one by one, whichever rank computed them: the sum depends neither
on the batch size nor on the number of ranks, and a run that is continued gives the same bits as an uninterrupted one.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from erf.gradient.contribution import ForwardError, LayerError, NotDifferentiable, TrainModeError, central_gradients
from erf.gradient.images import ImageSet
from erf.gradient.lean.form import FastForm
from erf.gradient.positions import CENTRE, Position, align, centre_pixel
from erf.measures.sums import Centre, MapSums, map_sums, stack_sums
from replknet.zoo import Preprocessing
from runkit import UserError
from runkit.compute.memory import Batches, fitting_batch_size
from runkit.compute.ranks import World
from runkit.compute.rounds import run_rounds
from runkit.progress import SavedProgress, save_progress

__all__ = [
    "Progress",
    "accumulate",
    "choose_batch_size",
    "explained",
    "first_input",
    "restore_state",
    "save_state",
    "to_input",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """State of a run after `done` images; never changed, only replaced, so that an interruption finds it whole.

    Attributes:
        total: float64 (H, W): sum of the maps so far.
        sums: Of each map that went in: what `erf.measures.sums` keeps of it.
        names: Of the images those maps belong to, relative to the image folder.
        skipped: Images left out, with the reason: `{"image": ..., "reason": ...}`.
        done: Images dealt with, skipped ones included.
        batch_size: Images at a time, as the run was begun: sums of another batch size differ by rounding.
        feature_size: (h, w) of the feature map; None before the first image.
        seconds: Time spent so far, earlier parts of an interrupted run included.
    """

    total: np.ndarray
    sums: tuple[MapSums, ...] = ()
    names: tuple[str, ...] = ()
    skipped: tuple[dict[str, str], ...] = ()
    done: int = 0
    batch_size: int = 1
    feature_size: tuple[int, int] | None = None
    seconds: float = 0.0


def to_input(image: np.ndarray, preprocessing: Preprocessing) -> torch.Tensor:
    """Normalise an image: uint8 (H, W, 3) to float32 (3, H, W), by the same operations as torchvision's transforms."""
    pixels = torch.from_numpy(image).permute(2, 0, 1).to(torch.float32).div(255)
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, dtype=torch.float32).view(3, 1, 1)
    return pixels.sub(mean).div(std)


@contextmanager
def explained(label: str, size: tuple[int, int]) -> Iterator[None]:
    """Turn what a network says of a layer or of images that it does not take into a `UserError`."""
    try:
        yield
    except (LayerError, NotDifferentiable, TrainModeError) as error:
        raise UserError(f"{label}: {error}") from error
    except ForwardError as error:
        message = f"{label} cannot take images of {size[0]} × {size[1]} pixels: {error}; {error.hint}"
        raise UserError(message) from error


def first_input(images: ImageSet, preprocessing: Preprocessing, size: tuple[int, int]) -> tuple[str, torch.Tensor]:
    """Name of the first image that can be read, and the image as `to_input` makes it, (1, 3, H, W).

    Raises: UserError if none can be read.
    """
    reason = ""
    for path in images.paths:
        outcome = _read(path, images, size)
        if outcome.pixels is not None:
            return outcome.name, to_input(outcome.pixels, preprocessing)[None]
        reason = reason or f"{outcome.name}: {outcome.reason}"
    raise UserError(f"no image could be used ({reason})")


def choose_batch_size(
    model: torch.nn.Module | FastForm,
    size: tuple[int, int],
    *,
    layer: str | int = "last",
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> int:
    """Images at a time that keep the device busy, or as many as fit into memory if these are fewer.

    On CPU this is one: the convolutions of a single image busy all cores. Measured on a black image.
    """
    black = torch.zeros(1, 3, *size, device=device, dtype=dtype)
    limit = 32 if device.type == "cuda" else 1
    return fitting_batch_size(lambda: central_gradients(model, black, layer=layer), device, limit=limit)


def accumulate(
    model: torch.nn.Module | FastForm,
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    size: tuple[int, int],
    layer: str | int = "last",
    positions: Sequence[Position] = (CENTRE,),
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    batch_size: int = 1,
    world: World | None = None,
    progress: Progress | None = None,
    save: Callable[[Progress], None] = lambda progress: None,
    label: str = "",
) -> Progress:
    """Add up the contribution maps of images.

    Args:
        model: Network in eval mode, on `device`, in `dtype`.
        images: Files in the order in which they are added.
        preprocessing: The network's mean and standard deviation.
        size: (height, width) that images are resized to.
        layer: As for `erf.gradient.contribution.feature_map`.
        positions: Of the units; the maps of several are laid over each other and averaged (`positions.align`).
        memory_format: Layout of the images that the network runs fastest with.
        batch_size: Images that go through the network together; halved when memory does not suffice.
        world: Ranks that share the images; None for this process alone.
        progress: State to go on from.
        save: Called with the state every minute or ten batches, at the end, and when the run is interrupted.
        label: Name shown beside the progress bar (on stderr, with images per second and time left).

    Returns: The state after the last image (on rank 0). An unreadable image, or one whose gradient is not finite, is
        skipped and named in it.
    Raises: UserError if the layer does not exist, or memory does not suffice for one image.
    """
    begun = replace(progress or Progress(np.zeros(size)), batch_size=batch_size)
    started = time.monotonic()
    batches = Batches(batch_size, label)

    def read(paths: Sequence[Path]) -> list[_Outcome]:
        return [_read(path, images, size) for path in paths]

    def differentiate(outcomes: Sequence[_Outcome]) -> list[_Outcome]:
        x = torch.stack([to_input(outcome.pixels, preprocessing) for outcome in outcomes if outcome.pixels is not None])
        x = x.to(device=device, dtype=dtype).contiguous(memory_format=memory_format)
        with explained(label, size):
            parts = [central_gradients(model, x, layer=layer, position=position) for position in positions]
        feature_size = parts[0].feature_size
        maps, centre = _joined([part.maps.numpy() for part in parts], positions, feature_size, size)
        return [_judge(outcome.name, one, feature_size, centre) for outcome, one in zip(outcomes, maps, strict=True)]

    def work(outcomes: Sequence[_Outcome]) -> list[_Outcome]:
        readable = [outcome for outcome in outcomes if not outcome.reason]
        done = {outcome.name: outcome for outcome in batches.run(differentiate, readable)}
        return [done.get(outcome.name, outcome) for outcome in outcomes]

    return run_rounds(
        begun,
        images.paths,
        done=begun.done,
        batch_size=batch_size,
        world=world or World(),
        read=read,
        work=work,
        add=lambda state, outcomes: _add(state, outcomes, begun.seconds + time.monotonic() - started),
        save=save,
        label=label,
    )


@dataclass(frozen=True)
class _Outcome:
    """What came of one image, step by step: its pixels, then its map; or the reason why there is none."""

    name: str
    reason: str = ""
    pixels: np.ndarray | None = None
    contribution: np.ndarray | None = None
    sums: MapSums | None = None
    feature_size: tuple[int, int] | None = None


def _read(path: Path, images: ImageSet, size: tuple[int, int]) -> _Outcome:
    name = path.relative_to(images.root).as_posix()
    try:
        return _Outcome(name, pixels=images.read(path, size))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises
        return _Outcome(name, f"unreadable: {error}")


def _joined(
    maps: Sequence[np.ndarray], positions: Sequence[Position], feature_size: tuple[int, int], size: tuple[int, int]
) -> tuple[np.ndarray, Centre]:
    """One map for each image of a batch, and the pixel that it lies round."""
    centres = [centre_pixel(position, feature_size, size) for position in positions]
    if len(maps) == 1:
        return maps[0], centres[0]
    return align(maps, centres), (size[0] // 2, size[1] // 2)


def _judge(name: str, contribution: np.ndarray, feature_size: tuple[int, int], centre: Centre) -> _Outcome:
    if not np.isfinite(contribution).all():
        return _Outcome(name, "the gradient is not finite", feature_size=feature_size)
    return _Outcome(name, contribution=contribution, sums=map_sums(contribution, centre), feature_size=feature_size)


def _add(state: Progress, outcomes: Sequence[_Outcome], seconds: float) -> Progress:
    """The state after one more round."""
    total, sums, names, skipped = state.total, list(state.sums), list(state.names), list(state.skipped)
    feature_size = state.feature_size
    for outcome in outcomes:
        feature_size = outcome.feature_size or feature_size
        if outcome.contribution is None or outcome.sums is None:
            _logger.warning("skipped %s: %s", outcome.name, outcome.reason)
            skipped.append({"image": outcome.name, "reason": outcome.reason})
        else:
            total = total + outcome.contribution
            sums.append(outcome.sums)
            names.append(outcome.name)
    return replace(
        state,
        total=total,
        sums=tuple(sums),
        names=tuple(names),
        skipped=tuple(skipped),
        done=state.done + len(outcomes),
        feature_size=feature_size,
        seconds=seconds,
    )


def save_state(state: Progress, path: Path, identity: dict[str, Any]) -> None:
    """Write the state of an unfinished run, whole or not at all."""
    sums = stack_sums(state.sums).as_arrays("image_") if state.sums else {}
    head = {
        "names": state.names,
        "skipped": state.skipped,
        "done": state.done,
        "batch_size": state.batch_size,
        "feature_size": state.feature_size,
        "seconds": state.seconds,
    }
    save_progress(path, identity, {"total": state.total, **sums}, head)


def restore_state(saved: SavedProgress) -> Progress:
    """The state that `save_state` wrote."""
    head = saved.head
    return Progress(
        total=saved.arrays["total"],
        sums=tuple(MapSums.from_arrays(saved.arrays, "image_").of_each()) if head["names"] else (),
        names=tuple(head["names"]),
        skipped=tuple(head["skipped"]),
        done=head["done"],
        batch_size=head["batch_size"],
        feature_size=tuple(head["feature_size"]) if head["feature_size"] else None,
        seconds=head["seconds"],
    )
