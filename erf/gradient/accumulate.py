"""The long part of a run: images through the network, one mean map out, with progress that survives an interruption.

Maps are added in float64 in the order of the images, one by one, whichever rank computed them: the sum depends neither
on the batch size nor on the number of ranks, and a run that is continued gives the same bits as an uninterrupted one.
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
    """State of a run after `done` images; never changed, only replaced, so that an interruption finds it whole.

    Attributes:
        total: float64 (H, W): sum of the maps so far.
        sums: Sums of each map that went in: what `erf.measures.sums` keeps of it.
        names: Names of the images those maps belong to, relative to the image folder.
        skipped: Images left out, and why.
        done: Images dealt with, skipped ones included.
        feature_size: (h, w) of the feature map; None before the first image.
        enough: Whether no more images are needed, as `accumulate` was asked by `until`.
        maps: Map of each image that went in, divided by its maximum, in float16; None unless they are kept.
        maxima: What these maps were divided by.
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
    """Images at a time that keep the device busy, or as many as fit into memory if these are fewer.

    On CPU this is one: the convolutions of a single image busy all cores. Measured on a black image.
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
        question: Which map is asked for.
        loop: How the images are gone through, what is gone on from, and what is kept; None for one by one, from the
            first, in this process alone.
        until: Stop at the first image, from the tenth on, after which the interval of the side that holds half of the
            contribution is narrower than this share of the side. The images then come in a shuffled order, the same
            every time, so that the first of them stand for all. None to take all images, in the order they have.
        keep_maps: Whether the map of each image is kept, too, in float16.

    Returns: The state after the last image (on rank 0). An unreadable image, or one whose gradient is not finite, is
        skipped and named in it.
    Raises: UserError if the layer does not exist, memory does not suffice for one image, or maps are to be kept and
        the progress that is gone on from has none.
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
    """What came of one image, step by step: its pixels, then its map; or the reason why there is none."""

    name: str
    reason: str = ""
    pixels: np.ndarray | None = None
    contribution: np.ndarray | None = None
    sums: MapSums | None = None
    feature_size: tuple[int, int] | None = None


def _read(path: Path, images: ImageSet, size: tuple[int, int], channels: int) -> _Outcome:
    pixels, reason = images.try_read(path, size, channels)
    return _Outcome(images.name_of(path), reason, pixels)


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


def _add(state: Progress, outcomes: Sequence[_Outcome], *, until: float | None) -> Progress:
    """The state after one more round, or after that image of it which is enough."""
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
            if until is not None and _suffices(sums, total.shape, until):
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


def _suffices(sums: Sequence[MapSums], shape: tuple[int, ...], until: float) -> bool:
    """Whether the interval over these images is narrower than the share `until` of the side."""
    if len(sums) < MIN_IMAGES:
        return False
    height, width = shape
    return is_narrow(half_side(np.concatenate([one.rings for one in sums]), (height, width)), until)


def pack(state: Progress) -> Packed:
    """The state of an unfinished run as its progress file holds it."""
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
    """The state that `pack` packed."""
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
