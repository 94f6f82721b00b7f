"""Images for contribution maps: find them, choose evenly among them, and read them at the size of a run.

Reading reproduces the pipeline of the RepLKNet authors' ERF script (`erf/visualize_erf.py`: Pillow, RGB, bicubic to
S × S) bit by bit. The choice of images differs: their loop takes the first N files of a folder sorted by class, all of
which belong to one class.
"""

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from erf.gradient.channels import ARRAY_SUFFIXES, read_channels, resize, resize_picture
from runkit import UserError, sha256_of_file, sha256_of_lines
from runkit.files import IMAGE_SUFFIXES, list_visible

__all__ = ["ImageSet", "find_images", "read_image", "take_evenly"]


class _Photograph(NamedTuple):
    """A colour photograph of `skimage.data`, which documents its origin and licence.

    Attributes:
        function: Its name in `skimage.data`.
        file: SHA-256 of the file that scikit-image ships.
        pixels: SHA-256 of the pixels in that file: 8-bit red, green, blue, row by row.
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
        name: Name of the folder or the list, or 'scikit-image photographs'.
        root: Folder that the paths are relative to.
        paths: Chosen files, sorted by path, or in the order of the list.
        found: Number of images that could have been chosen.
    """

    name: str
    root: Path
    paths: tuple[Path, ...]
    found: int

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each chosen file, keyed by its name in results.

        Raises: UserError if one cannot be read.
        """
        return {self.name_of(path): self.fingerprint_of(path) for path in self.paths}

    @cached_property
    def sha256(self) -> str:
        """A hash of the names and contents of the chosen files, as `runkit.sha256_of_files` defines it."""
        return sha256_of_lines(f"{name} {fingerprint}" for name, fingerprint in self.fingerprints.items())

    def list_used(self, used: Collection[str]) -> list[dict[str, Any]]:
        """The manifest of a run: one row for each chosen image, which also says whether the image was used."""
        return [
            {
                "image": name,
                "sha256": self.fingerprints[name],
                "bytes": self.bytes_of(path),
                "used": name in used,
            }
            for path, name in ((path, self.name_of(path)) for path in self.paths)
        ]

    def read(self, path: Path, size: tuple[int, int], channels: int = 3) -> np.ndarray:
        """Read one of the chosen images, as `erf.gradient.channels.read_channels` does."""
        return read_channels(path, size, channels)

    def try_read(self, path: Path, size: tuple[int, int], channels: int = 3) -> tuple[np.ndarray | None, str]:
        """As `read`, but returns None and the reason for a file that is not a readable image."""
        try:
            return self.read(path, size, channels), ""
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises all of these
            return None, f"unreadable: {error}"

    def thumbnail(self, name: str, size: tuple[int, int], channels: int) -> np.ndarray:
        """A thumbnail of one of the chosen images, given by its name: uint8 (height, width, 3).

        An image that does not have three channels of 8 bits is shown as the mean of its channels, scaled from black to
        white.
        """
        pixels = self.read(self.root / name, size, channels)
        if pixels.dtype == np.uint8 and channels == 3:
            return pixels
        grey = np.mean(pixels, axis=2, dtype=np.float64)
        low, high = float(np.min(grey)), float(np.max(grey))
        levels = np.rint(255 * (grey - low) / ((high - low) or 1.0)).astype(np.uint8)
        return np.repeat(levels[..., None], 3, axis=2)

    def fingerprint_of(self, path: Path) -> str:
        """SHA-256 of one of the chosen files."""
        try:
            return sha256_of_file(path)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; make it readable, or take it away") from error

    def bytes_of(self, path: Path) -> int:
        """Size of one of the chosen files in bytes."""
        return path.stat().st_size

    def name_of(self, path: Path) -> str:
        """The name of one of the chosen images in results: its path within the folder."""
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class _BundledImages(ImageSet):
    """The photographs that `skimage.data` returns; the paths are bare names."""

    def read(self, path: Path, size: tuple[int, int], channels: int = 3) -> np.ndarray:
        picture = Image.fromarray(_pixels(path.name))
        if channels == 1:
            return resize(np.asarray(picture.convert("L"))[..., None], size)
        if channels != 3:
            raise ValueError(f"it has 3 channels, the network takes {channels}; name images of your own by --images")
        return resize_picture(picture, size)

    def fingerprint_of(self, path: Path) -> str:
        return _fingerprint(path.name)

    def bytes_of(self, path: Path) -> int:
        return _pixels(path.name).nbytes


def find_images(source: str | Path | Sequence[str | Path] | None, num_images: int) -> ImageSet:
    """Choose at most `num_images` images, spread evenly over all available ones.

    Args:
        source: One of: a folder of any depth, whose images are sorted by path; a text file with one image path on each
            line, relative to the file, whose order is kept; a list of folders, text files and images; None for the
            photographs that scikit-image ships.
        num_images: Number of images, at least 1. All images are taken if there are fewer.

    Raises: UserError if there are no images, a named image does not exist, or `num_images` is below 1.
    """
    if num_images < 1:
        raise UserError(f"--num-images {num_images}: take at least 1")
    if source is None:
        paths = [Path(name) for name in _PHOTOGRAPHS]
        chosen = tuple(take_evenly(paths, num_images))
        return _BundledImages("scikit-image photographs", Path(), chosen, len(paths))
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(part) for part in source]
    if len(sources) == 1 and sources[0].is_dir():
        (root,) = sources
        paths = _list_folder(root)
        return ImageSet(root.resolve().name, root, tuple(take_evenly(paths, num_images)), len(paths))
    paths = [path for part in sources for path in _list_source(part)]
    if repeated := sorted({path for path in paths if paths.count(path) > 1}):
        raise UserError(f"--images names {repeated[0]} twice")
    root = Path(os.path.commonpath([path.resolve().parent for path in paths]))
    chosen = tuple(take_evenly([path.resolve() for path in paths], num_images))
    name = sources[0].name if len(sources) == 1 else f"{sources[0].name} and {len(sources) - 1} more"
    return ImageSet(name, root, chosen, len(paths))


_NAMED = IMAGE_SUFFIXES | ARRAY_SUFFIXES | {".txt"}
"""Suffixes of files that can be named instead of a folder."""


def _list_source(source: Path) -> list[Path]:
    """The images of a folder or a list, or the image itself.

    Raises: UserError as `find_images`.
    """
    if source.is_dir():
        return _list_folder(source)
    if not source.is_file() or source.suffix.lower() not in _NAMED:
        what = "is not a folder" if source.exists() else "does not exist"
        raise UserError(f"--images {source} {what}; name a folder, a list of images (.txt), or images")
    return list(_read_list(source)) if source.suffix.lower() == ".txt" else [source]


def _list_folder(root: Path) -> list[Path]:
    """The images of a folder, sorted: pictures, or NumPy arrays if there are no pictures."""
    files = [path for path in list_visible(root, "**/*") if path.is_file()]
    for suffixes in (IMAGE_SUFFIXES, ARRAY_SUFFIXES):
        if paths := [path for path in files if path.suffix.lower() in suffixes]:
            return paths
    raise UserError(f"--images {root} holds no images ({', '.join(sorted(IMAGE_SUFFIXES | ARRAY_SUFFIXES))})")


def _read_list(path: Path) -> Iterator[Path]:
    """The images that a text file lists. Empty lines and lines that begin with # are ignored."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list of images {path}: {error}") from error
    named = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    named = [(number, line) for number, line in named if line and not line.startswith("#")]
    if not named:
        raise UserError(f"--images {path} lists no images; write the path of an image on each line")
    for number, line in named:
        image = path.parent / line
        if not image.is_file():
            raise UserError(f"{path}, line {number}: {image} does not exist")
        yield image


@cache
def _pixels(name: str) -> np.ndarray:
    """A bundled photograph, uint8 (height, width, 3)."""
    import skimage.data

    photograph = getattr(skimage.data, _PHOTOGRAPHS[name].function)()
    return photograph[0] if isinstance(photograph, tuple) else photograph  # the left one of a stereo pair


def _fingerprint(name: str) -> str:
    """SHA-256 of a photograph's file, or of its pixels if scikit-image should ship another file under this name."""
    pixels = hashlib.sha256(np.ascontiguousarray(_pixels(name)).tobytes()).hexdigest()
    return _PHOTOGRAPHS[name].file if pixels == _PHOTOGRAPHS[name].pixels else pixels


def take_evenly(items: Sequence[Path], count: int) -> list[Path]:
    """Take `count` items spread evenly over the sequence, including the first one; all if there are no more."""
    if count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def read_image(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """Read a picture as 8-bit colour and resize it, without keeping its aspect ratio, by Pillow's bicubic filter.

    Greyscale, palette, CMYK and images with an alpha channel become RGB; 16-bit images are scaled to 8 bits.

    Args:
        size: (height, width) in pixels.

    Returns: uint8 (height, width, 3), red, green, blue.
    Raises: OSError, ValueError or SyntaxError (Pillow's own) if the file is not a readable image.
    """
    return read_channels(Path(path), size, 3)
