"""Find, download, check and list the images of an experiment.

A cue-conflict image has the shape of one object and the texture of another (style transfer), and its name says which:
`cat7-elephant1.png` in the folder `cat` shows a cat with elephant skin. In 80 of the 1280 images, both are of the same
category. Edge drawings and silhouettes (160 each) have only a shape: `cat7.png`. These images are from Geirhos et al.,
"ImageNet-trained CNNs are biased towards texture" (ICLR 2019, arXiv:1811.12231), CC BY 4.0. The images of each other
experiment lie in one folder, and their names contain the condition and the category (`shapebias.stimuli.layouts`).
"""

import logging
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import numpy as np

from runkit import UserError, sha256_of_files, sha256_of_lines
from runkit.content import Count
from runkit.fetch.archive import unpack_tar
from runkit.fetch.download import DownloadError, download, locked
from runkit.fetch.manifest import check_remembered, discard, known_files, remember_sha256, verify_file
from runkit.schema import Keywords
from shapebias.stimuli.categories import CATEGORIES, ClassMap
from shapebias.stimuli.experiments import CUE_CONFLICT, EXPERIMENTS, Experiment
from shapebias.stimuli.folders import share_evenly
from shapebias.stimuli.layouts import ONE_FOLDER, AbsentStimuli, Stimulus, list_images, parse_image_name

__all__ = [
    "Stimuli",
    "Stimulus",
    "cache_folder",
    "find_all_stimuli",
    "find_stimuli",
    "parse_image_name",
    "read_stimuli",
    "stimuli_at_hand",
    "unpack_archive",
]

_MAX_UNPACKED_BYTES = 1 << 30

_logger = logging.getLogger(__name__)


class _Chosen(TypedDict, total=False):
    images_found: Annotated[Count, Keywords(description="that `images` were chosen from (--num-images)")]


class StimuliFiles(_Chosen):
    """Identity of an experiment's images, and whether they are the published ones."""

    name: str
    images: Count
    file_list_sha256: str
    content_sha256: str
    sha256_verified: Literal["full", "none"]
    published_list: bool


@dataclass(frozen=True)
class Stimuli(Sequence[Stimulus]):
    """A checked folder of an experiment's images, in the order of the toolbox.

    This order is by category and file name, or by file name alone if all images are in one folder.

    Attributes:
        folder: Folder of the images.
        items: The images.
        experiment: The experiment that the images belong to.
        found: Number of images from which `take` chose these; None for all images.
    """

    folder: Path
    items: tuple[Stimulus, ...]
    experiment: Experiment = CUE_CONFLICT
    found: int | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index):
        """Return a stimulus or, for a slice, the `Stimuli` with only those images."""
        if isinstance(index, slice):
            return Stimuli(self.folder, self.items[index], self.experiment)
        return self.items[index]

    def answerable(self, classes: ClassMap) -> "Stimuli":
        """Return the images whose categories a network with these classes can answer."""
        if classes.complete:
            return self
        items = tuple(item for item in self.items if classes.can_answer(item.shape, item.texture))
        return Stimuli(self.folder, items, self.experiment)

    def take(self, count: int) -> "Stimuli":
        """Take at most `count` of the images, chosen at random but always the same ones.

        They are spread evenly: the numbers of images of any two categories differ by at most one, as do, within a
        category, those of any two textures or conditions.

        Returns: The chosen images in the order of the toolbox; all images if there are no more than `count`.
        Raises: ValueError if `count` is below 1.
        """
        if count < 1:
            raise ValueError(f"count {count}: take at least 1")
        if count >= len(self):
            return self
        of_category: dict[str, list[int]] = {}
        for index, item in enumerate(self.items):
            of_category.setdefault(item.shape, []).append(index)
        shares = share_evenly(count, list(map(len, of_category.values())))
        kept: list[int] = []
        for (category, places), share in zip(of_category.items(), shares, strict=True):
            kept += self._draw(places, category)[:share]
        return Stimuli(self.folder, tuple(self.items[i] for i in sorted(kept)), self.experiment, len(self))

    def _draw(self, places: Sequence[int], category: str) -> list[int]:
        """Order the images of a category so that the first n have all textures, or conditions, equally often."""
        shuffled = np.random.default_rng(zlib.crc32(category.encode())).permutation(places)
        counts: dict[tuple[str, str], int] = {}
        rounds: list[int] = []  # number of preceding images of the same kind
        for place in shuffled:
            kind = (self.items[place].texture, self.items[place].condition)
            rounds.append(counts.get(kind, 0))
            counts[kind] = rounds[-1] + 1
        return [int(shuffled[i]) for i in np.argsort(rounds, kind="stable")]

    @cached_property
    def file_list_sha256(self) -> str:
        """SHA-256 of the lines `<category>/<name>`."""
        return sha256_of_lines(f"{item.shape}/{item.name}" for item in self.items)

    @cached_property
    def content_sha256(self) -> str:
        """SHA-256 of the lines `<category>/<name> <SHA-256 of the file>` (`runkit.sha256_of_files`).

        The category is omitted if all images lie in one folder.
        """
        return sha256_of_files(self.folder, (item.path for item in self.items))

    @property
    def is_published_list(self) -> bool:
        """Whether the categories and names of the images are those of the published benchmark."""
        return self.file_list_sha256 == self.experiment.file_list_sha256

    def describe(self) -> StimuliFiles:
        """Describe the images for the `data` block of a result file."""
        described: StimuliFiles = {
            "name": self.experiment.name,
            "images": len(self),
            "file_list_sha256": self.file_list_sha256,
            "content_sha256": self.content_sha256,
            "sha256_verified": "full" if self.content_sha256 == self.experiment.content_sha256 else "none",
            "published_list": self.is_published_list,
        }
        if self.found is not None:
            described["images_found"] = self.found
        return described


def read_stimuli(folder: str | Path, experiment: Experiment = CUE_CONFLICT, *, complete: bool = True) -> Stimuli:
    """Check a folder of an experiment's images and list them. Hidden files are ignored; no pixels are decoded.

    Args:
        folder: Folder with one folder per category, named like it, or with all images (`Experiment.in_one_folder`).
        experiment: The experiment that the images belong to.
        complete: Whether the folder must hold the whole benchmark, with the published number of images in each of the
            16 categories. Otherwise any part of it is accepted.
    Raises: UserError that says what is missing, unknown, or not a PNG of 224 × 224 pixels.
    """
    found, items = list_images(Path(folder), experiment, complete=complete)
    if not items:
        raise UserError(f"{folder} holds no images")
    return Stimuli(found, tuple(items), experiment)


def cache_folder() -> Path:
    """Return the folder for downloaded data: `$REPLKNET_CACHE`, else `replknet-analysis` in the user's cache folder."""
    if chosen := os.environ.get("REPLKNET_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "replknet-analysis"


def find_stimuli(folder: str | Path | None = None, experiment: Experiment = CUE_CONFLICT) -> Stimuli:
    """Find the benchmark's images in `folder`, or else in the cache, which is filled by a download if necessary.

    Raises: UserError if the folder does not hold the benchmark or holds the published images of another experiment, or
        if the images cannot be downloaded.
    """
    if folder is not None:
        stimuli = read_stimuli(folder, experiment)
        _check_content(stimuli)
        return stimuli
    cached = cache_folder() / experiment.name
    if not cached.is_dir():
        with locked(cached):
            if not cached.is_dir():  # another process may have created it in the meantime
                _fetch_benchmark(cached, experiment)
    stimuli = read_stimuli(cached, experiment)
    check_remembered(cached, stimuli.content_sha256)
    return stimuli


def _check_content(stimuli: Stimuli) -> None:
    """Check the content of the images: names alone do not tell edge drawings from silhouettes.

    Warns if the names are those of the published images but the content is not.

    Raises: UserError if the content is that of the published images of another experiment.
    """
    experiment = stimuli.experiment
    if experiment.content_sha256 is None or stimuli.content_sha256 == experiment.content_sha256:
        return
    for other in EXPERIMENTS.values():
        if other.content_sha256 == stimuli.content_sha256:
            raise UserError(
                f"{stimuli.folder} holds the {other.what} (--experiment {other.name}), not the {experiment.what} of "
                f"{experiment.name}; name the folder of the {experiment.what}, or the other experiment"
            )
    if stimuli.is_published_list:
        _logger.warning(
            "%s: the names are those of the published %s, the content of the files is not; make sure that they are of "
            "the experiment %s",
            stimuli.folder,
            experiment.what,
            experiment.name,
        )


def find_all_stimuli(
    folders: Mapping[Experiment, Path | None], *, find: Callable[[Any, Experiment], Stimuli] = find_stimuli
) -> list[Stimuli]:
    """As `find_stimuli` for several experiments. All are tried before an error reports those that are absent.

    Args:
        folders: Experiment -> the user's folder, if there is one.
        find: Function that finds the images of one experiment. If all have folders, `read_stimuli` may be used, which
            checks only names and image sizes.
    Raises: UserError as `find_stimuli`. If several experiments were requested and some are absent, it names these, and
        those that are there.
    """
    found: list[Stimuli] = []
    absent: dict[str, AbsentStimuli] = {}
    for experiment, folder in folders.items():
        try:
            found.append(find(folder, experiment))
        except AbsentStimuli as error:
            absent[experiment.name] = error
    if not absent:
        return found
    first = next(iter(absent.values()))
    if len(folders) == 1:
        raise first
    there = " ".join(stimuli.experiment.name for stimuli in found)
    way_out = f"ask for those that are there: --experiment {there}" if there else "none is there"
    raise UserError(f"no images of {', '.join(absent)} ({first}); {way_out}")


def stimuli_at_hand(folder: str | Path | None = None, experiment: Experiment = CUE_CONFLICT) -> Stimuli | None:
    """As `find_stimuli`, but return None if the images would have to be downloaded."""
    if folder is None and not (cache_folder() / experiment.name).is_dir():
        return None
    return find_stimuli(folder, experiment)


def _fetch_benchmark(folder: Path, experiment: Experiment) -> None:
    published = known_files("stimuli")[f"{experiment.name}.tar.gz"]
    archive = folder.with_name(published.name)
    try:
        download(published.url, archive, what=f"the {experiment.what}", sha256=published.sha256, size=published.size)
    except DownloadError as error:
        raise AbsentStimuli(f"{error}; unpack {published.url} and name its folder with --stimuli") from error
    try:
        verify_file(archive, published.sha256)
        unpack_archive(archive, folder, experiment)
    finally:
        discard(archive)


def unpack_archive(archive: str | Path, folder: str | Path, experiment: Experiment = CUE_CONFLICT) -> None:
    """Unpack the official archive so that `folder` holds the checked benchmark; nothing is left behind after an error.

    The SHA-256 of the images is stored next to the folder, as for a downloaded file (see `runkit.fetch.manifest`).

    Raises: UserError as `runkit.fetch.archive.unpack_tar`, or if the benchmark is incomplete; it then says what is
        missing.
    """

    def pick(unpacked: Path) -> Path:
        if experiment.in_one_folder:
            what = f"one folder {'/'.join(ONE_FOLDER)}"
            roots = sorted(path for path in unpacked.rglob(ONE_FOLDER[-1]) if path.parent.name == ONE_FOLDER[0])
        else:
            what = f"one set of category folders such as {CATEGORIES[0]!r}"
            roots = sorted({path.parent for path in unpacked.rglob(CATEGORIES[0]) if path.is_dir()})
        if len(roots) != 1:
            raise UserError(f"{archive} does not hold {what}")
        content_sha256 = read_stimuli(roots[0], experiment).content_sha256
        check_remembered(Path(folder), content_sha256)
        remember_sha256(Path(folder), content_sha256)
        return roots[0]

    unpack_tar(archive, folder, pick=pick, max_bytes=_MAX_UNPACKED_BYTES)
