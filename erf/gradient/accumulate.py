"""The long part of a run: turns images into one mean map, and keeps progress that survives an interruption.

Maps are added in float64, one by one and in the order of the images, whichever rank computed them. The sum therefore
depends neither on the batch size nor on the number of ranks, and a resumed run gives the same bits as an uninterrupted
one.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from erf.gradient.contribution import central_gradients
from erf.gradient.images import ImageSet
from erf.gradient.positions import Position, align, centre_pixel
from erf.gradient.precision import arithmetic, number_type
from erf.gradient.ready import Question, ReadyNetwork, explained
from erf.measures.centred import CentredSquares
from erf.measures.stopping import half_side, is_narrow, shuffled
from erf.measures.sums import Centre, MapSums, map_sums, stack_sums
from erf.results.content import SkippedImage
from erf.results.single_maps import scaled_half
from erf.until import MIN_IMAGES
from runkit import UserError
from runkit.compute.memory import fitting_batch_size
from runkit.compute.rounds import Loop, Packed
from runkit.progress import SavedProgress

__all__ = ["Progress", "accumulate", "choose_batch_size", "pack", "unpack"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """State of a run after `done` images. It is replaced, never modified: an interruption finds it complete.

    Attributes:
        total: float64 (H, W): sum of the maps so far.
        sums: Statistics of each map that was added, as `erf.measures.sums` defines them.
        names: Names of the images that were added, relative to the image folder.
        skipped: Images that were left out, with the reasons.
        done: Number of images processed, including skipped ones.
        feature_size: (h, w) of the feature map; None before the first image.
        enough: Whether no more images are needed, by the criterion `until` of `accumulate`.
        maps: The map of each added image, divided by its maximum, in float16; None unless maps are kept.
        maxima: The maxima by which these maps were divided.
    """

    total: np.ndarray
    sums: tuple[MapSums, ...] = ()
    names: tuple[str, ...] = ()
    skipped: tuple[SkippedImage, ...] = ()
    done: int = 0
    feature_size: tuple[int, int] | None = None
    enough: bool = False
    maps: tuple[np.ndarray, ...] | None = None
    maxima: tuple[float, ...] = ()


def choose_batch_size(ready: ReadyNetwork, question: Question) -> int:
    """The batch size that keeps the device busy, or the largest one that fits into memory if that is smaller.

    On a CPU it is 1, because the convolutions of a single image already use all cores. It is measured on a black image.
    """
    black = torch.zeros(
        1, ready.preprocessing.channels, *question.size, device=ready.device, dtype=number_type(ready.precision)
    )
    limit = 32 if ready.device.type == "cuda" else 1
    return fitting_batch_size(
        lambda: central_gradients(ready.network, black, layer=question.layer), ready.device, limit=limit
    )


def accumulate(
    ready: ReadyNetwork,
    images: ImageSet,
    question: Question,
    loop: Loop | None = None,
    *,
    until: float | None = None,
    keep_maps: bool = False,
) -> Progress:
    """Add up the contribution maps of images.

    Args:
        ready: The network.
        images: Files in the order in which they are added.
        question: Which map to compute.
        loop: How to go through the images, which progress to resume from and what to save. None processes the images
            one by one, from the first, in this process alone.
        until: Stop at the first image, from the tenth on, after which the confidence interval of the side that holds
            half of the contribution is narrower than this share of the side. The images are then taken in a shuffled
            order, the same every time, so that the first ones represent all of them. None takes all images in their
            given order.
        keep_maps: Whether to keep the map of each image as well, in float16.

    Returns: The state after the last image (on rank 0). An image that is unreadable, or whose gradient is not finite,
        is skipped and listed there.
    Raises: UserError if the layer does not exist, memory does not suffice for one image, or maps are to be kept but the
        progress to resume from has none.
    """
    loop = loop or Loop(ready.label)
    size, positions = question.size, question.positions
    begun = unpack(loop.saved) if loop.saved else Progress(np.zeros(size), maps=())
    if keep_maps and begun.maps is None:
        raise UserError(
            f"{ready.label}: the interrupted run did not keep the maps of its images; go on without --keep-maps and "
            "--overlay, or start again with --overwrite"
        )
    begun = begun if keep_maps else replace(begun, maps=None, maxima=())

    def read(paths: Sequence[Path]) -> list[_Outcome]:
        return [_read(path, images, size, ready.preprocessing.channels) for path in paths]

    def differentiate(outcomes: Sequence[_Outcome]) -> list[_Outcome]:
        readable = [outcome for outcome in outcomes if outcome.pixels is not None]
        if not readable:
            return list(outcomes)
        x = ready.to_batch([outcome.pixels for outcome in readable if outcome.pixels is not None])
        with explained(ready.label, size):
            parts = [central_gradients(ready.network, x, layer=question.layer, position=one) for one in positions]
        feature_size = parts[0].feature_size
        maps, centre = _joined([part.maps.numpy() for part in parts], positions, feature_size, size)
        judged = {
            outcome.name: _judge(outcome.name, one, feature_size, centre)
            for outcome, one in zip(readable, maps, strict=True)
        }
        return [judged.get(outcome.name, outcome) for outcome in outcomes]

    def fitting() -> int:
        with explained(ready.label, size):
            return choose_batch_size(ready, question)

    with arithmetic(ready.precision):
        return loop.run(
            begun,
            images.paths if until is None else [images.paths[index] for index in shuffled(len(images.paths))],
            done=begun.done,
            read=read,
            work=differentiate,
            add=partial(_add, until=until),
            pack=pack,
            fitting=fitting,
            enough=None if until is None else lambda state: state.enough,
        )


@dataclass(frozen=True)
class _Outcome:
    """An image on its way through the run: first its pixels, then its map, or the reason why it has none."""

    name: str
    reason: str = ""
    pixels: np.ndarray | None = None
    contribution: np.ndarray | None = None
    sums: MapSums | None = None
    feature_size: tuple[int, int] | None = None
    centre: Centre | None = None


def _read(path: Path, images: ImageSet, size: tuple[int, int], channels: int) -> _Outcome:
    pixels, reason = images.try_read(path, size, channels)
    return _Outcome(images.name_of(path), reason, pixels)


def _joined(
    maps: Sequence[np.ndarray], positions: Sequence[Position], feature_size: tuple[int, int], size: tuple[int, int]
) -> tuple[np.ndarray, Centre]:
    """One map for each image of a batch, averaged over the positions, and the pixel that the map is centred on."""
    centres = [centre_pixel(position, feature_size, size) for position in positions]
    if len(maps) == 1:
        return maps[0], centres[0]
    return align(maps, centres), (size[0] // 2, size[1] // 2)


def _judge(name: str, contribution: np.ndarray, feature_size: tuple[int, int], centre: Centre) -> _Outcome:
    if not np.isfinite(contribution).all():
        return _Outcome(name, "the gradient is not finite", feature_size=feature_size)
    sums = map_sums(contribution, centre)
    return _Outcome(name, contribution=contribution, sums=sums, feature_size=feature_size, centre=centre)


def _add(state: Progress, outcomes: Sequence[_Outcome], *, until: float | None) -> Progress:
    """The state after another round; where `until` is met, after the image that met it."""
    total, sums, names, skipped = state.total, list(state.sums), list(state.names), list(state.skipped)
    feature_size, enough, dealt = state.feature_size, state.enough, 0
    maps, maxima = list(state.maps or ()), list(state.maxima)
    for outcome in outcomes:
        dealt += 1
        feature_size = outcome.feature_size or feature_size
        if outcome.contribution is None or outcome.sums is None:
            _logger.warning("skipped %s: %s", outcome.name, outcome.reason)
            skipped.append({"image": outcome.name, "reason": outcome.reason})
        else:
            total = total + outcome.contribution
            sums.append(outcome.sums)
            names.append(outcome.name)
            if state.maps is not None:
                half, largest = scaled_half(outcome.contribution)
                maps.append(half)
                maxima.append(largest)
            if until is not None and _suffices(sums, CentredSquares.around(total.shape, outcome.centre), until):
                enough = True
                break
    return replace(
        state,
        total=total,
        sums=tuple(sums),
        names=tuple(names),
        skipped=tuple(skipped),
        done=state.done + dealt,
        feature_size=feature_size,
        enough=enough,
        maps=None if state.maps is None else tuple(maps),
        maxima=tuple(maxima),
    )


def _suffices(sums: Sequence[MapSums], squares: CentredSquares, until: float) -> bool:
    """Whether the confidence interval over these images is narrower than the share `until` of the side."""
    if len(sums) < MIN_IMAGES:
        return False
    return is_narrow(half_side(np.concatenate([one.rings for one in sums]), squares), until)


def pack(state: Progress) -> Packed:
    """The state of an unfinished run, in the form in which its progress file stores it."""
    sums = stack_sums(state.sums).as_arrays("image_") if state.sums else {}
    head = {
        "names": state.names,
        "skipped": state.skipped,
        "done": state.done,
        "feature_size": state.feature_size,
        "enough": state.enough,
    }
    kept = {"maps": np.stack(state.maps), "maxima": np.array(state.maxima)} if state.maps else {}
    return {"total": state.total, **sums, **kept}, head


def unpack(saved: SavedProgress) -> Progress:
    """The inverse of `pack`."""
    head = saved.head
    return Progress(
        total=saved.arrays["total"],
        sums=tuple(MapSums.from_arrays(saved.arrays, "image_").of_each()) if head["names"] else (),
        names=tuple(head["names"]),
        skipped=tuple(head["skipped"]),
        done=head["done"],
        feature_size=tuple(head["feature_size"]) if head["feature_size"] else None,
        enough=head.get("enough", False),
        maps=tuple(saved.arrays["maps"]) if "maps" in saved.arrays else None if head["names"] else (),
        maxima=tuple(saved.arrays["maxima"].tolist()) if "maps" in saved.arrays else (),
    )
