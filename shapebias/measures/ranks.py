"""Ranks of the cues among all classes of a network (usually 1000), not only among the 16 categories.

Shape bias is a ratio, so a network that is hardly sensitive to either cue can still have any value. Moreover, the 16
categories ignore other classes that the network considers more likely. The rank of the best class of the shape's
category among all 1000, and likewise of the texture's, shows how sensitive the network is to each cue separately. The
mean of 1 / rank (mean reciprocal rank, in (0, 1]) is the measure proposed in arXiv:2603.10834, used here on the
cue-conflict images.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from runkit import atomic_write
from shapebias.answers.raw_data import image_id
from shapebias.stimuli.categories import IMAGENET_1K, ClassMap
from shapebias.stimuli.images import parse_image_name

__all__ = ["rank_cues", "write_ranks"]


def rank_cues(probabilities: np.ndarray, images: Sequence[str], *, classes: ClassMap = IMAGENET_1K) -> pd.DataFrame:
    """Rank the best class of each cue's category among all classes; rank 1 is the most probable class.

    Classes of equal probability share the best of their ranks.

    Args:
        probabilities: (N, C), in the order of `classes`.
        images: N names of an experiment's images, of categories that the head can answer.
        classes: Which of the C outputs belong to which category; the 1000 classes of ImageNet-1k by default. Ranks
            among different numbers of classes are not comparable.
    Returns: One row per stimulus: `image`, `shape`, `texture` (categories), `shape_rank`, `texture_rank` (1 to C). If
        an image has no texture of its own, its `texture` is "", and the column `texture_rank` is missing.
    """
    known = classes.categories
    best = np.stack([probabilities[:, list(classes.indices[name])].max(axis=1) for name in known], axis=1)
    ranks = np.stack([1 + (probabilities > column[:, None]).sum(axis=1) for column in best.T], axis=1)
    shapes, textures = zip(*(parse_image_name(name) for name in images), strict=True)
    rows = np.arange(len(images))
    table: dict[str, Sequence] = {"image": [image_id(name) for name in images], "shape": shapes, "texture": textures}
    for cue, categories in (("shape", shapes), ("texture", textures)):
        if not all(categories):
            continue
        table[f"{cue}_rank"] = ranks[rows, [known.index(name) for name in categories]].tolist()
    return pd.DataFrame(table)


def write_ranks(path: Path, ranks: pd.DataFrame) -> None:
    """Write the ranks atomically as CSV, one row per stimulus."""
    with atomic_write(path) as temporary:
        ranks.to_csv(temporary, index=False, lineterminator="\n")
