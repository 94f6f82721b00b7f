"""The user's labelled images, with one folder per class, and the network's output for each class."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runkit import UserError, sha256_of_files
from runkit.files import IMAGE_SUFFIXES, list_visible

__all__ = ["ImageFolder", "LabelledImage", "find_folder", "match_classes", "match_lines", "share_evenly"]

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
    classes: Sequence[str], outputs: int, names: Mapping[str, Sequence[int]], *, network: str
) -> tuple[dict[str, int], str]:
    """Find the output of a network that corresponds to each class folder.

    Folders are matched by name if the names of all are known, else by index. They are matched in sorted order only if
    none of their names is known, since the order of names that are known in part is probably another one.

    Args:
        classes: Names of the class folders, sorted.
        outputs: Number of the network's outputs.
        names: WordNet ids or class names of the outputs, as far as they are known -> the outputs of this name.
        network: Name of the network, for messages.
    Returns: Class -> output, and a description of how they were matched.
    Raises: UserError if a class matches no output or several, or two classes match the same output.
    """
    outputs_of = {_plain(name): tuple(of_name) for name, of_name in names.items()}
    known = [name for name in classes if _plain(name) in outputs_of]
    if len(known) == len(classes):
        kind = "WordNet ids" if all(_SYNSET.fullmatch(name) for name in classes) else "class names"
        found = {name: _only(name, outputs_of[_plain(name)], names) for name in classes}
        return _refuse_shared(found), f"folders by {kind}"
    if all(name.isdecimal() for name in classes) and max(map(int, classes)) < outputs:
        return _refuse_shared({name: int(name) for name in classes}), "folders by the index of the output"
    if len(classes) == outputs and not known:
        return {name: index for index, name in enumerate(sorted(classes))}, "folders in sorted order"
    unknown = next(name for name in classes if name not in known)
    way_out = "" if len(classes) == outputs else ", or give one folder per output"
    raise UserError(
        f"{network} has {outputs} outputs and there are {len(classes)} class folders; {unknown!r} is neither the "
        f"WordNet id, the name nor the index of an output. Name the outputs by --classes FILE{way_out}"
    )


def match_lines(classes: Sequence[str], lines: Sequence[str], *, file: Path) -> dict[str, int]:
    """Find the line of a class file, and so the output of a network, that corresponds to each class folder.

    A line corresponds to a folder if it is the folder's name or, where no line is, if its first word is; the rest of
    such a line is a comment. Capitals and underscores count only where several lines or folders would otherwise agree.

    Args:
        classes: Names of the class folders.
        lines: The lines of the file, one for each output (`shapebias.stimuli.classes.read_class_lines`).
        file: The file, for messages.
    Returns: Class -> index of the line, counted from 0.
    Raises: UserError if a class has no line or several, or two classes have the same line.
    """
    words = [(line.split() or [""])[0] for line in lines]
    exact = [_places_of(lines), _places_of(words)]
    tolerant = [_places_of(map(_plain, lines)), _places_of(map(_plain, words))]
    found: dict[str, int] = {}
    for name in classes:
        matches = [*(way.get(name) for way in exact), *(way.get(_plain(name)) for way in tolerant)]
        same = next(filter(None, matches), [])
        if not same:
            raise UserError(
                f"--classes {file}: no line is the name of the folder {name!r}; name each folder in the line of its "
                "output"
            )
        if len(same) > 1:
            numbers = " and ".join(f"{index + 1} ({lines[index]!r})" for index in same)
            raise UserError(f"--classes {file}: the folder {name!r} is named by lines {numbers}; keep one of them")
        found[name] = same[0]
    return _refuse_shared(found)


def _places_of(words: Iterable[str]) -> dict[str, list[int]]:
    """Word -> where it stands in a sequence."""
    places: dict[str, list[int]] = {}
    for index, word in enumerate(words):
        places.setdefault(word, []).append(index)
    return places


def _only(name: str, outputs: Sequence[int], names: Mapping[str, Sequence[int]]) -> int:
    """The output that a name stands for.

    Raises: UserError if there are several; it names their WordNet ids.
    """
    if len(outputs) == 1:
        return outputs[0]
    synsets = {index: one for one, of_name in names.items() if _SYNSET.fullmatch(one) for index in of_name}
    choices = " or ".join(f"{synsets.get(index, 'another name')} (output {index})" for index in outputs)
    raise UserError(f"the folder {name!r} has a name of {len(outputs)} outputs; call it {choices}")


def _refuse_shared(found: dict[str, int]) -> dict[str, int]:
    """Return the outputs of the classes unchanged.

    Raises: UserError if two classes have the same output.
    """
    classes: dict[int, str] = {}
    for name, output in found.items():
        if output in classes:
            raise UserError(
                f"the folders {classes[output]!r} and {name!r} are both of output {output}; put their images into one "
                "folder"
            )
        classes[output] = name
    return found


def _plain(name: str) -> str:
    """A name in lower case, with spaces for underscores."""
    return " ".join(name.lower().replace("_", " ").split())


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
