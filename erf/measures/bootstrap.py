"""Bootstrap over images: resamples that are the same for all networks, and intervals that are valid for few images.

The interval is a percentile interval whose normal quantiles are widened to those of Student's t with N - 1 degrees of
freedom, times sqrt(N / (N - 1)) (Hesterberg 2015, doi:10.1080/00031305.2015.1089789, section 5.3). The plain percentile
interval is too short for few images. The accelerated one (BCa) is no better on receptive fields, and it is worse where
a measure has a bound, as the anisotropy of round maps does.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["LEVEL", "METHOD", "RESAMPLES", "SEED", "Resampled", "choices"]

LEVEL = 0.95
RESAMPLES = 2000
SEED = 0
METHOD = "percentile bootstrap over images, widened as Student's t with N - 1 degrees of freedom"


def choices(num_images: int, *, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Weight of each image in every selection: first the original images, then the resamples.

    The weights depend only on the number of images and the seed. Networks measured on the same images therefore share
    them, so differences between networks are paired.

    Returns: float64 (1 + resamples, N). Every row adds up to 1.
    """
    even = np.full(num_images, 1 / num_images)
    drawn = np.random.default_rng(seed).multinomial(num_images, even, size=resamples) / num_images
    return np.concatenate([even[None], drawn])


@dataclass(frozen=True)
class Resampled:
    """A measure for the original images and for every resample.

    Attributes:
        estimate: float64, any shape (...): value for the original images; NaN if it is not defined.
        resamples: float64 (B, ...).
        num_images: Number N of images from which resamples were drawn.
    """

    estimate: np.ndarray
    resamples: np.ndarray
    num_images: int

    def __sub__(self, other: "Resampled") -> "Resampled":
        """Paired difference of the estimates and of every resample. ValueError if the numbers of images differ."""
        if self.num_images != other.num_images:
            raise ValueError(f"{self.num_images} and {other.num_images} images: a difference needs the same ones")
        return Resampled(self.estimate - other.estimate, self.resamples - other.resamples, self.num_images)

    def interval(self, level: float = LEVEL) -> np.ndarray:
        """Lower and upper end of the interval, float64 (2, ...).

        Undefined values count as larger than all others. An end that falls among them is NaN, and both ends are NaN if
        the estimate is not defined. There is no interval for one image: both ends are NaN.
        """
        images = self.num_images
        if images < 2:
            return np.full((2, *self.estimate.shape), np.nan)
        from scipy import special  # takes a third of a second, for which --help and error messages should not wait

        quantile = special.stdtrit(images - 1, (1 + level) / 2) * np.sqrt(images / (images - 1))
        ordered = np.sort(self.resamples, axis=0)  # NaN is sorted to the end
        outside = int(special.ndtr(-quantile) * len(ordered))  # number of resamples beyond each end
        ends = ordered[[outside, -1 - outside]]
        return np.where(np.isnan(self.estimate), np.nan, ends)
