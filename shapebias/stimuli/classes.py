"""Class maps of heads other than ImageNet-1k's, made from WordNet or from a text file that names each output.

The benchmark's 16 categories are defined on the 1000 classes of ImageNet-1k (`categories.IMAGENET_INDICES`). For a head
with other classes, a category consists of those classes that are WordNet hyponyms of the category. They are listed in
`wordnet_categories.csv` (from WordNet 3.0, whose licence is next to it; written by `scripts/wordnet_categories.py`).
The classes of ImageNet-1k itself follow the toolbox, so the map of an ImageNet-1k head is exactly the toolbox's.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from runkit import UserError
from shapebias.stimuli.categories import CATEGORIES, ClassMap

__all__ = [
    "IMAGENET_HEADS",
    "NO_CATEGORY",
    "map_imagenet_1k_subset",
    "map_synsets",
    "map_words",
    "read_class_lines",
    "read_classes",
]

NO_CATEGORY = "-"
"""The word in a class file for an output that belongs to none of the categories."""
IMAGENET_HEADS = (1000, 11221, 11821, 21841, 21842, 21843)
"""Numbers of outputs that identify ImageNet heads: 1k, 21k-P, 12k, 22k, Microsoft's 22k, Google's 21k."""
_SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class _Synset:
    """A row of the table: the synset's category ("" for none) and its index among the classes of ImageNet-1k."""

    category: str
    imagenet_1k: int | None


@lru_cache(maxsize=1)
def _table() -> dict[str, _Synset]:
    text = resources.files("shapebias.stimuli").joinpath("wordnet_categories.csv").read_text(encoding="utf-8")
    return {
        row["synset"]: _Synset(row["category"], int(row["imagenet_1k"]) if row["imagenet_1k"] else None)
        for row in csv.DictReader(text.splitlines())
    }


def map_synsets(synsets: Sequence[str], *, name: str) -> ClassMap:
    """Make the class map of a head whose outputs are WordNet synsets.

    Args:
        synsets: One WordNet 3.0 noun id per output, such as "n02123045". Ids outside the categories are allowed.
        name: Description of the classes, in words.
    Raises: UserError if the head can answer fewer than two categories.
    """
    table = _table()
    return _collect([table[synset].category if synset in table else "" for synset in synsets], name=name)


def map_imagenet_1k_subset(synsets: Sequence[str], *, name: str) -> ClassMap:
    """Make the class map of a larger head, using only its outputs for the toolbox's ImageNet-1k classes.

    Args and Raises: As for `map_synsets`.
    """
    table = _table()
    known = (table.get(synset) for synset in synsets)
    return _collect([row.category if row and row.imagenet_1k is not None else "" for row in known], name=name)


def read_class_lines(path: Path) -> list[str]:
    """Read the lines of a class file: one for each output of a head, in the order of the outputs.

    A byte order mark, spaces around a line, and empty lines at the end do not count.

    Raises: UserError if the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the class file {path}: {error}") from error
    return [line.strip() for line in text.rstrip().split("\n")]


def read_classes(path: Path) -> ClassMap:
    """Read a class map from a text file with one line per output of the head, in the order of the outputs.

    The first word of a line is a WordNet id (n02123045), one of the 16 categories, or `-` for an output that belongs to
    none of them. Anything after the first word is a comment.

    Raises: UserError if the file cannot be read, a line begins with anything else, or the head can answer fewer than
        two categories.
    """
    words = [(line.split() or [""])[0] for line in read_class_lines(path)]
    categories = [_category_of(word, where=f"{path}, line {number}") for number, word in enumerate(words, start=1)]
    return _collect(categories, name=f"classes of {path.name}")


def map_words(words: Sequence[str], *, name: str) -> ClassMap:
    """Make the class map of a head from one word per output; the words are those that `read_classes` accepts.

    Raises: UserError for any other word, or if the head can answer fewer than two categories.
    """
    return _collect(
        [_category_of(word, where=f"{name}, output {index}") for index, word in enumerate(words)], name=name
    )


def _category_of(word: str, *, where: str) -> str:
    """The category that a word stands for, "" for none.

    Raises: UserError if the word is neither a WordNet id, nor a category, nor `NO_CATEGORY`.
    """
    if _SYNSET.fullmatch(word):
        table = _table()
        return table[word].category if word in table else ""
    if word in CATEGORIES or word == NO_CATEGORY:
        return "" if word == NO_CATEGORY else word
    raise UserError(
        f"{where}: {word!r} is neither a WordNet id such as n02123045 nor a category ({', '.join(CATEGORIES)}); write "
        f"{NO_CATEGORY} for an output that belongs to none"
    )


def _collect(categories: Sequence[str], *, name: str) -> ClassMap:
    """Make a class map from the category of each output ("" for none).

    Raises: UserError if there are fewer than two categories.
    """
    indices = {
        category: tuple(index for index, one in enumerate(categories) if one == category)
        for category in CATEGORIES
        if category in categories
    }
    if len(indices) < 2:
        known = f"only {next(iter(indices))!r}" if indices else "none"
        raise UserError(
            f"{name}: of the 16 categories its {len(categories)} outputs can answer {known}; two are needed for a "
            "choice between shape and texture"
        )
    return ClassMap(name, len(categories), indices)
