"""The 16 entry-level categories of the benchmark, and which outputs of a classification head belong to each.

The categories and the ImageNet classes that belong to them are those of Geirhos et al., "Generalisation in humans and
deep neural networks" (NeurIPS 2018, arXiv:1808.08750), as the model-vs-human toolbox uses them
(`modelvshuman/helper/human_categories.py`, `modelvshuman/datasets/decision_mappings.py`). The table below was derived
from the WordNet ids published there and the order of the ImageNet-1k classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "CATEGORIES",
    "IMAGENET_1K",
    "IMAGENET_INDICES",
    "NUM_IMAGENET_CLASSES",
    "ClassMap",
    "label_of_classes",
]

NUM_IMAGENET_CLASSES = 1000


def _expand(ranges: str) -> tuple[int, ...]:
    """Expand ranges of indices: `"8 10-12"` -> (8, 10, 11, 12)."""
    indices: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        indices.extend(range(int(first), int(last or first) + 1))
    return tuple(indices)


IMAGENET_INDICES: dict[str, tuple[int, ...]] = {
    "airplane": _expand("404"),
    "bear": _expand("294-297"),
    "bicycle": _expand("444 671"),
    "bird": _expand("8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145"),
    "boat": _expand("472 554 625 814 914"),
    "bottle": _expand("440 720 737 898-899 901 907"),
    "car": _expand("436 511 817"),
    "cat": _expand("281-286"),
    "chair": _expand("423 559 765 857"),
    "clock": _expand("409 530 892"),
    "dog": _expand("152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268"),
    "elephant": _expand("385-386"),
    "keyboard": _expand("508 878"),
    "knife": _expand("499"),
    "oven": _expand("766"),
    "truck": _expand("555 569 656 675 717 734 864 867"),
}
"""Category -> indices of its classes in ImageNet-1k. Of the 1000 classes, 207 belong to a category."""

CATEGORIES: tuple[str, ...] = tuple(sorted(IMAGENET_INDICES))


@dataclass(frozen=True)
class ClassMap:
    """Which outputs of a classification head belong to which of the 16 categories.

    Attributes:
        name: Description of the head's classes, in words; it is part of every result.
        num_classes: Number of outputs of the head.
        indices: Category -> its outputs. A category that the head cannot answer is absent.
    """

    name: str
    num_classes: int
    indices: Mapping[str, tuple[int, ...]]

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that the head can answer, in alphabetical order."""
        return tuple(sorted(self.indices))

    @property
    def complete(self) -> bool:
        """Whether the head can answer all 16 categories; otherwise no result is comparable with published ones."""
        return len(self.indices) == len(CATEGORIES)

    @property
    def label(self) -> str:
        """Text that figures and tables add to a network's name; empty for ImageNet-1k with the toolbox's classes."""
        return "" if self == IMAGENET_1K else label_of_classes(self.name, len(self.indices))

    def can_answer(self, shape: str, texture: str) -> bool:
        """Whether the head can answer all categories of an image; `texture` is "" for an image with one cue."""
        return shape in self.indices and (not texture or texture in self.indices)


def label_of_classes(name: str, categories: int) -> str:
    """Describe classes other than the toolbox's for figures and tables; says if they do not cover all categories."""
    if categories == len(CATEGORIES):
        return name
    return f"{name}: {categories} of {len(CATEGORIES)} categories, not comparable"


IMAGENET_1K = ClassMap("ImageNet-1k, classes of the model-vs-human toolbox", NUM_IMAGENET_CLASSES, IMAGENET_INDICES)
"""The head for which the benchmark was designed."""
