"""Pictures of more than 8 bits, and pictures with transparent pixels, as both tools read them."""

import numpy as np
from PIL import Image

__all__ = ["as_8_bit", "has_transparent_pixels", "is_deep", "scaled_deep"]

_BEYOND = 1e-3
"""By how much floating-point values of a picture may exceed the range from black to white, for rounding."""


def is_deep(image: Image.Image) -> bool:
    """Whether a picture is greyscale of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def scaled_deep(image: Image.Image) -> np.ndarray:
    """The values of greyscale of more than 8 bits, float64, white as 1: 16-bit values over 65535, floats as they are.

    Raises: ValueError if they are not between 0 and 1, or if they are integers of 32 bits in the range of 8 bits.
    """
    values: np.ndarray = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if image.mode == "I" and image.format != "PNG" and 0 < high <= 255:  # older releases of Pillow read 16-bit PNG so
        raise ValueError("its values are of 32 bits but not above 255; save it with 8 or 16 bits per channel")
    white = 1.0 if image.mode == "F" else 65535.0
    if not (low >= -_BEYOND * white and high <= (1 + _BEYOND) * white):  # also if any is not a number
        wanted = "0 to 1" if image.mode == "F" else "0 to 65535"
        raise ValueError(f"its values are not within {wanted}; save it with 8 or 16 bits per channel")
    return values / white


def as_8_bit(image: Image.Image) -> Image.Image:
    """Scale greyscale of more than 8 bits, which Pillow would clip: 16-bit values over 257, floats as 0 to 1.

    Other pictures are returned unchanged.

    Raises: ValueError as `scaled_deep`.
    """
    if not is_deep(image):
        return image
    return Image.fromarray(np.clip(np.rint(scaled_deep(image) * 255.0), 0, 255).astype(np.uint8))


def has_transparent_pixels(image: Image.Image) -> bool:
    """Whether any pixel of a picture is transparent, wholly or in part."""
    key = image.info.get("transparency")
    if is_deep(image):
        return isinstance(key, int) and bool((np.asarray(image) == key).any())
    if key is None and image.mode not in ("RGBA", "RGBa", "LA", "La", "PA"):
        return False
    return int(np.asarray(image.convert("RGBA"))[..., 3].min()) < 255
