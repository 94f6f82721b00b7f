"""Compute the class probabilities and decisions of a network for stimuli."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from replknet.foreign import preprocessing_of
from replknet.zoo import Preprocessing
from runkit import UserError
from runkit.compute.device import exact_float32
from runkit.compute.memory import available_memory, fitting_batch_size
from runkit.compute.rounds import Loop, Packed
from runkit.pictures import as_8_bit, has_transparent_pixels
from shapebias.answers.decisions import decide
from shapebias.answers.observers import Observer, make_trials
from shapebias.network.forward import LogitsOf, class_probabilities
from shapebias.network.heads import as_choice, choose_classes, outputs_of
from shapebias.stimuli.categories import IMAGENET_1K, ClassMap
from shapebias.stimuli.images import Stimulus

__all__ = [
    "TOOLBOX_PREPROCESSING",
    "StimulusReader",
    "ask_black",
    "check_channels",
    "check_head",
    "choose_batch_size",
    "default_batch_size",
    "evaluate",
    "predict",
]

TOOLBOX_PREPROCESSING = Preprocessing(
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    input_size=(224, 224),
    interpolation="bicubic",  # never used: the images have this size
    crop_pct=1.0,
)
"""The toolbox's preprocessing for every network, however it was trained (`modelvshuman/datasets/dataloaders.py`)."""

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def default_batch_size(device: torch.device) -> int:
    """Return a batch size that keeps the device busy; larger batches are not faster."""
    return 64 if device.type == "cuda" else 16


def choose_batch_size(model: nn.Module, preprocessing: Preprocessing, device: torch.device, name: str) -> int:
    """Return the default batch size, or the largest that fits into memory if that is smaller; uses a black image."""
    return fitting_batch_size(
        lambda: ask_black(model, 1, preprocessing, device, name), device, limit=default_batch_size(device)
    )


def ask_black(model: nn.Module, count: int, preprocessing: Preprocessing, device: torch.device, name: str) -> None:
    """Run a batch of black images through a network, to measure its time and memory."""
    black = np.zeros((*preprocessing.input_size, preprocessing.channels), np.uint8)
    with torch.inference_mode(), exact_float32():
        class_probabilities(model, [black] * count, preprocessing, device, name=name)


def check_head(model: nn.Module, name: str, classes: ClassMap = IMAGENET_1K) -> None:
    """Check that the number of a network's classes is that of `classes`, by default the 1000 of ImageNet-1k.

    Raises: UserError if the network has an attribute `num_classes` with another number.
    """
    count = getattr(model, "num_classes", None)
    if isinstance(count, int) and count != classes.num_classes:
        if classes == IMAGENET_1K:
            raise UserError(
                f"{name} has {count} outputs, but the 16 categories are defined on the {classes.num_classes} classes "
                "of ImageNet-1k: choose weights fine-tuned on it (their tag ends in in1k), or name the class of each "
                "output (classes=...)"
            )
        raise UserError(f"{name} has {count} outputs, but there are {classes.num_classes} {classes.name}")


def check_channels(preprocessing: Preprocessing, name: str) -> None:
    """Check that a network takes colour or grey images.

    Raises: UserError if its number of channels is neither 3 nor 1.
    """
    if preprocessing.channels not in (1, 3):
        raise UserError(
            f"{name} takes images of {preprocessing.channels} channels, but the stimuli are photographs: take a "
            "network of 3 channels, which is shown their colours, or of 1 channel, which is shown their lightness"
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
    reader: "StimulusReader | None" = None,
    loop: Loop | None = None,
    classes: ClassMap = IMAGENET_1K,
) -> np.ndarray:
    """Compute class probabilities for each stimulus: softmax in float32 over the network's outputs, by default 1000.

    Outputs that are probabilities already are taken as they are, with a warning.
    Images are resized to `preprocessing.input_size` if they have another size, and never cropped, because the stimuli
    are cropped already. They are scaled to [0, 1], normalised in float32, and rounded to the network's number format.
    Threads decode images while the network runs; batches are channels-last.

    Args:
        model: Network in eval mode, on `device`; it is not changed.
        stimuli: Images, in the order of the results.
        preprocessing: The network's mean, standard deviation and image size.
        device: Device of the model.
        batch_size: Number of images processed together, at least 1; it is halved if memory does not suffice, and
            changes the results only by rounding.
        name: Name of the network, for messages and the progress bar.
        progress: Whether to show a bar on stderr.
        reader: Decodes the images; networks that share a reader may share the decoded images.
        loop: The loop over the stimuli, with its saved progress, which replaces `batch_size` and `progress`; None to
            run in this process alone.
        classes: The classes of the network's outputs.
    Returns: float32 (N, C), on the CPU; on ranks other than 0, only the stimuli of saved progress.
    Raises: ValueError in train mode or for a batch size below 1; UserError for an unreadable image, another number of
        outputs or rows, outputs that are not finite, a network whose own code fails, or memory that does not suffice
        for one image.
    """
    if model.training:
        raise ValueError("predict() needs a network in eval mode: call model.eval() first")
    check_head(model, name, classes)
    check_channels(preprocessing, name)
    device, reader = torch.device(device), reader or StimulusReader()
    loop = loop or Loop(name, batch_size=batch_size, show=progress)
    earlier = loop.saved.arrays["probabilities"] if loop.saved else np.empty((0, classes.num_classes), np.float32)

    begun: tuple[np.ndarray, ...] = (earlier,)

    def add(parts: tuple[np.ndarray, ...], rows: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        return (*parts, np.stack(rows))

    def pack(parts: tuple[np.ndarray, ...]) -> Packed:
        return {"probabilities": np.concatenate(parts)}, {}

    with torch.inference_mode(), exact_float32():
        model = LogitsOf(model, name=name)
        parts = loop.run(
            begun,
            stimuli,
            done=len(earlier),
            read=lambda chosen: [reader.read(stimulus, preprocessing) for stimulus in chosen],
            work=lambda images: list(_ask(model, images, preprocessing, device, name, classes)),
            add=add,
            pack=pack,
            fitting=lambda: choose_batch_size(model, preprocessing, device, name),
        )
    return np.concatenate(parts)


def _ask(
    model: nn.Module,
    images: "Sequence[_Decoded]",
    preprocessing: Preprocessing,
    device: torch.device,
    name: str,
    classes: ClassMap,
) -> np.ndarray:
    """Class probabilities of one batch, float32 (B, C).

    Raises: UserError as `class_probabilities`, or if they are not finite.
    """
    probabilities = class_probabilities(
        model,
        [image.pixels for image in images],
        preprocessing,
        device,
        name=name,
        outputs=classes.num_classes,
        what="the classes of ImageNet-1k" if classes == IMAGENET_1K else f"the {classes.name}",
    )
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        image = images[int(np.flatnonzero(~finite)[0])].stimulus.name
        raise UserError(f"{name} answers to {image} with numbers that are not finite; its weights are damaged")
    return probabilities


def evaluate(
    model: nn.Module,
    stimuli: Sequence[Stimulus],
    *,
    name: str = "network",
    preprocessing: Preprocessing | None = None,
    aggregation: str = "mean",
    classes: ClassMap | str | Path | Sequence[str] | None = None,
    **options: Any,
) -> Observer:
    """Evaluate a network on the stimuli, as an `Observer` that can be measured and compared with people.

    Args:
        model: Any classifier, in eval mode.
        stimuli: The images, such as `shapebias.find_stimuli()` or part of it.
        name: Name of the observer.
        preprocessing: The network's own preprocessing; None for the toolbox's (ImageNet's mean and standard deviation,
            224 pixels; for a network with one channel, their averages and the lightness of the images).
        aggregation: How the probabilities of a category's classes are combined: "mean", "sum" or "max".
        classes: What the network's outputs stand for: the path of a class file, or a list with one word per output, as
            in such a file; "imagenet-1k" to use only these classes of a larger head. None means the toolbox's classes
            for 1000 outputs, and WordNet's categories for larger heads of ImageNet.
        options: `device`, `batch_size` and `progress` of `predict`.
    Returns: The answers. If the network lacks some categories, their images are left out, and `label` says so.
    Raises: As `predict`; UserError if the classes of the outputs are unknown, or fewer than two categories remain.
    """
    preprocessing = preprocessing or _toolbox_preprocessing(model)
    check_channels(preprocessing, name)
    device = torch.device(options.get("device", "cpu"))
    found = choose_classes(outputs_of(model, preprocessing, device, name=name), as_choice(classes), name=name)
    asked = [item for item in stimuli if found.can_answer(item.shape, item.texture)]
    if not asked:
        raise UserError(f"none of the {len(stimuli)} stimuli is of the categories of the {found.name}")
    probabilities = predict(model, asked, preprocessing=preprocessing, name=name, classes=found, **options)
    answers = decide(probabilities, aggregation=aggregation, classes=found)
    return Observer(
        name,
        make_trials(name, [item.name for item in asked], answers),
        label=f"{name}, {found.label}" if found.label else name,
        categories=None if found.complete else found.categories,
    )


def _toolbox_preprocessing(model: nn.Module) -> Preprocessing:
    """The toolbox's preprocessing, adapted to the number of channels of the network."""
    channels = preprocessing_of(model).channels
    if channels == TOOLBOX_PREPROCESSING.channels:
        return TOOLBOX_PREPROCESSING
    mean, std = (
        (sum(values) / len(values),) * channels for values in (TOOLBOX_PREPROCESSING.mean, TOOLBOX_PREPROCESSING.std)
    )
    return replace(TOOLBOX_PREPROCESSING, mean=mean, std=std)


class _Decoded(NamedTuple):
    """A stimulus and its pixels: uint8 (H, W, C), with the size and the channels of the network's input."""

    stimulus: Stimulus
    pixels: np.ndarray


class StimulusReader:
    """Decodes stimuli, and keeps them in their original size for further networks, whatever their input size.

    Args:
        keep_bytes: Maximal memory for kept images, in bytes; 0 keeps none. All 1280 stimuli take 193 MB.
    """

    def __init__(self, keep_bytes: int = 0) -> None:
        self._room = keep_bytes
        self._kept: dict[tuple[Path, bool], np.ndarray] = {}
        self._lock = threading.Lock()  # several threads read at the same time

    @classmethod
    def shared(cls) -> "StimulusReader":
        """Make a reader for several networks, which keeps images in a quarter of the free memory, at least 1 GiB."""
        return cls(keep_bytes=max(1 << 30, available_memory(torch.device("cpu")) // 4))

    def read(self, stimulus: Stimulus, preprocessing: Preprocessing) -> _Decoded:
        """Read a stimulus in the size and with the channels of a network's input.

        Raises: UserError if the file cannot be read.
        """
        grey = preprocessing.channels == 1
        pixels = self._kept.get((stimulus.path, grey))
        if pixels is None:
            pixels = _decode(stimulus, grey=grey)
            with self._lock:
                if pixels.nbytes <= self._room:
                    self._room -= pixels.nbytes
                    self._kept[stimulus.path, grey] = pixels
        return _Decoded(stimulus, _resize(pixels, preprocessing))


def _decode(stimulus: Stimulus, *, grey: bool) -> np.ndarray:
    """Read an image: uint8 (H, W, 3), or its lightness (H, W, 1).

    Raises: UserError if the file cannot be read, or if any of its pixels is transparent: the toolbox would show the
        colours that such pixels hide.
    """
    try:
        with Image.open(stimulus.path) as image:
            transparent = has_transparent_pixels(image)
            pixels = np.array(as_8_bit(image).convert("L" if grey else "RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # PIL's PNG reader raises SyntaxError
        raise UserError(f"cannot read the image {stimulus.path}: {error}; unpack the archive again") from error
    except ValueError as error:
        raise UserError(f"cannot read the image {stimulus.path}: {error}") from error
    if transparent:
        raise UserError(
            f"{stimulus.path} has transparent pixels, and a network would be shown the colours that these hide; save "
            "the image without transparency"
        )
    return pixels.reshape(*pixels.shape[:2], -1)


def _resize(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize an image to the network's input size; return it unchanged if it has this size."""
    height, width = preprocessing.input_size
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    resampling = _RESAMPLING.get(preprocessing.interpolation, Image.Resampling.BICUBIC)
    return np.array(image.resize((width, height), resampling)).reshape(height, width, -1)
