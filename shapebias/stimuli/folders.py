"""The user's labelled images, with one folder per class, and the network's output for each class."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runkit import UserError, sha256_of_files
from runkit.files import IMAGE_SUFFIXES, list_visible

__all__ = ["ImageFolder", "LabelledImage", "find_folder", "match_classes", "share_evenly"]

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class LabelledImage:
    """An image and the class in whose folder it lies.

    Attributes:
        path: The file.
        name: Its path below the image folder, with forward slashes; seeds and results refer to it.
        label: Name of the class folder; "" for images without labels.
    """

    path: Path
    name: str
    label: str


@dataclass(frozen=True)
class ImageFolder:
    """Images that were chosen from a folder.

    Attributes:
        root: The folder.
        images: The chosen images, class by class, sorted by name.
        classes: Names of all class folders, sorted; empty for images without labels.
        found: Number of images from which they were chosen.
    """

    root: Path
    images: tuple[LabelledImage, ...]
    classes: tuple[str, ...]
    found: int

    def sha256(self) -> str:
        """SHA-256 of the names and contents of the chosen files (`runkit.sha256_of_files`)."""
        return sha256_of_files(self.root, [image.path for image in self.images])


def find_folder(root: Path, num_images: int | None = None, *, labelled: bool = True) -> ImageFolder:
    """Find the images of a folder and choose some, evenly over classes and within each class.

    Args:
        root: A folder of class folders, each of any depth; without labels, any folder.
        num_images: Maximal number of images, shared equally among the classes as by `share_evenly`; None for all.
        labelled: Whether the folders directly below `root` are classes.

    Raises: UserError if the folder is missing or holds no images, or if it is labelled and holds images of fewer than
        two classes.
    """
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"--images {root} {what}; name a folder of images")
    paths = [p for p in list_visible(root, "**/*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not paths:
        raise UserError(f"--images {root}: it holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if not labelled:
        images = [LabelledImage(path, path.relative_to(root).as_posix(), "") for path in paths]
        return ImageFolder(root, tuple(_evenly(images, num_images or len(images))), (), len(paths))
    of_class: dict[str, list[LabelledImage]] = {}
    for path in paths:
        relative = path.relative_to(root)
        if len(relative.parts) > 1:  # an image next to the class folders belongs to no class
            of_class.setdefault(relative.parts[0], []).append(
                LabelledImage(path, relative.as_posix(), relative.parts[0])
            )
    if len(of_class) < 2:
        raise UserError(
            f"--images {root}: accuracy needs a folder per class, two at least, and there are {len(of_class)}; "
            "--unlabelled measures how often answers change, without classes"
        )
    empty = [path.name for path in list_visible(root, "*") if path.is_dir() and path.name not in of_class]
    if empty:
        _logger.warning("%s: left out, without images: %s", root, ", ".join(empty))
    shares = share_evenly(num_images, [len(images) for images in of_class.values()])
    chosen = [
        image for images, share in zip(of_class.values(), shares, strict=True) for image in _evenly(images, share)
    ]
    return ImageFolder(root, tuple(chosen), tuple(of_class), sum(map(len, of_class.values())))


def match_classes(
    classes: Sequence[str], outputs: int, names: Mapping[str, int], *, network: str
) -> tuple[dict[str, int], str]:
    """Find the output of a network that corresponds to each class folder.

    Args:
        classes: Names of the class folders, sorted.
        outputs: Number of the network's outputs.
        names: WordNet ids or class names of the outputs, as far as they are known -> index of the output.
        network: Name of the network, for messages.
    Returns: Class -> output, and a description of how they were matched.
    Raises: UserError if a class matches no output.
    """
    lower = {name.lower(): index for name, index in names.items()}
    known = {name: lower[_plain(name)] for name in classes if _plain(name) in lower}
    if len(known) == len(classes):
        kind = "WordNet ids" if all(_SYNSET.fullmatch(name) for name in classes) else "class names"
        return known, f"folders by {kind}"
    if all(name.isdecimal() for name in classes) and max(map(int, classes)) < outputs:
        return {name: int(name) for name in classes}, "folders by the index of the output"
    if len(classes) == outputs:
        return {name: index for index, name in enumerate(sorted(classes))}, "folders in sorted order"
    unknown = next(name for name in classes if name not in known)
    raise UserError(
        f"{network} has {outputs} outputs and there are {len(classes)} class folders; {unknown!r} is neither the "
        "WordNet id, the name nor the index of an output. Name the outputs by --classes FILE, or give one "
        "folder per output"
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", " ") if not _SYNSET.fullmatch(name) else name


def share_evenly(total: int | None, sizes: Sequence[int]) -> list[int]:
    """Share `total` images among classes of the given sizes equally; what small classes lack goes to the others.

    A remainder that cannot be shared equally goes to classes that are evenly spread over the list. None takes all.
    """
    if total is None or total >= sum(sizes):
        return list(sizes)
    shares = [0] * len(sizes)
    while total:
        open_ones = [index for index, size in enumerate(sizes) if shares[index] < size]
        chosen = _evenly(open_ones, total)
        for index in chosen:
            shares[index] += 1
        total -= len(chosen)
    return shares


def _evenly(items: Sequence[_T], count: int) -> list[_T]:
    count = min(count, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]
