"""Suppressions: image filters that remove a cue (shape, texture or colour) and preserve the others as far as possible.

The protocol is that of Burgert, Stoll, Rota & Demir, "ImageNet-trained CNNs are not biased towards texture: revisiting
feature reliance through controlled suppression" (NeurIPS 2025, arXiv:2509.20234; code: tomburgert/feature-reliance,
`transform.py` and `reliance_protocol.py`), with its filters, parameters and order. Random filters are seeded here with
the name of the image, so that every network sees the same images.

An entry of `SUPPRESSIONS` has a name, the cues it removes, its strengths, and a function. To add a suppression, write
the function and an entry. The filters use OpenCV, as in the paper; it is imported at the first use.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from runkit import UserError
from runkit.plugins import OWN_CODE_ERRORS, load_plugin, sha256_of_code, words_of

__all__ = [
    "CUES",
    "SUPPRESSIONS",
    "Strength",
    "Suppression",
    "Variant",
    "choose_variants",
    "opencv",
    "suppress",
]

CUES = ("shape", "texture", "colour")

_Filter = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Strength:
    """One setting of a suppression.

    Attributes:
        value: Value on the axis of a plot, such as the number of patches along a side.
        parameters: Keyword arguments of the function.
    """

    value: float
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Suppression:
    """A filter that removes a cue.

    Attributes:
        name: Name on the command line and in files.
        cues: Cues that it removes, from `CUES`: two for a pair of filters, none for a function of the user that does
            not say its cue.
        axis: Quantity that the strength stands for, as the label of a plot's axis.
        strengths: From weak to strong.
        function: `function(image, rng, **parameters)` for a uint8 image (H, W, 3); returns one of the same shape.
        random: Whether the function uses `rng`.
        costly: Whether making an image takes longer than a small network takes to classify it.
        code_sha256: SHA-256 of the user's file that defines the function; empty for entries of `SUPPRESSIONS`.
    """

    name: str
    cues: tuple[str, ...]
    axis: str
    strengths: tuple[Strength, ...]
    function: _Filter
    random: bool = False
    costly: bool = False
    code_sha256: str = ""


@dataclass(frozen=True)
class Variant:
    """A suppression at one of its strengths; `suppression` is None for the original images."""

    suppression: Suppression | None = None
    strength: Strength | None = None

    @property
    def label(self) -> str:
        """Name in files: the suppression and its strength, or "none" for the original images."""
        if self.suppression is None or self.strength is None:
            return "none"
        return f"{self.suppression.name}-{self.strength.value:g}"


def suppress(image: np.ndarray, variant: Variant, *, image_name: str, seed: int = 0) -> np.ndarray:
    """Return an image without the cue that the variant removes.

    Args:
        image: uint8 (H, W, 3), in the network's input size; not written to.
        variant: The suppression and its strength.
        image_name: Name of the image; it seeds random choices, together with `seed` and the variant.
        seed: Seed of random choices.
    Returns: uint8 (H, W, 3).
    Raises: UserError if OpenCV is missing, or a user's function fails or returns something else.
    """
    if variant.suppression is None or variant.strength is None:
        return image
    digest = hashlib.sha256(f"{seed}/{variant.label}/{image_name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    out = variant.suppression.function(image, rng, **variant.strength.parameters)
    if not isinstance(out, np.ndarray) or out.shape != image.shape or out.dtype != np.uint8:
        what = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise UserError(f"{variant.suppression.name} returned {what}; it must return uint8 {image.shape}")
    return out


def choose_variants(names: Sequence[str]) -> list[Variant]:
    """Return the variants for the named suppressions: the original images, then every strength of each suppression.

    Args:
        names: Names in `SUPPRESSIONS`; "all"; a cue, for all suppressions that remove only this cue; or
            `FILE.py:FUNCTION` for a function of the user.
    Raises: UserError for an unknown name, or if the user's function cannot be used.
    """
    chosen: dict[str, Suppression] = {}
    for name in dict.fromkeys(names):
        if name == "all":
            found = list(SUPPRESSIONS.values())
        elif name in CUES:
            found = [one for one in SUPPRESSIONS.values() if one.cues == (name,)]
        elif name in SUPPRESSIONS:
            found = [SUPPRESSIONS[name]]
        elif ":" in name:
            found = [_load_own(name)]
        else:
            raise UserError(
                f"unknown suppression {name!r}; take all, a cue ({', '.join(CUES)}), FILE.py:FUNCTION, or of: "
                + ", ".join(SUPPRESSIONS)
            )
        for one in found:
            known = chosen.setdefault(one.name, one)
            if known != one and (known.code_sha256 or one.code_sha256):
                raise UserError(f"--suppress {name}: another suppression is called {one.name!r}, too; rename it")
    return [Variant(), *(Variant(one, strength) for one in chosen.values() for strength in one.strengths)]


def _load_own(text: str) -> Suppression:
    """Load a user's function of an image as a suppression.

    The function may have an attribute `strengths`, a list of numbers that it takes as second argument, and an attribute
    `cue`, the cue that it removes.

    Raises: UserError if it is not a function, its name is taken, or an attribute is invalid.
    """
    function = load_plugin(text)
    if not callable(function):
        raise UserError(f"--suppress {text} is not a function")
    name, strengths, cue = text.rpartition(":")[2], getattr(function, "strengths", None), getattr(function, "cue", None)
    if name in SUPPRESSIONS or name in (*CUES, "all", "none"):
        raise UserError(f"--suppress {text}: {name!r} has a meaning already; give the function another name")
    if cue is not None and cue not in CUES:
        raise UserError(f"--suppress {text}: its attribute `cue` is {cue!r}; it must be one of {', '.join(CUES)}")
    values = _read_strengths(text, strengths)

    def apply(image: np.ndarray, rng: np.random.Generator, **parameters: float) -> np.ndarray:
        try:
            return function(image.copy(), *parameters.values())
        except OWN_CODE_ERRORS as error:
            raise UserError(f"--suppress {text} failed: {words_of(error)}") from error

    return Suppression(
        name=name,
        cues=(cue,) if cue else (),
        axis="strength",
        strengths=tuple(Strength(value, {"strength": value}) for value in values) if values else (Strength(1, {}),),
        function=apply,
        code_sha256=_sha256_of_code(function),
    )


def _read_strengths(text: str, strengths: object) -> tuple[float, ...]:
    if strengths is None:
        return ()
    message = f"--suppress {text}: its attribute `strengths` must be different numbers, from weak to strong"
    if not isinstance(strengths, Iterable):
        raise UserError(message)
    values = tuple(strengths)
    if not values or not all(isinstance(value, (int, float)) for value in values):
        raise UserError(message)
    if len({f"{value:g}" for value in values}) < len(values):  # as they are written in labels
        raise UserError(message)
    return values


def _sha256_of_code(function: Callable[..., object]) -> str:
    """SHA-256 of the code of a function, or of the class of a callable object; 'unknown' without a file."""
    return sha256_of_code(function) or sha256_of_code(type(function)) or "unknown"


@lru_cache(maxsize=1)
def opencv() -> Any:
    """Import and return OpenCV, which is an optional dependency.

    Raises: UserError if it is missing.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "suppressing a cue needs OpenCV: pip install 'replknet-analysis[reliance]' (opencv-python-headless)"
        ) from error
    cv2.setNumThreads(1)  # images are made in several threads
    return cv2


def _patch_shuffle(image: np.ndarray, rng: np.random.Generator, *, grid: int) -> np.ndarray:
    """Shuffle the patches of a grid; if a side is not a multiple of `grid`, only patches of equal size are swapped."""
    rows, columns = (np.linspace(0, side, grid + 1, dtype=np.int64) for side in image.shape[:2])
    places = [(rows[i], rows[i + 1], columns[j], columns[j + 1]) for i in range(grid) for j in range(grid)]
    of_size: dict[tuple[int, int], list[int]] = {}
    for index, (top, bottom, left, right) in enumerate(places):
        of_size.setdefault((bottom - top, right - left), []).append(index)
    out = image.copy()
    for indices in of_size.values():
        for target, source in zip(indices, rng.permutation(indices), strict=True):
            (top, bottom, left, right), (a, b, c, d) = places[target], places[source]
            out[top:bottom, left:right] = image[a:b, c:d]
    return out


def _patch_rotation(image: np.ndarray, rng: np.random.Generator, *, grid: int) -> np.ndarray:
    """Rotate each patch of a grid by 0, 90, 180 or 270 degrees; the image is resized if its patches are not square."""
    cv2 = opencv()
    height, width = image.shape[:2]
    whole = image
    if height != width or height % grid:
        side = -(-max(height, width) // grid) * grid
        whole = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    patch = whole.shape[0] // grid
    turns = rng.integers(4, size=(grid, grid))
    # axes: rows of patches, columns of patches, pixels of a patch (height, width), colours
    patches = whole.reshape(grid, patch, grid, patch, 3).swapaxes(1, 2)
    turned = np.empty_like(patches)
    for turn in range(4):
        turned[turns == turn] = np.rot90(patches[turns == turn], k=turn, axes=(1, 2))
    out = turned.swapaxes(1, 2).reshape(whole.shape)
    return out if out.shape == image.shape else cv2.resize(out, (width, height), interpolation=cv2.INTER_LINEAR)


def _bilateral(
    image: np.ndarray, rng: np.random.Generator, *, diameter: int, sigma_colour: float, sigma_space: float = 75
) -> np.ndarray:
    return opencv().bilateralFilter(image, d=diameter, sigmaColor=sigma_colour, sigmaSpace=sigma_space)


def _gaussian_blur(image: np.ndarray, rng: np.random.Generator, *, kernel: int, sigma: float) -> np.ndarray:
    return opencv().GaussianBlur(image, (kernel, kernel), sigmaX=sigma)


def _non_local_means(
    image: np.ndarray, rng: np.random.Generator, *, h: float, template: int = 14, search: int = 21
) -> np.ndarray:
    return opencv().fastNlMeansDenoising(image, h=h, templateWindowSize=template, searchWindowSize=search)


def _greyscale(image: np.ndarray, rng: np.random.Generator, *, alpha: float) -> np.ndarray:
    """Blend the image (alpha = 0) with its luminance (1), in float32 and truncated to integers, as in the original."""
    cv2 = opencv()
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32) / 255.0
    blended = (1 - alpha) * (image.astype(np.float32) / 255.0) + alpha * grey
    return np.clip(blended * 255, 0, 255).astype(np.uint8)


def _channel_shuffle(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute the three colour channels randomly; the permutation may be the identity."""
    return image[:, :, rng.permutation(3)]


def _patch_shuffle_grey(image: np.ndarray, rng: np.random.Generator, *, grid: int) -> np.ndarray:
    return _greyscale(_patch_shuffle(image, rng, grid=grid), rng, alpha=1.0)


def _bilateral_patch_shuffle(image: np.ndarray, rng: np.random.Generator, *, grid: int, **bilateral: Any) -> np.ndarray:
    return _patch_shuffle(_bilateral(image, rng, **bilateral), rng, grid=grid)


def _bilateral_grey(image: np.ndarray, rng: np.random.Generator, **bilateral: Any) -> np.ndarray:
    return _greyscale(_bilateral(image, rng, **bilateral), rng, alpha=1.0)


_GRIDS = (2, 4, 6, 8, 10, 12, 14, 16)
_BILATERALS = tuple(
    {"diameter": diameter, "sigma_colour": sigma}
    for diameter, sigma in zip((4, 6, 8, 10, 12, 14), (50, 80, 110, 140, 170, 200), strict=True)
)
_BLURS = tuple(zip((3, 5, 7, 9, 11, 13, 15), (0.33, 0.66, 1.0, 1.33, 1.66, 2.0, 2.33), strict=True))

_by_grid = tuple(Strength(grid, {"grid": grid}) for grid in _GRIDS)
_by_diameter = tuple(Strength(setting["diameter"], setting) for setting in _BILATERALS)

SUPPRESSIONS: dict[str, Suppression] = {
    one.name: one
    for one in (
        Suppression("patch-shuffle", ("shape",), "patches per side", _by_grid, _patch_shuffle, random=True),
        Suppression("patch-rotation", ("shape",), "patches per side", _by_grid, _patch_rotation, random=True),
        Suppression("bilateral", ("texture",), "diameter in pixels", _by_diameter, _bilateral),
        Suppression(
            "gaussian-blur",
            ("texture",),
            "sigma in pixels",
            tuple(Strength(sigma, {"kernel": kernel, "sigma": sigma}) for kernel, sigma in _BLURS),
            _gaussian_blur,
        ),
        Suppression(
            "non-local-means",
            ("texture",),
            "filter strength h",
            tuple(Strength(h, {"h": h}) for h in (5, 10, 15, 20, 25)),
            _non_local_means,
            costly=True,
        ),
        Suppression(
            "greyscale",
            ("colour",),
            "share of luminance",
            tuple(Strength(alpha, {"alpha": alpha}) for alpha in (0.2, 0.4, 0.6, 0.8, 1.0)),
            _greyscale,
        ),
        Suppression(
            "channel-shuffle", ("colour",), "channels shuffled", (Strength(1, {}),), _channel_shuffle, random=True
        ),
        Suppression(
            "patch-shuffle-grey", ("shape", "colour"), "patches per side", _by_grid, _patch_shuffle_grey, random=True
        ),
        Suppression(
            "bilateral-patch-shuffle",
            ("shape", "texture"),
            "patches per side",
            tuple(
                Strength(grid, {"grid": grid, **setting}) for grid, setting in zip(_GRIDS[:6], _BILATERALS, strict=True)
            ),
            _bilateral_patch_shuffle,
            random=True,
        ),
        Suppression(
            "bilateral-12-patch-shuffle",
            ("shape", "texture"),
            "patches per side",
            tuple(Strength(grid, {"grid": grid, **_BILATERALS[4]}) for grid in _GRIDS),
            _bilateral_patch_shuffle,
            random=True,
        ),
        Suppression("bilateral-grey", ("texture", "colour"), "diameter in pixels", _by_diameter, _bilateral_grey),
    )
}
"""Name -> suppression, in the protocol's order."""
