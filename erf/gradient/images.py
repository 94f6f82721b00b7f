"""Images for contribution maps: finding them, choosing evenly, reading any kind as 8-bit colour.

Reading follows the pipeline of the RepLKNet authors' ERF script (`erf/visualize_erf.py`: Pillow, RGB, bicubic to S × S)
to the bit; the choice does not: their loop takes the first N files of a folder sorted by class, which is one class.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from runkit import UserError, sha256_of_files

__all__ = ["ImageSet", "find_images", "read_image", "take_evenly"]

_SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"])
# the colour photographs in scikit-image's wheel (skimage.data documents their origin and licences)
_BUNDLED = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


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

    def sha256(self) -> str:
        """What the chosen files are, their names and content (`runkit.sha256_of_files`)."""
        return sha256_of_files(self.root, self.paths)


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
        root = _bundled_folder()
        paths = [root / name for name in _BUNDLED]
        name = "scikit-image photographs"
    else:
        root = Path(folder)
        if not root.is_dir():
            raise UserError(f"--images {root} is not a folder; name a folder of images")
        paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
        name = root.resolve().name
        if not paths:
            raise UserError(f"--images {root} holds no images ({', '.join(sorted(_SUFFIXES))})")
    return ImageSet(name, root, tuple(take_evenly(paths, num_images)), len(paths))


def _bundled_folder() -> Path:
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UserError("the bundled images come with scikit-image, which is not installed; give --images DIR")
    return Path(spec.origin).parent / "data"


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
        rgb = image.convert("RGB")
        return np.array(rgb.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits: 16-bit values are divided by 257; floating values are taken as 0..1."""
    values = np.asarray(image, dtype=np.float64)
    scaled = values * 255.0 if image.mode == "F" else values / 257.0
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
