"""Types of the measures of an observer, and of the differences between two observers, as they are written to JSON.

`Annotated` adds the keywords of the JSON Schemas (`shapebias/results/*.schema.json`). Fractions are in [0, 1]. A number
that is not defined is None, and so is its interval.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypedDict

from runkit.content import Count, Interval, Share
from runkit.schema import Keywords

__all__ = ["CategoryMeasures", "ErrorConsistency", "ObserverMeasures", "PairDifference", "PermutationTest"]

_Fraction = Annotated[float | None, Keywords(minimum=0, maximum=1)]
_Kappa = Annotated[float, Keywords(maximum=1)]


class CategoryMeasures(TypedDict):
    """Measures of the trials with a shape of one category."""

    shape_bias: _Fraction
    shape_bias_interval: Interval
    fraction_correct_shape: _Fraction
    fraction_correct_shape_interval: Interval
    fraction_correct_texture: _Fraction
    fraction_correct_texture_interval: Interval
    accuracy: _Fraction
    accuracy_interval: Interval


class ObserverMeasures(TypedDict):
    """All measures of an observer (`shapebias.Measurement`)."""

    name: str
    label: str
    kind: Literal["network", "person", "people"]
    random: Annotated[bool, Keywords(description="whether it is an untrained network")]
    trials: Annotated[int, Keywords(minimum=1)]
    conflict_trials: Annotated[int, Keywords(minimum=0, description="shape and texture of different categories")]
    shape_bias: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="shape decisions / (shape + texture decisions)")
    ]
    shape_bias_interval: Interval
    fraction_correct_shape: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="shape decisions / trials")
    ]
    fraction_correct_shape_interval: Interval
    fraction_correct_texture: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="texture decisions / trials")
    ]
    fraction_correct_texture_interval: Interval
    coverage: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="shape or texture named / trials in conflict")
    ]
    coverage_interval: Interval
    neither: Annotated[float | None, Keywords(minimum=0, maximum=1, description="1 - coverage")]
    neither_interval: Interval
    accuracy: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="answers that are the shape's category / trials")
    ]
    accuracy_interval: Interval
    shape_reciprocal_rank: Annotated[
        float | None,
        Keywords(minimum=0, maximum=1, description="mean of 1 / rank of the best class of the shape's category"),
    ]
    shape_reciprocal_rank_interval: Interval
    texture_reciprocal_rank: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="the same of the texture's category")
    ]
    texture_reciprocal_rank_interval: Interval
    no_answer: Share
    shape_bias_category_mean: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="mean of the categories, not the average line")
    ]
    categories: Annotated[
        Mapping[str, CategoryMeasures], Keywords(description="category of the shape -> measures of its trials")
    ]
    confusion: Annotated[
        Sequence[Annotated[Sequence[Count], Keywords(minItems=16, maxItems=16)]],
        Keywords(
            minItems=17,
            maxItems=17,
            description="counts: one row per answer ('na', then the categories), one column per category of the shape",
        ),
    ]


class ErrorConsistency(TypedDict):
    """Agreement of every pair of observers on which images they get right; square tables in order of `observers`."""

    observers: Sequence[str]
    kappa: Sequence[Sequence[_Kappa]]
    observed: Sequence[Sequence[Share]]
    expected: Sequence[Sequence[Share]]
    with_people: Annotated[Mapping[str, _Kappa], Keywords(description="mean kappa with every other person")]


class PairDifference(TypedDict):
    """Difference between two observers of the same stimuli in a measure (`shapebias.Difference`)."""

    measure: str
    first: str
    second: str
    difference: Annotated[float, Keywords(minimum=-1, maximum=1, description="first minus second")]
    low: Annotated[float, Keywords(description="lower end of its paired 95% interval")]
    high: Annotated[float, Keywords(description="upper end")]
    p: Annotated[float, Keywords(minimum=0, maximum=1, description="of the paired permutation test, two-sided")]
    p_holm: Annotated[float, Keywords(minimum=0, maximum=1, description="corrected for all pairs of the measure")]


class PermutationTest(TypedDict):
    """Description of the test of the differences, and of their intervals."""

    interval: str
    method: str
    permutations: Count
    seed: int
    correction: str
