"""The experiments of Geirhos et al. (2019) that people took part in, under the model-vs-human toolbox's names."""

from dataclasses import dataclass

__all__ = ["CUE_CONFLICT", "EXPERIMENTS", "Experiment"]


@dataclass(frozen=True)
class Experiment:
    """A set of stimuli in 16 category folders.

    Attributes:
        name: The toolbox's name of the dataset.
        what: What the images are, for messages.
        images_per_category: How many there are of each category.
        two_cues: Whether an image has a texture of its own beside its shape: the question is then which of the two is
            named. Otherwise it is how often the one is named.
        file_list_sha256: `sha256_of_lines` of the sorted `<category>/<name>` of the published images.
        content_sha256: `Stimuli.content_sha256` of the images in rgeirhos/texture-vs-shape.
    """

    name: str
    what: str
    images_per_category: int
    two_cues: bool
    file_list_sha256: str
    content_sha256: str


CUE_CONFLICT = Experiment(
    "cue-conflict",
    "cue-conflict images",
    80,
    True,
    "52b03164bde4c27bb5b593001286781ff0977abd71fa8a71e6a3c20994a0340b",
    "4cb009842e3629cfeb1c8ddce7e37d71885e120922c225e4ef57e866a3ceb176",
)
_ONE_CUE_NAMES = "f533cc0160073738bf0d5bb63ba1709396eebf9d589b13a04f77915e282f44a3"  # of edges and silhouettes alike
EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        CUE_CONFLICT,
        Experiment(
            "edge",
            "edge drawings",
            10,
            False,
            _ONE_CUE_NAMES,
            "40a3d45a5ede552c72ca9e7411bc74dda4f6985553d454b73ceabfae4dbee2f3",
        ),
        Experiment(
            "silhouette",
            "silhouettes",
            10,
            False,
            _ONE_CUE_NAMES,
            "b68b07af689376d8d82443a0ce8a1e3063927efb6908c3aa8fe32943908bf2dc",
        ),
    )
}
"""Name -> experiment."""
