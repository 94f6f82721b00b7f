"""Types of what `Measured.as_dict` returns, which is the `results` object in the JSON of a receptive field.

`Annotated` adds keywords of the JSON Schema (`erf/results/result.schema.json`). Lengths are in pixels of the resized
image, and areas are numbers of pixels. An undefined number is None, and so is the interval if there is a single image.
"""

from collections.abc import Sequence
from typing import Annotated, TypedDict

from runkit.content import Interval, IntervalMethod, Share
from runkit.schema import Keywords

__all__ = ["FieldMeasures", "Gaussian", "MassSquare", "PixelPair", "Square"]

PixelPair = Annotated[Sequence[int], Keywords(minItems=2, maxItems=2)]
Positive = Annotated[float | None, Keywords(minimum=0)]
Intervals = Sequence[Interval]


class Square(TypedDict):
    """The smallest centred square that holds more than a share."""

    threshold: Annotated[float, Keywords(minimum=0, maximum=1, description="share that the square holds more than")]
    side_px: Annotated[int | None, Keywords(minimum=3, description="pixels, odd")]
    ratio: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="area of the square over that of the map")
    ]


class LogSquare(Square):
    """As `Square`, with the interval of the published ratio."""

    ratio_interval: Interval


class MassSquare(Square):
    """As `Square`, computed on the map itself, with sides that are not rounded to whole pixels."""

    side_interpolated_px: Annotated[float | None, Keywords(minimum=0, description="pixels, not rounded")]
    side_interpolated_px_interval: Interval
    ratio_interpolated: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="area of that square over that of the map")
    ]
    ratio_interpolated_interval: Interval


class Scaled(TypedDict):
    """The published measure, computed on the map multiplied by a factor."""

    factor: Annotated[float, Keywords(minimum=0, description="by which the map is multiplied first")]
    area_ratio: Sequence[Square]


class MassCurve(TypedDict):
    """Share of the mass in centred squares, at up to 128 sides."""

    side_px: Sequence[Annotated[int, Keywords(minimum=1)]]
    share: Sequence[Annotated[float, Keywords(minimum=0, maximum=1.000001, description="of the mass")]]
    share_interval: Intervals


class RadialProfile(TypedDict):
    """Density as a function of distance, at up to 128 distances."""

    radius_px: Sequence[Annotated[int, Keywords(minimum=0)]]
    density: Sequence[
        Annotated[float | None, Keywords(minimum=0, description="mean at that distance over the mean of the map")]
    ]
    density_interval: Intervals


class Gaussian(TypedDict):
    """A circular Gaussian around the centre pixel, fitted by least squares."""

    gaussian_sigma_px: Annotated[
        float | None, Keywords(minimum=0, description="width of the best round Gaussian round the centre pixel")
    ]
    gaussian_sigma_px_interval: Interval
    gaussian_r2: Annotated[
        float | None,
        Keywords(maximum=1, description="share of the radial profile's variance over the pixels that it explains"),
    ]
    gaussian_r2_interval: Interval
    mass_beyond_2_sigma: Annotated[
        float | None,
        Keywords(minimum=0, maximum=1, description="share of the mass farther than two of its widths"),
    ]
    mass_beyond_2_sigma_interval: Interval
    fit_mass_beyond_2_sigma: Annotated[
        float | None,
        Keywords(minimum=0, maximum=1, description="the same of the Gaussian within the image; 0.135 unless cut off"),
    ]
    fit_mass_beyond_2_sigma_interval: Interval
    excess_kurtosis: Annotated[float | None, Keywords(minimum=-8, description="Mardia's, minus the 8 of any Gaussian")]
    excess_kurtosis_interval: Interval
    is_gaussian: bool
    criterion: str


class TheoreticalRatio(TypedDict):
    """Ratio of the interpolated side to the side of the theoretical field."""

    threshold: Share
    ratio: Positive
    ratio_interval: Interval


class FieldMeasures(TypedDict):
    """Every measure of a receptive field."""

    area_ratio: Annotated[
        Sequence[LogSquare],
        Keywords(
            minItems=4, maxItems=4, description="published measure: smallest centred squares on log10(score + 1) / max"
        ),
    ]
    area_ratio_definition: str
    area_ratio_if_scaled: Annotated[
        Sequence[Scaled], Keywords(description="how far the published measure depends on the gradients' scale")
    ]
    mass_area_ratio: Annotated[
        Sequence[MassSquare],
        Keywords(minItems=5, maxItems=5, description="the same on the map itself, free of its scale"),
    ]
    mass_area_ratio_definition: str
    mass_curve: MassCurve
    radial_profile: RadialProfile
    rms_radius_px: Annotated[
        float | None, Keywords(minimum=0, description="root of the mean squared distance to the centre pixel")
    ]
    rms_radius_px_interval: Interval
    offset_down_px: Annotated[float | None, Keywords(description="centre of mass from the centre pixel, down")]
    offset_down_px_interval: Interval
    offset_right_px: Annotated[float | None, Keywords(description="centre of mass from the centre pixel, to the right")]
    offset_right_px_interval: Interval
    offset_px: Annotated[
        float | None, Keywords(minimum=0, description="distance of the centre of mass from the centre pixel")
    ]
    offset_px_interval: Interval
    sigma_major_px: Annotated[
        float | None,
        Keywords(minimum=0, description="standard deviation about the centre of mass along the major axis"),
    ]
    sigma_major_px_interval: Interval
    sigma_minor_px: Annotated[float | None, Keywords(minimum=0, description="the same along the minor axis")]
    sigma_minor_px_interval: Interval
    anisotropy: Annotated[float | None, Keywords(minimum=1, description="major over minor")]
    anisotropy_interval: Interval
    orientation_deg: Annotated[
        float | None,
        Keywords(
            minimum=-90,
            maximum=90,
            description="of the major axis, anticlockwise from the horizontal; its interval may pass +-90",
        ),
    ]
    orientation_deg_interval: Interval
    participation_area_px: Annotated[
        float | None,
        Keywords(minimum=0, description="(sum a)^2 / sum a^2 in pixels, without the noise of the mean"),
    ]
    participation_area_px_interval: Interval
    entropy_area_px: Annotated[
        float | None, Keywords(minimum=0, description="exp of the entropy in pixels, without the noise of the mean")
    ]
    entropy_area_px_interval: Interval
    participation_area_of_mean_map_px: Annotated[
        float, Keywords(minimum=1, description="of the map as it is, noise included")
    ]
    entropy_area_of_mean_map_px: Annotated[
        float, Keywords(minimum=0.999, description="of the map as it is, noise included")
    ]
    gaussian: Gaussian
    theoretical_ratio: Annotated[
        Sequence[TheoreticalRatio] | None,
        Keywords(
            description="interpolated side over the theoretical one; null where that has no bound or is not known"
        ),
    ]
    centre_px: Annotated[PixelPair, Keywords(description="pixel (down, across) that squares and circles lie round")]
    score_max: Annotated[float, Keywords(minimum=0, description="largest value of the map")]
    score_sum: Annotated[float, Keywords(minimum=0, description="sum of the map")]
    interval: Annotated[
        IntervalMethod | None,
        Keywords(description="how intervals were made; null for one image, and for files of schema 1"),
    ]
