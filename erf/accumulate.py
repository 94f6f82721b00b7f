"""The long part of a run: images through the network, one mean map out, with progress that survives an interruption.

Maps are added in float64 in the order of the images, one by one, so the sum does not depend on the batch size, and a
run that is continued gives the same bits as one that was never interrupted.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from erf.contribution import LayerError, central_gradients
from erf.images import ImageSet, read_image
from erf.sums import MapSums, map_sums, stack_sums
from replknet.zoo import Preprocessing
from runkit import UserError, atomic_write, list_differences, read_arrays

__all__ = ["Progress", "accumulate", "load_progress", "save_progress", "to_input"]

_logger = logging.getLogger(__name__)
_SAVE_EVERY_SECONDS = 60.0
_SAVE_EVERY_BATCHES = 10


@dataclass(frozen=True)
class Progress:
    """State of a run after `done` images; never changed, only replaced, so that an interruption finds it whole.

    Attributes:
        total: float64 (H, W): sum of the maps so far.
        sums: Of each map that went in: what `erf.sums` keeps of it.
        names: Of the images those maps belong to, relative to the image folder.
        skipped: Images left out, with the reason: `{"image": ..., "reason": ...}`.
        done: Images dealt with, skipped ones included.
        feature_size: (h, w) of the feature map; None before the first image.
        seconds: Time spent so far, earlier parts of an interrupted run included.
    """

    total: np.ndarray
    sums: tuple[MapSums, ...] = ()
    names: tuple[str, ...] = ()
    skipped: tuple[dict[str, str], ...] = ()
    done: int = 0
    feature_size: tuple[int, int] | None = None
    seconds: float = 0.0


def to_input(image: np.ndarray, preprocessing: Preprocessing) -> torch.Tensor:
    """Normalise an image: uint8 (H, W, 3) to float32 (3, H, W), by the same operations as torchvision's transforms."""
    pixels = torch.from_numpy(image).permute(2, 0, 1).to(torch.float32).div(255)
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, dtype=torch.float32).view(3, 1, 1)
    return pixels.sub(mean).div(std)


def accumulate(
    model: torch.nn.Module,
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    size: tuple[int, int],
    layer: str | int = "last",
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    batch_size: int = 1,
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
        layer: As for `erf.contribution.feature_map`.
        memory_format: Layout of the images that the network runs fastest with.
        batch_size: Images that go through the network together; halved when memory does not suffice.
        progress: State to go on from.
        save: Called with the state every minute or ten batches, whichever comes first, and when interrupted.
        label: Name shown beside the progress bar (on stderr, with images per second and time left).

    Returns: The state after the last image. An unreadable image, or one whose gradient is not finite, is skipped and
        named in it.
    Raises: UserError if the layer does not exist.
    """
    state = progress or Progress(np.zeros(size))
    earlier, started = state.seconds, time.monotonic()
    saved_at, batches_since = started, 0
    with tqdm(total=len(images.paths), initial=state.done, desc=label, unit="image", smoothing=0.1) as bar:
        try:
            while state.done < len(images.paths):
                chosen = images.paths[state.done : state.done + batch_size]
                try:
                    outcomes, feature_size = _process(
                        model, images.root, chosen, preprocessing, size, layer, device, dtype, memory_format
                    )
                except torch.OutOfMemoryError:
                    if batch_size == 1:
                        raise
                    batch_size //= 2
                    _logger.warning("%s: out of memory, going on with batches of %d", label, batch_size)
                    continue
                except LayerError as error:
                    raise UserError(f"{label}: {error}") from error
                state = _add(state, outcomes, feature_size, earlier + time.monotonic() - started)
                bar.update(len(chosen))
                batches_since += 1
                if batches_since >= _SAVE_EVERY_BATCHES or time.monotonic() - saved_at > _SAVE_EVERY_SECONDS:
                    save(state)
                    batches_since, saved_at = 0, time.monotonic()
        except KeyboardInterrupt:
            save(state)
            raise
    return state


def _process(
    model: torch.nn.Module,
    root: Path,
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    size: tuple[int, int],
    layer: str | int,
    device: torch.device,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
) -> tuple[dict[str, np.ndarray | str], tuple[int, int] | None]:
    """Outcome of each image by its name: its map, or the reason why there is none; and the feature map's size."""
    outcomes: dict[str, np.ndarray | str] = {}
    inputs: dict[str, torch.Tensor] = {}
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            inputs[name] = to_input(read_image(path, size), preprocessing)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises
            outcomes[name] = f"unreadable: {error}"
    if not inputs:
        return outcomes, None
    batch = torch.stack(list(inputs.values())).to(device=device, dtype=dtype).contiguous(memory_format=memory_format)
    maps, feature_size = central_gradients(model, batch, layer=layer)
    for name, image_map in zip(inputs, maps.numpy(), strict=True):
        outcomes[name] = image_map if np.isfinite(image_map).all() else "the gradient is not finite"
    return outcomes, feature_size


def _add(
    state: Progress, outcomes: dict[str, np.ndarray | str], feature_size: tuple[int, int] | None, seconds: float
) -> Progress:
    """The state after one more batch."""
    total, sums, names, skipped = state.total, list(state.sums), list(state.names), list(state.skipped)
    for name, outcome in outcomes.items():
        if isinstance(outcome, str):
            _logger.warning("skipped %s: %s", name, outcome)
            skipped.append({"image": name, "reason": outcome})
        else:
            total = total + outcome
            sums.append(map_sums(outcome))
            names.append(name)
    return Progress(
        total=total,
        sums=tuple(sums),
        names=tuple(names),
        skipped=tuple(skipped),
        done=state.done + len(outcomes),
        feature_size=feature_size or state.feature_size,
        seconds=seconds,
    )


def save_progress(state: Progress, path: Path, identity: dict[str, Any]) -> None:
    """Write the state of an unfinished run, whole or not at all."""
    head = {
        "identity": identity,
        "names": state.names,
        "skipped": state.skipped,
        "done": state.done,
        "feature_size": state.feature_size,
        "seconds": state.seconds,
    }
    sums: dict[str, Any] = stack_sums(state.sums).as_arrays("image_") if state.sums else {}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, total=state.total, **sums, head=np.array(json.dumps(head)))


def load_progress(path: Path, identity: dict[str, Any]) -> Progress:
    """Read the state of an unfinished run.

    Raises: UserError if the file is damaged, or belongs to a run of another configuration, with the difference.
    """
    try:
        arrays = read_arrays(path)
        head = json.loads(str(arrays["head"]))
        total, names = arrays["total"], tuple(head["names"])
        sums = tuple(MapSums.from_arrays(arrays, "image_").of_each()) if names else ()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}); start again with --overwrite") from error
    if differences := list_differences(head["identity"], identity):
        raise UserError(f"{path} is of another run ({'; '.join(differences)}); start again with --overwrite")
    feature_size = tuple(head["feature_size"]) if head["feature_size"] else None
    return Progress(total, sums, names, tuple(head["skipped"]), head["done"], feature_size, head["seconds"])
