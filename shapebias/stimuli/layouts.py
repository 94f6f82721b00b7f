"""Names and folders of the two layouts in which the images of an experiment are published, and checks of both.

In category folders, `<category>/<image>`, a name says what the image shows: `cat7-elephant1.png` (shape and texture) or
`cat7.png` (only a shape). In one folder, `dnn/session-1/<image>`, a name consists of pieces between underscores, of
which the fourth is the condition and the fifth the category: `0001_cop_dnn_c30_knife_10_n03041632_7380.png`. The
toolbox reads names in the same way (model-vs-human, `modelvshuman/datasets/info_mappings.py`).
"""

import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runkit import UserError
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.experiments import EXPERIMENTS, Experiment

__all__ = [
    "ONE_FOLDER",
    "AbsentStimuli",
    "Stimulus",
    "experiments_of_name",
    "is_named_by_trial",
    "list_images",
    "names_category",
    "parse_image_name",
    "parse_stimulus",
]

SIDE_PX = 224
ONE_FOLDER = ("dnn", "session-1")
"""Folder of the images in an archive without category folders."""

_NAME = re.compile(r"(?P<shape>[a-z]+)\d+(-(?P<texture>[a-z]+)\d+)?\.png")
_TRIAL = re.compile(r"[^_]+_[^_]+_[^_]+_(?P<condition>[^_]+)_(?P<category>[^_]+)_[^_]+_.+\.png")
_SHOWN = 3
_PIECES = 7
"""Number of pieces between underscores in the name of a trial; the second is the token of the experiment."""


class AbsentStimuli(UserError):
    """The images of an experiment are missing and cannot be fetched; the message says where they should be."""


@dataclass(frozen=True)
class Stimulus:
    """One image, described by its file name.

    Attributes:
        path: Path of the file.
        shape: Category of the shape, which is the right answer.
        texture: Category of the texture; "" for images with one cue.
        condition: Condition as written in the file name, which is how the toolbox writes it; "" if there is none.
    """

    path: Path
    shape: str
    texture: str
    condition: str = ""

    @property
    def name(self) -> str:
        """File name, unique in the experiment."""
        return self.path.name


def names_category(name: str) -> bool:
    """Whether the last piece of a name has the form of image names in category folders, with shape and texture."""
    return _NAME.fullmatch(name.rpartition("_")[2]) is not None


def experiments_of_name(name: str) -> tuple[str, ...]:
    """Return the experiments whose token is in the name of a trial, as `edg` in `0001_edg_s01_0_oven_00_oven10.png`.

    Returns: Names of experiments, three for an eidolon image; empty if the name has no token or an unknown one.
    """
    pieces = name.split("_", _PIECES - 1)
    if len(pieces) < _PIECES:
        return ()
    return tuple(experiment.name for experiment in EXPERIMENTS.values() if experiment.token == pieces[1])


def is_named_by_trial(name: str) -> bool:
    """Whether a name has the form of images in one folder, whose last piece does not say the category."""
    return _TRIAL.fullmatch(name) is not None and not names_category(name)


def parse_image_name(name: str) -> tuple[str, str]:
    """Parse the shape and texture category from an image or trial name, e.g. `"0001_x_cat_cat7-elephant1.png"`.

    If the piece after the last underscore contains them, everything before it (such as the number and condition of a
    trial) is ignored, as in the toolbox. Otherwise the fifth piece is the category.

    Returns: Two of the 16 categories; the texture is "" for an image with one cue.
    Raises: ValueError if the name has none of the forms of this module, or an unknown category.
    """
    stimulus = parse_stimulus(Path(name))
    return stimulus.shape, stimulus.texture


def parse_stimulus(path: Path) -> Stimulus:
    """Parse the name of an image file into a stimulus.

    Raises: ValueError as `parse_image_name`.
    """
    name = path.name
    if match := _NAME.fullmatch(name.rpartition("_")[2]):
        stimulus = Stimulus(path, match["shape"], match["texture"] or "")
    elif match := _TRIAL.fullmatch(name):
        stimulus = Stimulus(path, match["category"], "", match["condition"])
    else:
        raise ValueError(
            f"image name {name!r} is not of the form <shape><n>-<texture><m>.png, e.g. cat7-elephant1.png, or "
            "<number>_<dataset>_dnn_<condition>_<category>_<n>_<image>.png"
        )
    for category in (stimulus.shape, stimulus.texture):
        if category and category not in CATEGORIES:
            raise ValueError(f"image name {name!r} has the unknown category {category!r}")
    return stimulus


def list_images(folder: Path, experiment: Experiment, *, complete: bool) -> tuple[Path, list[Stimulus]]:
    """Check a folder of an experiment's images and list them in the order in which the toolbox visits them.

    Hidden files are ignored; no pixels are decoded.

    Args:
        folder: Folder with one folder per category, or with the images themselves (also in `dnn/session-1`, as in the
            archive).
        experiment: The experiment that the images belong to; it determines the layout.
        complete: Whether the folder must hold the whole benchmark: as many images of each category, and in each
            condition, as were published. Otherwise any part of it is accepted.

    Returns: The folder that directly holds the category folders or the images, and the images.
    Raises: UserError that says what is missing, unknown, or not a PNG of 224 × 224 pixels.
    """
    if experiment.in_one_folder:
        inside = folder.joinpath(*ONE_FOLDER)
        return _list_one_folder(inside if inside.is_dir() else folder, experiment, complete=complete)
    return folder, _list_categories(folder, experiment, complete=complete)


def _list_categories(folder: Path, experiment: Experiment, *, complete: bool) -> list[Stimulus]:
    """The images of a folder with one folder for each category, sorted by category and file name."""
    if not folder.is_dir():
        raise AbsentStimuli(
            f"no folder {folder}; --stimuli must hold the {len(CATEGORIES)} category folders ({experiment.name})"
        )
    entries = _visible(folder)
    unknown = [path.name for path in entries if path.name not in CATEGORIES or not path.is_dir()]
    missing = [name for name in CATEGORIES if not (folder / name).is_dir()]
    problems = []
    if missing and (complete or len(missing) == len(CATEGORIES)):
        problems.append(f"missing category folders: {_shorten(missing)}")
    if unknown:
        problems.append(f"unknown entries: {_shorten(unknown)}")
    _refuse(folder, experiment, problems)

    items: list[Stimulus] = []
    for category in CATEGORIES:
        if category in missing:
            continue
        paths = _visible(folder / category)
        for path in paths:
            items.append(_check_image(path, experiment))
            if items[-1].shape != category:
                raise UserError(f"{path} has the shape {items[-1].shape!r} but lies in the folder {category!r}")
        if complete and len(paths) != experiment.images_per_category:
            raise UserError(
                f"{folder / category} holds {len(paths)} images, the benchmark has {experiment.images_per_category} of "
                "each category; unpack the archive again, or leave out --stimuli to download it"
            )
    return items


def _list_one_folder(folder: Path, experiment: Experiment, *, complete: bool) -> tuple[Path, list[Stimulus]]:
    """The images of a folder that holds all of them, sorted by file name."""
    if not folder.is_dir():
        raise AbsentStimuli(
            f"no folder {folder}; --stimuli must hold the {experiment.images} images of {experiment.name}, or its "
            f"{'/'.join(ONE_FOLDER)}"
        )
    paths = _visible(folder)
    unknown = [path.name for path in paths if path.suffix != ".png" or path.is_dir()]
    _refuse(folder, experiment, [f"unknown entries: {_shorten(unknown)}"] if unknown else [])
    items = [_check_image(path, experiment) for path in paths]
    if complete:
        _count_conditions(folder, items, experiment)
    return folder, items


def _count_conditions(folder: Path, items: Sequence[Stimulus], experiment: Experiment) -> None:
    """Check that there are as many images of each category and condition as were published.

    Raises: UserError if there are not.
    """
    conditions = [condition.token for condition in experiment.conditions] or [""]
    wanted = experiment.images_per_category // len(conditions)
    counts = Counter((experiment.find_condition(item.condition), item.shape) for item in items)
    for position, token in enumerate(conditions):
        for category in CATEGORIES:
            if (count := counts[position, category]) != wanted:
                where = f" in the condition {token}" if token else ""
                raise UserError(
                    f"{folder} holds {count} images of the category {category}{where}, the benchmark has {wanted}; "
                    "unpack the archive again, or leave out --stimuli to download it"
                )


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _refuse(folder: Path, experiment: Experiment, problems: Sequence[str]) -> None:
    """Raise an error if there are problems with a folder.

    Raises: UserError that lists the problems and, if possible, suggests another folder.
    """
    if problems:
        inside = folder / experiment.name
        hint = f"; did you mean {inside}?" if inside.is_dir() else ""
        raise UserError(f"{folder} is not the {experiment.name} benchmark: {'; '.join(problems)}{hint}")


def _check_image(path: Path, experiment: Experiment) -> Stimulus:
    """Check the name and the PNG header of an image, and return its stimulus.

    Raises: UserError if the image does not belong to the experiment, or is not a PNG of 224 × 224 pixels.
    """
    try:
        stimulus = parse_stimulus(path)
        if experiment.in_one_folder:
            experiment.find_condition(stimulus.condition)
    except ValueError as error:
        raise UserError(f"{path.parent}: {error}") from error
    if is_named_by_trial(path.name) != experiment.in_one_folder:
        form = "does not say" if experiment.in_one_folder else "says"
        raise UserError(f"{path} is not one of the {experiment.what}: its name {form} a condition")
    if bool(stimulus.texture) != experiment.two_cues:
        found = "a texture of its own" if stimulus.texture else "no texture of its own"
        raise UserError(f"{path} is not one of the {experiment.what}: by its name it has {found}")
    if (others := experiments_of_name(path.name)) and experiment.name not in others:
        raise UserError(f"{path} is not one of the {experiment.what}: by its name it is of {' or '.join(others)}")
    if not path.is_file():
        raise UserError(f"{path} is not a PNG image: it is not a regular file")
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
    return stimulus


def _shorten(names: Sequence[str]) -> str:
    """The first few names, and the number of further ones."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
