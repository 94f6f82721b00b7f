"""The maps of single images, saved on request in `<name>.maps.npz` next to a result.

maps           float16 (N, H, W): each image's map divided by its maximum, so from 0 to 1
maxima         float64 (N,): the maxima by which the maps were divided; a map times its maximum is unscaled
image_names    text (N,): names of the images, as in the result
photographs    uint8 (N, h, w, 3): thumbnails of the images, at most 384 pixels high and wide
identity       text: the result's `identity` as JSON, so that maps of another run are not mistaken for these
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runkit import UserError, atomic_write, file_stem, read_arrays
from runkit.files import reason_in_words

__all__ = ["MAPS_SUFFIX", "SingleMaps", "load_maps", "maps_file", "save_maps", "scaled_half"]

MAPS_SUFFIX = ".maps.npz"


@dataclass(frozen=True)
class SingleMaps:
    """Maps of N images.

    Attributes:
        maps: float16 (N, H, W), each divided by its maximum.
        maxima: float64 (N,).
        names: Names of the images.
        photographs: uint8 (N, h, w, 3).
    """

    maps: np.ndarray
    maxima: np.ndarray
    names: tuple[str, ...]
    photographs: np.ndarray


def scaled_half(contribution: np.ndarray) -> tuple[np.ndarray, float]:
    """A map (H, W) divided by its maximum as float16, and the maximum; a map of zeros stays as it is."""
    largest = float(contribution.max())
    return (contribution / (largest or 1.0)).astype(np.float16), largest


def maps_file(folder: Path, name: str) -> Path:
    """Path of the file with a result's maps of single images."""
    return folder / f"{file_stem(name)}{MAPS_SUFFIX}"


def save_maps(kept: SingleMaps, path: Path, identity: Mapping[str, Any]) -> None:
    """Write the maps atomically."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            maps=kept.maps,
            maxima=kept.maxima,
            image_names=np.array(kept.names, dtype=np.str_),
            photographs=kept.photographs,
            identity=np.array(json.dumps(identity)),
        )


def load_maps(path: Path, identity: Mapping[str, Any]) -> SingleMaps:
    """Read the maps of the result with this identity.

    Raises: UserError if the file is missing, damaged, or from another run.
    """
    try:
        arrays = read_arrays(path)
        kept = SingleMaps(
            arrays["maps"], arrays["maxima"], tuple(arrays["image_names"].tolist()), arrays["photographs"]
        )
        found = json.loads(str(arrays["identity"]))
        if kept.maps.ndim != 3 or not len(kept.maps) == len(kept.maxima) == len(kept.names) == len(kept.photographs):
            raise ValueError("its arrays do not belong together")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; a run with --keep-maps writes it") from error
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} holds no maps of single images: {reason_in_words(error)}") from error
    if found != json.loads(json.dumps(identity)):
        raise UserError(f"{path} is of another run than the result next to it; run with --keep-maps to write it again")
    return kept
