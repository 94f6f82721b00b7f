"""Make images with suppressed cues, and keep them in memory for further networks.

Images are read and resized as in the released protocol: a plain resize to the network's input size by OpenCV's bilinear
filter, without a crop. All methods may be called from several threads at once.
"""

import logging
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from runkit import UserError
from runkit.pictures import as_8_bit, has_transparent_pixels
from shapebias.stimuli.folders import LabelledImage
from shapebias.stimuli.suppressions import Variant, opencv, suppress

__all__ = ["SuppressedImages", "SuppressedItem", "read_resized"]

_logger = logging.getLogger(__name__)
_Size = tuple[int, int]


class SuppressedItem(NamedTuple):
    """Positions of a variant and of an image, which together define one image to make."""

    variant: int
    image: int


class SuppressedImages:
    """Makes images with suppressed cues, and keeps as many as memory allows for further networks of the same size.

    A variant is kept either for all images or for none. The variants that take longest to make are kept first.

    Args:
        images: The original images.
        variants: The suppressions to apply to them.
        seed: Seed of random suppressions.
        keep_bytes: Maximal memory for kept images, in bytes; 0 keeps none.
    """

    def __init__(
        self, images: Sequence[LabelledImage], variants: Sequence[Variant], *, seed: int = 0, keep_bytes: int = 0
    ):
        self.images, self.variants, self.seed = images, variants, seed
        self._room, self._lock = keep_bytes, threading.Lock()
        self._kept_variants: dict[_Size, frozenset[int]] = {}
        self._made: dict[tuple[SuppressedItem, _Size], np.ndarray] = {}
        self._last: dict[tuple[int, _Size], np.ndarray] = {}  # the most recently read images
        self._warned = False

    def make(self, item: SuppressedItem, size: _Size) -> np.ndarray:
        """Make an image under a variant, or return the kept one: uint8 (H, W, 3).

        Args:
            item: The image and the variant.
            size: Height and width of the network's input.
        Raises: UserError if the file cannot be read, or a user's function fails or returns something else.
        """
        kept = self._made.get((item, size))
        if kept is not None:
            return kept
        image, variant = self.images[item.image], self.variants[item.variant]
        pixels = suppress(self._read(item.image, size), variant, image_name=image.name, seed=self.seed)
        if item.variant in self._choose_kept(size):
            self._made[item, size] = pixels
        return pixels

    def _read(self, index: int, size: _Size) -> np.ndarray:
        """Read an original image, caching the last few, since all variants of an image are made one after another."""
        pixels = self._last.get((index, size))
        if pixels is None:
            pixels, transparent = _open_resized(self.images[index], size)
            with self._lock:
                if transparent and not self._warned:
                    self._warned = True  # of the first one alone, since there may be thousands
                    _logger.warning(
                        "%s has transparent pixels; networks are shown the colours that these hide, also of further "
                        "images: save them without transparency",
                        self.images[index].path,
                    )
                while len(self._last) >= _LAST:
                    del self._last[next(iter(self._last))]
                self._last[index, size] = pixels
        return pixels

    def _choose_kept(self, size: _Size) -> frozenset[int]:
        """Choose the variants to keep at a size: costly ones first, as many as there is room for."""
        with self._lock:
            if size not in self._kept_variants:
                height, width = size
                each = len(self.images) * height * width * 3
                order = sorted(range(len(self.variants)), key=lambda index: -_cost(self.variants[index]))
                chosen = order[: self._room // each if each else 0]
                self._room -= len(chosen) * each
                self._kept_variants[size] = frozenset(chosen)
            return self._kept_variants[size]


_LAST = 16


def _cost(variant: Variant) -> int:
    """Rank of a variant by the time it takes to make an image; higher is slower."""
    if variant.suppression is None:
        return 0
    return 2 if variant.suppression.costly else 1


def read_resized(image: LabelledImage, size: _Size) -> np.ndarray:
    """Read an image file as RGB in a given size: uint8 (height, width, 3).

    Grey images get three equal channels, transparency is dropped, and greyscale of more than 8 bits is scaled as by
    `runkit.pictures.as_8_bit`.

    Raises: UserError if the file cannot be read.
    """
    return _open_resized(image, size)[0]


def _open_resized(image: LabelledImage, size: _Size) -> tuple[np.ndarray, bool]:
    """As `read_resized`, with whether any pixel is transparent."""
    try:
        with Image.open(image.path) as opened:
            transparent = has_transparent_pixels(opened)
            pixels = np.array(_to_rgb(opened))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {image.path}: {error}; remove it or replace it") from error
    height, width = size
    if pixels.shape[:2] != size:
        pixels = opencv().resize(pixels, (width, height), interpolation=opencv().INTER_LINEAR)
    return pixels, transparent


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:  # direct conversion causes a warning
        image = image.convert("RGBA")
    return as_8_bit(image).convert("RGB")
