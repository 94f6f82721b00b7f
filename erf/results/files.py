"""Results on disk: the `.npz`, from which everything can be computed without the network, and the `.json` beside it.

`.npz` of a finished run:
    contribution   float64 (H, W): mean over images of the rectified, colour-summed gradient, unscaled
    provenance     text: the JSON without its `results`, so that the file alone documents its origin
    image_names    text (N,): the images that were used, relative to their folder
    image_rings    float64 (N, R), image_annuli float64 (N, Q), image_moments float64 (N, 15): sums of each image's map
                   over square and circular rings around the centre, and its moments; exact (`MapSums`)
    image_shares   float32 (N, h, w): share of each image's map that lies in each of at most 128 × 128 blocks
    image_squares  float32 (N, h, w): sum of the squared map in each block, divided by the square of the map's sum

All measures of any other selection of the same images follow from the sums, so intervals need neither the network nor
all the maps. Of the `image_` arrays, files of schema 1 have only the rings. They can be read, and are measured without
intervals.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erf.measures.squares import check_map
from erf.measures.summary import SINGLE, Measured, measure, no_such_measure
from erf.measures.sums import Centre, MapSums
from erf.measures.value import Value
from erf.results.content import FieldProvenance, FieldResult
from erf.results.single_maps import MAPS_SUFFIX, SingleMaps, load_maps, maps_file, save_maps
from runkit import SCHEMA_VERSION, UserError, atomic_write, file_stem, load_json, read_arrays, save_json
from runkit.files import list_visible, reason_in_words

if TYPE_CHECKING:  # loads matplotlib
    from matplotlib.axes import Axes

__all__ = [
    "ErfResult",
    "check_result",
    "find_results",
    "finished_identity",
    "load_result",
    "manifest_file",
    "random_above",
    "result_files",
    "results_in",
    "save_measures",
    "save_result",
]

_BESIDE = (".json", ".pdf", ".png", ".svg")
"""Suffixes of the files that lie next to a result's `.npz`."""
_PART = re.compile(r"\.(?:maps(?=\.npz$)|(?:maps|overlay)(?=\.(?:pdf|png|svg)$))")
"""The part of a file name that marks maps of single images and their sheets."""


@dataclass(frozen=True)
class ErfResult:
    """A measured receptive field.

    `result.side(0.5)`, `result.area(0.5)` and attributes such as `result.rms_radius_px` are the measures of
    `result.measured`, each with its interval over images; `result["gaussian"]` is the entry of that name in the JSON.

    Attributes:
        name: Name that the user gave for the network, which is also the name of the files.
        contribution: float64 (H, W), >= 0: mean contribution map, unscaled.
        provenance: How it was made: weights, images, configuration, versions.
        sums: Sums of each image's map, in the order of `image_names`; None for files of schema 1.
        image_names: Names of the images in the mean; empty for files of schema 1.
        maps: Maps of the single images, if they were kept and loaded.
    """

    name: str
    contribution: np.ndarray
    provenance: FieldProvenance
    sums: MapSums | None = None
    image_names: tuple[str, ...] = ()
    maps: SingleMaps | None = None

    @property
    def weights_label(self) -> str:
        """Such as 'RANDOM WEIGHTS (seed 0)' or 'weights replknet31b.in1k'."""
        return self.provenance["weights"]["label"]

    @property
    def random_weights(self) -> bool:
        return bool(self.provenance["weights"]["random"])

    @property
    def of_before_after(self) -> bool:
        """Whether a run with `--before-after` made it, from a network before or after its training."""
        return bool(self.provenance.get("config", {}).get("before_after", False))

    @property
    def num_images(self) -> int:
        return self.provenance["data"]["images_used"]

    @property
    def centre(self) -> Centre:
        """Pixel (down, across) at the centre of squares and circles."""
        down, across = self.provenance.get("unit", {}).get("centre_px") or (n // 2 for n in self.contribution.shape)
        return (down, across)

    @property
    def layer(self) -> str:
        """The requested layer and the module that was taken for it, such as 'last (stages.3)'."""
        asked, taken = str(self.provenance["layer"]), self.provenance.get("layer_taken")
        if taken is None:  # an older result
            return asked
        module = "" if taken["module"] == asked else taken["module"]
        call = "" if taken["call"] is None else f"call {taken['call']}"
        layout = "" if taken["layout"] in (None, "NCHW") else taken["layout"]
        details = ", ".join(filter(None, (module, call, layout)))
        return f"{asked} ({details})" if details else asked

    @property
    def theoretical_side(self) -> float | None:
        """Square root of the area of the theoretical field in pixels; None if the field has no bound or is unknown."""
        sides = self.provenance.get("theoretical_field", {}).get("side_px")
        return math.sqrt(sides[0] * sides[1]) if sides else None

    @cached_property
    def measured(self) -> Measured:
        """All measures, with their intervals if the sums of each image are available."""
        return measure(self.contribution, self.sums, centre=self.centre, theoretical_side=self.theoretical_side)

    def side(self, share: float = 0.5) -> Value:
        """As `Measured.side`: side in pixels of the square that holds a share of the contribution."""
        return self.measured.side(share)

    def area(self, share: float = 0.5) -> Value:
        """As `Measured.area`: part of the image that holds a share of the contribution."""
        return self.measured.area(share)

    def __getitem__(self, name: str) -> Any:
        return self.measured[name]

    def __getattr__(self, name: str) -> Value:
        if name in SINGLE:
            return getattr(self.measured, name)
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(no_such_measure(name, (*SINGLE, "side", "area")))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *SINGLE})

    def save(self, path: str | Path) -> list[Path]:
        """Write the map and its measures, as the command line does, and the maps of single images if there are any.

        Args:
            path: Path of the `.npz`, next to which the `.json` is written; or a folder for files named after the
                result.

        Returns: The files written.
        Raises: UserError as `check_result`, or if a file cannot be written.
        """
        path = Path(path)
        npz = path if path.suffix == ".npz" else result_files(path, self.name, ())[0]
        json_path = npz.with_suffix(".json")
        check_result(self)
        save_result(self, npz)
        save_measures(self, json_path)
        if self.maps is None:
            return [npz, json_path]
        maps_path = npz.with_name(npz.stem + MAPS_SUFFIX)
        save_maps(self.maps, maps_path, self.provenance["identity"])
        return [npz, json_path, maps_path]

    @classmethod
    def load(cls, path: str | Path) -> "ErfResult":
        """As `load_result`."""
        return load_result(path)

    def plot(self, **options: Any) -> "Axes":
        """Draw the map with its squares; options as for `erf.plot`. Returns the Axes."""
        from erf.figures.maps import plot

        return plot(self, **options)

    def __repr__(self) -> str:
        height, width = self.contribution.shape
        return f"ErfResult({self.name}, {self.weights_label}, {width} x {height} pixels, {self.num_images} images)"


def save_result(result: ErfResult, path: Path) -> None:
    """Write the `.npz` atomically."""
    sums: dict[str, Any] = result.sums.as_arrays("image_") if result.sums else {}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            contribution=result.contribution,
            provenance=np.array(json.dumps({"name": result.name, **result.provenance}, allow_nan=False)),
            image_names=np.array(result.image_names, dtype=np.str_),
            **sums,
        )


def find_results(paths: Iterable[str | Path]) -> list[Path]:
    """The `.npz` files that the given files and folders refer to, in the given order.

    A `.json`, a picture or a `.maps.npz` refers to the `.npz` next to it. A folder refers to all results in it, or in
    its subfolder `erf`.

    Raises: UserError if a folder contains no results, or the `.npz` next to a file is missing.
    """
    found: list[Path] = []
    for given in map(Path, paths):
        path = given.with_name(_PART.sub("", given.name))
        if path.is_dir():
            inside = results_in(path) or results_in(path / "erf")
            if not inside:
                raise UserError(f"{path} holds no results of erf.visualize (.npz); name their folder")
            found += inside
        elif path.suffix in _BESIDE:
            arrays = path.with_suffix(".npz")
            if path.is_file() and not arrays.is_file():
                raise UserError(f"{arrays} does not exist; the result's map lies in it, not in {path.name}")
            found.append(arrays if arrays.is_file() else path)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def results_in(folder: Path) -> list[Path]:
    """The finished results in a folder, sorted by file name."""
    others = (".partial.npz", MAPS_SUFFIX)
    return [path for path in list_visible(folder, "*.npz") if not path.name.endswith(others)]


def random_above(results: Sequence[ErfResult]) -> list[ErfResult]:
    """The results, with those of random weights before the others of the same network, in the order of a run.

    A shell lists the files of a run by name, so that `pretrained` comes before `random`.
    """
    networks = [result.provenance.get("identity", {}).get("model", result.name) for result in results]
    first = {network: networks.index(network) for network in networks}
    order = sorted(range(len(results)), key=lambda i: (first[networks[i]], not results[i].random_weights))
    return [results[i] for i in order]


def load_result(path: str | Path, *, maps: bool = False) -> ErfResult:
    """Read a result from its `.npz`.

    Args:
        path: The file.
        maps: Whether to read the maps of single images, too, from the `.maps.npz` next to it.

    Raises: UserError if a file is missing, damaged, or not a result of this tool.
    """
    path = Path(path)
    try:
        arrays = read_arrays(path)
        provenance = json.loads(str(arrays["provenance"]))
        _check_provenance(provenance)
        contribution = _table(arrays["contribution"])
        old = provenance["schema"] < 2
        sums = None if old else MapSums.from_arrays(arrays, "image_")
        image_names = () if old else tuple(arrays["image_names"].tolist())
        if sums is not None and any(len(values) != len(image_names) for values in sums.as_arrays().values()):
            raise ValueError(f"it has not the sums of each of its {len(image_names)} images")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; name a .npz that erf.visualize wrote") from error
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not a result of erf.visualize: {reason_in_words(error)}") from error
    name = provenance.pop("name", path.stem)
    kept = load_maps(maps_file(path.parent, path.stem), provenance.get("identity", {})) if maps else None
    return ErfResult(name, contribution, provenance, sums, image_names, kept)


def _check_provenance(provenance: Any) -> None:
    for key, kind in (("schema", int), ("weights", dict), ("data", dict)):
        if not isinstance(provenance, dict) or not isinstance(provenance.get(key), kind):
            raise ValueError(f"its provenance does not say its {key}")


def _table(values: np.ndarray) -> np.ndarray:
    if values.ndim != 2 or values.dtype.kind != "f":
        raise ValueError(f"its map is {values.dtype} {values.shape}, not a table of floating-point numbers")
    return values.astype(np.float64)


def check_result(result: ErfResult) -> None:
    """Refuse a result that cannot be measured.

    Raises: UserError if its map is zero everywhere or not finite, with the cause.
    """
    try:
        check_map(result.contribution)
    except ValueError as error:
        raise UserError(f"{result.name}: {error}") from error


def save_measures(result: ErfResult, path: Path) -> FieldResult:
    """Measure a result and write its `.json`. Returns the content of that file.

    Raises: UserError as `check_result`.
    """
    check_result(result)
    content: FieldResult = {
        **result.provenance,
        "schema": SCHEMA_VERSION,
        "results": result.measured.as_dict(),
    }
    save_json(path, content)
    return content


def result_files(folder: Path, name: str, formats: Sequence[str], sheets: Sequence[str] = ()) -> list[Path]:
    """The files that a run writes for one network: map, measures and pictures; with sheets, also maps of single images.

    Args:
        sheets: Which sheets are drawn: 'maps', 'overlay'.
    """
    pictures = [*formats, *(f"{sheet}.{suffix}" for sheet in sheets for suffix in formats)]
    files = [folder / f"{file_stem(name)}.{suffix}" for suffix in ("npz", "json", *pictures)]
    return [*files, *([maps_file(folder, name)] if sheets else [])]


def manifest_file(folder: Path, name: str) -> Path:
    """The table of the images of a run: their names, SHA-256 and size, and whether they were used."""
    return folder / f"{file_stem(name)}.images.csv"


def finished_identity(stem: Path) -> dict[str, Any] | None:
    """The identity of the finished result with this file stem; None unless both of its files exist.

    Raises: UserError if they are not a result of this tool, or not from the same run.
    """
    npz_path, json_path = (stem.with_name(stem.name + suffix) for suffix in (".npz", ".json"))
    if not npz_path.exists() or not json_path.exists():
        return None
    identity = load_json(json_path).get("identity")
    if identity is None:
        raise UserError(f"{json_path} was not written by erf.visualize; choose another --output")
    if load_result(npz_path).provenance.get("identity") != identity:
        raise UserError(f"{npz_path} and {json_path.name} are of different runs; --overwrite makes them again")
    return identity
