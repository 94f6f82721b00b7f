"""Images for contribution maps: finding them, choosing evenly, reading any kind as 8-bit colour.

Reading follows the pipeline of the RepLKNet authors' ERF script (`erf/visualize_erf.py`: Pillow, RGB, bicubic to S × S)
to the bit; the choice does not: their loop takes the first N files of a folder sorted by class, which is one class.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from runkit import UserError, sha256_of_files, sha256_of_lines
from runkit.files import IMAGE_SUFFIXES, list_visible

__all__ = ["ImageSet", "find_images", "read_image", "take_evenly"]


class _Photograph(NamedTuple):
    """A colour photograph of `skimage.data`, which documents its origin and licence.

    Attributes:
        function: Its name in `skimage.data`.
        file: SHA-256 of the file that scikit-image ships.
        pixels: SHA-256 of what that file holds: 8-bit red, green, blue, row by row.
    """

    function: str
    file: str
    pixels: str


_PHOTOGRAPHS = {
    "astronaut.png": _Photograph(
        "astronaut",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "a8c429c18afa7b0fd5673e598d73a21225d94c864a71bbb3885126fdecb41071",
    ),
    "chelsea.png": _Photograph(
        "chelsea",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "416b729128bfb2c3d1eb69bf9b1734a796293abc17939267b2dc94f8a5784031",
    ),
    "coffee.png": _Photograph(
        "coffee",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "0ce2b51640b9c95f19617f03eabf40c3f0368589cc1ee1190b70966165ac184f",
    ),
    "motorcycle_left.png": _Photograph(
        "stereo_motorcycle",
        "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
        "ca829467c1d4f427da9c4862ba43829da6ac90afe1f75735e95dba9e3fd9620b",
    ),
    "rocket.jpg": _Photograph(
        "rocket",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "3d4435cc745752b7f9724df88c6e18817de3ce7e3d2d71c55f85f7831e68f197",
    ),
}


@dataclass(frozen=True)
class ImageSet:
    """Chosen images.

    Attributes:
        name: Folder name, or 'scikit-image photographs'.
        root: Folder that the paths are relative to.
        paths: Chosen files, sorted by their path.
        found: How many images there were to choose from.
    """

    name: str
    root: Path
    paths: tuple[Path, ...]
    found: int

    @cached_property
    def sha256(self) -> str:
        """What the chosen files are, their names and content (`runkit.sha256_of_files`)."""
        return sha256_of_files(self.root, self.paths)

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """One of the chosen images, as `read_image` makes it."""
        return read_image(path, size)

    def try_read(self, path: Path, size: tuple[int, int]) -> tuple[np.ndarray | None, str]:
        """As `read`, but None, and the reason, for a file that is no readable image."""
        try:
            return self.read(path, size), ""
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises
            return None, f"unreadable: {error}"

    def name_of(self, path: Path) -> str:
        """How results call one of the chosen images: by its path in the folder."""
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class _BundledImages(ImageSet):
    """The photographs that `skimage.data` returns; the paths are bare names."""

    @cached_property
    def sha256(self) -> str:
        return sha256_of_lines(f"{path.name} {_fingerprint(path.name)}" for path in self.paths)

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        return _resize(Image.fromarray(_pixels(path.name)), size)


def find_images(folder: str | Path | None, num_images: int) -> ImageSet:
    """Choose at most `num_images` images, evenly over the sorted list of a folder of any depth.

    Args:
        folder: Where to look; None for the photographs that scikit-image ships.
        num_images: At least 1; all images are taken if there are fewer.

    Raises: UserError if the folder is missing or has no images, or `num_images` is below 1.
    """
    if num_images < 1:
        raise UserError(f"--num-images {num_images}: take at least 1")
    if folder is None:
        paths = [Path(name) for name in _PHOTOGRAPHS]
        chosen = tuple(take_evenly(paths, num_images))
        return _BundledImages("scikit-image photographs", Path(), chosen, len(paths))
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"--images {root} is not a folder; name a folder of images")
    paths = [p for p in list_visible(root, "**/*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not paths:
        raise UserError(f"--images {root} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return ImageSet(root.resolve().name, root, tuple(take_evenly(paths, num_images)), len(paths))


@cache
def _pixels(name: str) -> np.ndarray:
    """A bundled photograph, uint8 (height, width, 3)."""
    import skimage.data

    photograph = getattr(skimage.data, _PHOTOGRAPHS[name].function)()
    return photograph[0] if isinstance(photograph, tuple) else photograph  # of a stereo pair the left one


def _fingerprint(name: str) -> str:
    """SHA-256 of a photograph's file; of its pixels, should scikit-image come to ship another picture by this name."""
    pixels = hashlib.sha256(np.ascontiguousarray(_pixels(name)).tobytes()).hexdigest()
    return _PHOTOGRAPHS[name].file if pixels == _PHOTOGRAPHS[name].pixels else pixels


def take_evenly(items: Sequence[Path], count: int) -> list[Path]:
    """`count` items spread evenly over the sequence, the first one among them; all, if there are no more."""
    if count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def read_image(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """Read an image and resize it, without keeping its aspect ratio, by Pillow's bicubic filter.

    Greyscale, palette, CMYK and images with an alpha channel become RGB; 16-bit images are scaled to 8 bits.

    Args:
        size: (height, width) in pixels.

    Returns: uint8 (height, width, 3), red, green, blue.
    Raises: OSError, ValueError or SyntaxError (Pillow's own) for a file that is no readable image.
    """
    with Image.open(path) as image:
        if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip, not scale
            image = _to_8_bit(image)
        return _resize(image.convert("RGB"), size)


def _resize(rgb: Image.Image, size: tuple[int, int]) -> np.ndarray:
    return np.array(rgb.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits: 16-bit values are divided by 257; floating values are taken as 0..1."""
    values = np.asarray(image, dtype=np.float64)
    scaled = values * 255.0 if image.mode == "F" else values / 257.0
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
