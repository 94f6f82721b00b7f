"""From a network and stimuli to class probabilities and decisions: the only part of the tool that needs torch."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from replknet.device import exact_float32
from replknet.zoo import Preprocessing
from runkit import UserError
from shapebias.categories import NUM_IMAGENET_CLASSES, decide
from shapebias.observers import Observer, make_trials
from shapebias.stimuli import Stimulus

__all__ = ["TOOLBOX_PREPROCESSING", "check_head", "default_batch_size", "evaluate", "predict"]

TOOLBOX_PREPROCESSING = Preprocessing(
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    input_size=(224, 224),
    interpolation="bicubic",  # never used: the images have this size
    crop_pct=1.0,
)
"""What the toolbox gives to every network, whatever it was trained with (`modelvshuman/datasets/dataloaders.py`)."""

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LOOKAHEAD = 3
"""Batches decoded ahead of the network."""


def default_batch_size(device: torch.device) -> int:
    """Images at a time that keep the device busy without much memory."""
    return 64 if device.type == "cuda" else 16


def check_head(model: nn.Module, name: str) -> None:
    """Refuse a network whose classes are not the 1000 of ImageNet-1k.

    Raises: UserError with the reason, if the network says how many classes it has and it is another number.
    """
    count = getattr(model, "num_classes", None)
    if isinstance(count, int) and count != NUM_IMAGENET_CLASSES:
        raise UserError(
            f"{name} has a head of {count} classes; the 16 categories are defined on the {NUM_IMAGENET_CLASSES} of "
            "ImageNet-1k: choose weights fine-tuned on it (their tag ends in in1k)"
        )


def predict(
    model: nn.Module,
    stimuli: Sequence[Stimulus],
    *,
    preprocessing: Preprocessing = TOOLBOX_PREPROCESSING,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    name: str = "the network",
    progress: bool = False,
) -> np.ndarray:
    """Class probabilities for each stimulus: softmax in float32 over the network's 1000 outputs.

    Images are resized to `preprocessing.input_size` if they have another size, never cropped (the stimuli already are),
    scaled to [0, 1] and normalised. Threads decode ahead of the network; batches are channels-last.

    Args:
        model: In eval mode, on `device`; left as it is.
        stimuli: Images, in the order of the answer.
        preprocessing: Mean, standard deviation and size the network wants.
        device: Where the model is.
        batch_size: Images at a time, at least 1; changes the answer by rounding only.
        name: Of the network, for messages and the progress bar.
        progress: Whether to show a bar on stderr.
    Returns: float32 (N, 1000), on the CPU.
    Raises: ValueError in train mode or for a batch size below 1; UserError for an unreadable image, another number of
        outputs, or outputs that are not finite.
    """
    if model.training:
        raise ValueError("predict() needs a network in eval mode: call model.eval() first")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    check_head(model, name)
    device = torch.device(device)
    mean = torch.tensor(preprocessing.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=device).view(1, 3, 1, 1)
    probabilities = np.empty((len(stimuli), NUM_IMAGENET_CLASSES), np.float32)
    done = 0
    bar = tqdm(total=len(stimuli), desc=name, unit="image", disable=not progress)
    with torch.inference_mode(), exact_float32(), bar:
        for pixels in _decoded_batches(stimuli, batch_size, preprocessing):
            # (B, H, W, 3) in memory is channels-last: only the view changes
            x = torch.from_numpy(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2)
            x = x.to(torch.float32).div_(255).sub_(mean).div_(std)
            logits = model(x)
            if logits.ndim != 2 or logits.shape[1] != NUM_IMAGENET_CLASSES:
                raise UserError(
                    f"{name} answers with shape {tuple(logits.shape)} to {len(x)} images; "
                    f"it must be ({len(x)}, {NUM_IMAGENET_CLASSES}), the classes of ImageNet-1k"
                )
            batch = torch.softmax(logits.float(), dim=1).cpu().numpy()
            if not np.isfinite(batch).all():
                image = stimuli[done + int(np.flatnonzero(~np.isfinite(batch).all(axis=1))[0])].name
                raise UserError(f"{name} answers to {image} with numbers that are not finite; its weights are damaged")
            probabilities[done : done + len(batch)] = batch
            done += len(batch)
            bar.update(len(batch))
    return probabilities


def evaluate(
    model: nn.Module,
    stimuli: Sequence[Stimulus],
    *,
    name: str = "network",
    preprocessing: Preprocessing | None = None,
    aggregation: str = "mean",
    **options: Any,
) -> Observer:
    """What a network answers to the stimuli, as an `Observer` to be measured beside people.

    Args:
        model: Any network with the 1000 classes of ImageNet-1k, in eval mode.
        stimuli: As `shapebias.find_stimuli()` gives them, or some of them.
        name: How the observer is called.
        preprocessing: What the network wants; None takes the toolbox's (mean and deviation of ImageNet, 224 pixels).
        aggregation: How classes make a category: "mean", "sum" or "max".
        options: `device`, `batch_size` and `progress` of `predict`.
    Raises: As `predict`.
    """
    preprocessing = preprocessing or TOOLBOX_PREPROCESSING
    probabilities = predict(model, stimuli, preprocessing=preprocessing, name=name, **options)
    answers = decide(probabilities, aggregation=aggregation)
    return Observer(name, make_trials(name, [item.name for item in stimuli], answers))


def _decoded_batches(
    stimuli: Sequence[Stimulus], batch_size: int, preprocessing: Preprocessing
) -> Iterator[np.ndarray]:
    """uint8 batches (B, H, W, 3) in order; a thread decodes the next ones meanwhile."""
    starts = iter(range(0, len(stimuli), batch_size))
    waiting: deque[Future[np.ndarray]] = deque()
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode") as pool:

        def submit() -> None:
            start = next(starts, None)
            if start is not None:
                waiting.append(pool.submit(_decode, stimuli[start : start + batch_size], preprocessing))

        for _ in range(_LOOKAHEAD):
            submit()
        while waiting:
            pixels = waiting.popleft().result()
            submit()
            yield pixels


def _decode(stimuli: Sequence[Stimulus], preprocessing: Preprocessing) -> np.ndarray:
    """Read and, where they have another size, resize images: uint8 (B, H, W, 3)."""
    height, width = preprocessing.input_size
    resampling = _RESAMPLING.get(preprocessing.interpolation, Image.Resampling.BICUBIC)
    batch = np.empty((len(stimuli), height, width, 3), np.uint8)
    for row, stimulus in zip(batch, stimuli, strict=True):
        try:
            with Image.open(stimulus.path) as image:
                rgb = image.convert("RGB")
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # PIL's PNG reader raises SyntaxError
            raise UserError(f"cannot read the image {stimulus.path}: {error}; unpack the archive again") from error
        if rgb.size != (width, height):
            rgb = rgb.resize((width, height), resampling)
        row[...] = rgb
    return batch
