"""The images of an experiment: find, download, check, list.

A cue-conflict image has the shape of one object and the texture of another (style transfer), and its name says which:
`cat7-elephant1.png` lies in the folder `cat` and wears elephant skin. In 80 of the 1280 both are the same category.
Edge drawings and silhouettes (160 each) have a shape only: `cat7.png`.
Geirhos et al., "ImageNet-trained CNNs are biased towards texture" (ICLR 2019, arXiv:1811.12231), images CC BY 4.0.
"""

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypedDict

from runkit import UserError, sha256_of_files, sha256_of_lines
from runkit.content import Count
from runkit.fetch.archive import unpack_tar
from runkit.fetch.download import DownloadError, download, locked
from runkit.fetch.manifest import check_remembered, discard, known_files, remember_sha256, verify_file
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.experiments import CUE_CONFLICT, Experiment

__all__ = [
    "Stimuli",
    "Stimulus",
    "cache_folder",
    "find_stimuli",
    "parse_image_name",
    "read_stimuli",
    "stimuli_at_hand",
    "unpack_archive",
]

SIDE_PX = 224

_NAME = re.compile(r"(?P<shape>[a-z]+)\d+(-(?P<texture>[a-z]+)\d+)?\.png")
_MAX_UNPACKED_BYTES = 1 << 30
_SHOWN = 3


@dataclass(frozen=True)
class Stimulus:
    """One image: where it is, and the categories of its shape and of its texture ("" if it has none of its own)."""

    path: Path
    shape: str
    texture: str

    @property
    def name(self) -> str:
        """File name, unique in the benchmark."""
        return self.path.name


class StimuliFiles(TypedDict):
    """Which images those are, and whether they are the published ones."""

    name: str
    images: Count
    file_list_sha256: str
    content_sha256: str
    sha256_verified: Literal["full", "none"]
    published_list: bool


@dataclass(frozen=True)
class Stimuli(Sequence[Stimulus]):
    """A checked folder of an experiment's images, sorted by category and file name (as the toolbox visits them)."""

    folder: Path
    items: tuple[Stimulus, ...]
    experiment: Experiment = CUE_CONFLICT

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index):
        """A stimulus, or for a slice the `Stimuli` with only those images."""
        if isinstance(index, slice):
            return Stimuli(self.folder, self.items[index], self.experiment)
        return self.items[index]

    @cached_property
    def file_list_sha256(self) -> str:
        """SHA-256 of the lines `<category>/<name>`."""
        return sha256_of_lines(f"{item.shape}/{item.name}" for item in self.items)

    @cached_property
    def content_sha256(self) -> str:
        """SHA-256 of the lines `<category>/<name> <SHA-256 of the file>` (`runkit.sha256_of_files`)."""
        return sha256_of_files(self.folder, (item.path for item in self.items))

    @property
    def is_published_list(self) -> bool:
        """Whether the names are those of the published benchmark."""
        return self.file_list_sha256 == self.experiment.file_list_sha256

    def describe(self) -> StimuliFiles:
        """The `data` block of a result file."""
        return {
            "name": self.experiment.name,
            "images": len(self),
            "file_list_sha256": self.file_list_sha256,
            "content_sha256": self.content_sha256,
            "sha256_verified": "full" if self.content_sha256 == self.experiment.content_sha256 else "none",
            "published_list": self.is_published_list,
        }


def parse_image_name(name: str) -> tuple[str, str]:
    """Shape and texture category of an image or trial name, e.g. `"0001_x_cat_cat7-elephant1.png"`.

    What stands before the last underscore is the number and condition of a trial and is ignored, as in the toolbox.

    Returns: Two of the 16 categories; the texture is "" for an image with one cue, `<shape><n>.png`.
    Raises: ValueError if the rest is neither that nor `<shape><n>-<texture><m>.png`.
    """
    match = _NAME.fullmatch(name.rpartition("_")[2])
    if match is None:
        raise ValueError(f"image name {name!r} is not of the form <shape><n>-<texture><m>.png, e.g. cat7-elephant1.png")
    shape, texture = match["shape"], match["texture"] or ""
    for category in (shape, texture):
        if category and category not in CATEGORIES:
            raise ValueError(f"image name {name!r} has the unknown category {category!r}")
    return shape, texture


def read_stimuli(folder: str | Path, experiment: Experiment = CUE_CONFLICT, *, complete: bool = True) -> Stimuli:
    """Check a folder of an experiment's images and list them. Hidden files are passed over; no pixels are decoded.

    Args:
        folder: Holds one folder for each category, named like it.
        experiment: Which images they are.
        complete: Whether it must be the whole benchmark, as many images of each of the 16 categories as were published.
            Otherwise any part of it will do.
    Raises: UserError that says what is missing, unknown, or not a PNG of 224 × 224 pixels.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}; --stimuli must hold the {len(CATEGORIES)} category folders ({experiment.name})"
        )
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    unknown = [path.name for path in entries if path.name not in CATEGORIES or not path.is_dir()]
    missing = [name for name in CATEGORIES if not (folder / name).is_dir()]
    problems = []
    if missing and (complete or len(missing) == len(CATEGORIES)):
        problems.append(f"missing category folders: {_shorten(missing)}")
    if unknown:
        problems.append(f"unknown entries: {_shorten(unknown)}")
    if problems:
        inside = folder / experiment.name
        hint = f"; did you mean {inside}?" if inside.is_dir() else ""
        raise UserError(f"{folder} is not the {experiment.name} benchmark: {'; '.join(problems)}{hint}")

    items: list[Stimulus] = []
    for category in CATEGORIES:
        if category in missing:
            continue
        paths = sorted(path for path in (folder / category).iterdir() if not path.name.startswith("."))
        items.extend(_check_image(path, category, experiment) for path in paths)
        if complete and len(paths) != experiment.images_per_category:
            raise UserError(
                f"{folder / category} holds {len(paths)} images, the benchmark has {experiment.images_per_category} of "
                "each category; unpack the archive again, or leave out --stimuli to download it"
            )
    if not items:
        raise UserError(f"{folder} holds no images")
    return Stimuli(folder, tuple(items), experiment)


def cache_folder() -> Path:
    """Where fetched data is kept: `$REPLKNET_CACHE`, else `replknet-analysis` in the user's cache folder."""
    if chosen := os.environ.get("REPLKNET_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "replknet-analysis"


def find_stimuli(folder: str | Path | None = None, experiment: Experiment = CUE_CONFLICT) -> Stimuli:
    """The benchmark's images from `folder` (the user's own copy), else from the cache, else downloaded into the cache.

    Raises: UserError if the folder is not the benchmark, or it can be had from nowhere.
    """
    if folder is not None:
        return read_stimuli(folder, experiment)
    cached = cache_folder() / experiment.name
    if not cached.is_dir():
        with locked(cached):
            if not cached.is_dir():  # another process may have made it meanwhile
                _fetch_benchmark(cached, experiment)
    stimuli = read_stimuli(cached, experiment)
    check_remembered(cached, stimuli.content_sha256)
    return stimuli


def stimuli_at_hand(folder: str | Path | None = None, experiment: Experiment = CUE_CONFLICT) -> Stimuli | None:
    """As `find_stimuli`, but None where the images would have to be downloaded."""
    if folder is None and not (cache_folder() / experiment.name).is_dir():
        return None
    return find_stimuli(folder, experiment)


def _fetch_benchmark(folder: Path, experiment: Experiment) -> None:
    published = known_files("stimuli")[f"{experiment.name}.tar.gz"]
    archive = folder.with_name(published.name)
    try:
        download(published.url, archive, what=f"the {experiment.what}", sha256=published.sha256, size=published.size)
    except DownloadError as error:
        raise UserError(f"{error}; unpack {published.url} and name its folder with --stimuli") from error
    try:
        verify_file(archive, published.sha256)
        unpack_archive(archive, folder, experiment)
    finally:
        discard(archive)


def unpack_archive(archive: str | Path, folder: str | Path, experiment: Experiment = CUE_CONFLICT) -> None:
    """Unpack the official archive so that `folder` holds the checked benchmark; nothing is left behind after an error.

    What the images are is remembered beside it, as for a downloaded file (see `runkit.fetch.manifest`).

    Raises: UserError as `runkit.fetch.archive.unpack_tar`, or that says what is missing from the benchmark.
    """

    def pick(unpacked: Path) -> Path:
        roots = sorted({path.parent for path in unpacked.rglob(CATEGORIES[0]) if path.is_dir()})
        if len(roots) != 1:
            raise UserError(f"{archive} does not hold one set of category folders such as {CATEGORIES[0]!r}")
        content_sha256 = read_stimuli(roots[0], experiment).content_sha256
        check_remembered(Path(folder), content_sha256)
        remember_sha256(Path(folder), content_sha256)
        return roots[0]

    unpack_tar(archive, folder, pick=pick, max_bytes=_MAX_UNPACKED_BYTES)


def _check_image(path: Path, category: str, experiment: Experiment) -> Stimulus:
    """The stimulus at `path`, by its name and its PNG header."""
    try:
        shape, texture = parse_image_name(path.name)
    except ValueError as error:
        raise UserError(f"{path.parent}: {error}") from error
    if bool(texture) != experiment.two_cues:
        found = "a texture of its own" if texture else "no texture of its own"
        raise UserError(f"{path} is not one of the {experiment.what}: by its name it has {found}")
    if shape != category:
        raise UserError(f"{path} has the shape {shape!r} but lies in the folder {category!r}")
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n":
        raise UserError(f"{path} is not a PNG image")
    width, height = struct.unpack(">II", head[16:24])
    if (width, height) != (SIDE_PX, SIDE_PX):
        raise UserError(f"{path} has {width} × {height} pixels, the benchmark's images have {SIDE_PX} × {SIDE_PX}")
    return Stimulus(path, shape, texture)


def _shorten(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
