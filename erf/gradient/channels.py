"""Read an image file as an array with as many channels as a network takes: pictures, NumPy arrays, multi-page TIFF.

For three channels, a picture is converted to red, green and blue by Pillow. For one channel, its lightness is taken.
Any other number must be the number of channels of the file: the bands of a picture (two, or four with transparency),
the pages of a TIFF file in their order, or the channels of an array.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from runkit.files import read_arrays
from runkit.pictures import as_8_bit, is_deep, scaled_deep

__all__ = ["ARRAY_SUFFIXES", "read_channels", "resize", "resize_picture"]

ARRAY_SUFFIXES = frozenset([".npy", ".npz"])
_TIFF = frozenset([".tif", ".tiff"])
_SCALES = {"uint8": 255.0, "uint16": 65535.0, "bool": 1.0}
"""The value that is scaled to 1, by the type of an integer array."""


def read_channels(path: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """Read an image and resize it, without keeping its aspect ratio, by Pillow's bicubic filter.

    Args:
        size: (height, width) in pixels.
        channels: Number of channels that the network takes.

    Returns: (height, width, channels): uint8; or float32 where the file has more than 8 bits (16-bit values are divided
        by 65535, floating-point ones are taken as they are). Three channels of a picture are always uint8.
    Raises: OSError, ValueError or SyntaxError (Pillow's own) if the file is not a readable image or has another number
        of channels.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return resize(_fitted(list(_read_arrays(path)), channels), size)
    with Image.open(path) as image:
        pages = getattr(image, "n_frames", 1) if path.suffix.lower() in _TIFF else 1
        if pages > 1 and channels > 1 and pages * len(image.getbands()) == channels:
            found = [_pixels(page) for page in ImageSequence.Iterator(image)]
            return resize(_fitted(found, channels), size)
        if channels == 3:
            return resize_picture(as_8_bit(image).convert("RGB"), size)
        if channels == 1:
            grey = image if is_deep(image) else image.convert("L")
            return resize(_fitted([_pixels(grey)], channels), size)
        if len(image.getbands()) != channels:
            more = f" on {pages} pages" if pages > 1 else ""
            raise ValueError(f"it has {len(image.getbands())} channels{more}, the network takes {channels}")
        return resize(_pixels(image), size)


def resize_picture(rgb: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Resize a picture to (height, width) and return it as an array (height, width, 3)."""
    return np.array(rgb.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an array (H, W, C) of uint8 or float32, channel by channel."""
    mode = "L" if pixels.dtype == np.uint8 else "F"
    bands = (
        Image.fromarray(np.ascontiguousarray(pixels[..., i])).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        for i in range(pixels.shape[2])
    )
    stacked = np.stack([np.asarray(band) for band in bands], axis=-1)
    return stacked if mode == "L" else stacked.astype(np.float32)


def _pixels(image: Image.Image) -> np.ndarray:
    """The bands of a picture, (H, W, C): uint8, or float32 where there are more than 8 bits."""
    if image.mode in ("P", "1"):  # palette indices, single bits
        image = image.convert("L" if image.mode == "1" else "RGB")
    values = np.asarray(image)
    if is_deep(image):
        values = (values if image.mode == "F" else scaled_deep(image)).astype(np.float32)
    return values[..., None] if values.ndim == 2 else values


def _read_arrays(path: Path) -> Iterator[np.ndarray]:
    """The arrays in a file, in the order of the file."""
    if path.suffix.lower() == ".npz":
        yield from read_arrays(path).values()
        return
    try:
        yield np.load(path, allow_pickle=False)
    except (EOFError, TypeError) as error:  # also raised by NumPy for a damaged file
        raise ValueError(f"no array can be read from it: {error}") from error


def _fitted(parts: list[np.ndarray], channels: int) -> np.ndarray:
    """Combine arrays (H, W), (H, W, C) or (C, H, W) along the channels into (H, W, channels), uint8 or float32.

    Raises: ValueError if they are not images with this number of channels.
    """
    if not parts:
        raise ValueError("it holds no array")
    shaped = [_channels_last(part, channels if len(parts) == 1 else None) for part in map(_numbers, parts)]
    if len({part.shape[:2] for part in shaped}) > 1:
        raise ValueError(f"its parts differ in size: {', '.join(str(part.shape[:2]) for part in shaped)}")
    if len({part.dtype for part in shaped}) > 1:
        shaped = [part / 255 if part.dtype == np.uint8 else part for part in shaped]
    pixels = np.concatenate(shaped, axis=2)
    if pixels.shape[2] == 1 and channels == 3:
        pixels = np.repeat(pixels, 3, axis=2)  # as Pillow converts grey to RGB
    if pixels.shape[2] != channels:
        raise ValueError(f"it has {pixels.shape[2]} channels, the network takes {channels}")
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)


def _numbers(values: np.ndarray) -> np.ndarray:
    """Convert the values: uint8 and floating-point numbers stay as they are, 16-bit values are divided by 65535."""
    kind = values.dtype.name
    if kind == "uint8" or values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not finite")
        return values
    if kind in _SCALES:
        return values / _SCALES[kind]
    raise ValueError(f"it is an array of {kind}; save uint8 or uint16, or floating-point numbers as the network wants")


def _channels_last(values: np.ndarray, channels: int | None) -> np.ndarray:
    """(H, W, C) from (H, W), (H, W, C) or (C, H, W); the channel axis is that of length `channels`, or the shorter."""
    if values.ndim == 2:
        return values[..., None]
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"it is an array of shape {values.shape}; an image is (H, W), (H, W, C) or (C, H, W)")
    first, last = values.shape[0], values.shape[2]
    is_first = first == channels != last if channels in (first, last) else first < last
    return np.moveaxis(values, 0, 2) if is_first else values
