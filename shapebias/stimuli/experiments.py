"""The 17 experiments of the model-vs-human benchmark as data: conditions, images, people, sources and licences.

Geirhos et al., "Partial success in closing the gap between human and machine vision" (NeurIPS 2021, arXiv:2106.07411)
measured people and networks on these datasets. Names, conditions and their order are those of the model-vs-human
toolbox (bethgelab/model-vs-human, `modelvshuman/datasets/experiments.py`). Its table `EXCLUDE_CONDITIONS`
(`modelvshuman/plotting/plot.py`) defines which conditions count in the benchmark: all but the undistorted control and
those in which people's mean accuracy is below 0.2. (It also excludes low-pass 15, where people reach exactly 0.2.)
"""

from dataclasses import dataclass
from functools import cached_property

__all__ = ["CUE_CONFLICT", "EXPERIMENTS", "NO_CONDITION", "Condition", "Experiment", "parse_condition"]

NO_CONDITION = ("", "0", "nan")
"""Values of `condition` in raw data of an experiment without conditions, in the form of `parse_condition`."""

_IMAGENET = "ImageNet's own terms (research and education)"
_CC_BY = "CC BY 4.0"
_GENERALISATION = "Geirhos et al., NeurIPS 2018 (arXiv:1808.08750)"
_TEXTURE = "Geirhos et al., ICLR 2019 (arXiv:1811.12231)"
_SKETCH = "Wang et al., NeurIPS 2019 (arXiv:1905.13549)"


@dataclass(frozen=True)
class Condition:
    """A condition of an experiment.

    Attributes:
        token: Name in the raw data, as `parse_condition` returns it.
        label: Label on the axis of a figure.
        kept: Whether it counts in the benchmark.
    """

    token: str
    label: str
    kept: bool


@dataclass(frozen=True)
class Experiment:
    """A dataset of the benchmark.

    Attributes:
        name: Name in the toolbox.
        title: Name in tables and figures.
        what: Words for the images, for messages.
        token: Abbreviation in the names of trials, between the first two underscores. The three eidolon experiments
            have the same one.
        images_per_category: Number of images of each of the 16 categories, over all conditions.
        file_list_sha256: `sha256_of_lines` of the `<category>/<name>` of the published images. They are sorted by file
            name if all lie in one folder (`in_one_folder`), else by category and file name, which is the order in which
            the toolbox visits them.
        content_sha256: `Stimuli.content_sha256` of the published images; None if this project has never had them.
        people: Number of persons who took part.
        source: Paper that published the images.
        licence: Licence of the images.
        two_cues: Whether an image has a shape and a texture of different objects. The measure is then which of the two
            is named; otherwise it is how often the object is named.
        conditions: In the toolbox's order, the undistorted control first; empty if there is a single kind of image.
        axis: Label for the axis of the conditions.
        in_one_folder: The layout of the archive. False: `<name>/<category>/<image>`. True:
            `<name>/dnn/session-1/<image>`, where a file name consists of pieces between underscores, of which the
            fourth is the condition and the fifth the category.
    """

    name: str
    title: str
    what: str
    token: str
    images_per_category: int
    file_list_sha256: str
    content_sha256: str | None
    people: int
    source: str
    licence: str
    two_cues: bool = False
    conditions: tuple[Condition, ...] = ()
    axis: str = ""
    in_one_folder: bool = False

    @property
    def images(self) -> int:
        """Number of images, which is also the number of trials of an observer."""
        return 16 * self.images_per_category

    @property
    def kept(self) -> tuple[int, ...]:
        """Positions of the conditions that count in the benchmark; (0,) if there are no conditions."""
        return tuple(i for i, condition in enumerate(self.conditions) if condition.kept) or (0,)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {condition.token: position for position, condition in enumerate(self.conditions)}

    def find_condition(self, text: str) -> int:
        """Return the position of the condition with the name `text` in raw data; 0 if there are no conditions.

        Raises: ValueError if there is no such condition; the message lists the known ones.
        """
        token = parse_condition(text)
        if not self.conditions:
            if token in NO_CONDITION:
                return 0
            raise ValueError(f"condition {text!r}, but {self.name} has no conditions (0 or NaN)")
        if token not in self._positions:
            known = ", ".join(condition.token for condition in self.conditions)
            raise ValueError(f"unknown condition {text!r}; {self.name} has {known}")
        return self._positions[token]


def parse_condition(text: str) -> str:
    """Normalise the name of a condition: `0.90` and `.9` become 0.9, `3` and `3.0` become 3, and letters lower case."""
    token = text.strip().lower()
    try:
        return f"{float(token):g}"
    except ValueError:
        return token


def _conditions(tokens: str, labels: str = "") -> tuple[Condition, ...]:
    """Make conditions from words; a star after a word marks a condition that counts in the benchmark."""
    words = tokens.split()
    names = labels.split() or [word.rstrip("*") for word in words]
    return tuple(
        Condition(parse_condition(word.rstrip("*")), label, word.endswith("*"))
        for word, label in zip(words, names, strict=True)
    )


def _eidolon(numeral: str, coherence: int, kept: int, file_list_sha256: str) -> Experiment:
    """One of the three eidolon experiments, with conditions 0 to 7; conditions 1 to `kept` count in the benchmark."""
    tokens = " ".join(f"{2**step}-{coherence}-10{'*' if 1 <= step <= kept else ''}" for step in range(8))
    return _distortion(
        f"eidolon{numeral}",
        f"Eidolon {numeral}",
        "eid",
        80,
        file_list_sha256,
        _conditions(tokens, "0 1 2 3 4 5 6 7"),
        "log2 of the reach",
    )


def _distortion(
    name: str, title: str, token: str, each: int, file_list_sha256: str, conditions: tuple[Condition, ...], axis: str
) -> Experiment:
    """One of the twelve experiments with distorted photographs, each with four persons."""
    return Experiment(
        name,
        title,
        f"{title[0].lower()}{title[1:]} images",
        token,
        each,
        file_list_sha256,
        None,
        4,
        _GENERALISATION,
        _IMAGENET,
        conditions=conditions,
        axis=axis,
        in_one_folder=True,
    )


CUE_CONFLICT = Experiment(
    "cue-conflict",
    "Cue conflict",
    "cue-conflict images",
    "s5n",
    80,
    "52b03164bde4c27bb5b593001286781ff0977abd71fa8a71e6a3c20994a0340b",
    "4cb009842e3629cfeb1c8ddce7e37d71885e120922c225e4ef57e866a3ceb176",
    10,
    _TEXTURE,
    _CC_BY,
    two_cues=True,
)
_ONE_CUE_NAMES = "f533cc0160073738bf0d5bb63ba1709396eebf9d589b13a04f77915e282f44a3"  # of edges and silhouettes alike
EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        CUE_CONFLICT,
        Experiment(
            "edge",
            "Edges",
            "edge drawings",
            "edg",
            10,
            _ONE_CUE_NAMES,
            "40a3d45a5ede552c72ca9e7411bc74dda4f6985553d454b73ceabfae4dbee2f3",
            10,
            _TEXTURE,
            _CC_BY,
        ),
        Experiment(
            "silhouette",
            "Silhouettes",
            "silhouettes",
            "sif",
            10,
            _ONE_CUE_NAMES,
            "b68b07af689376d8d82443a0ce8a1e3063927efb6908c3aa8fe32943908bf2dc",
            10,
            _TEXTURE,
            _CC_BY,
        ),
        Experiment(
            "sketch",
            "Sketches",
            "sketches",
            "ske",
            50,
            "6b3c172b2bd40ce1cd28b076530837b67b0fb01fd7a25cc14f0baf5530842d50",
            None,
            7,
            _SKETCH,
            "MIT",
            in_one_folder=True,
        ),
        Experiment(
            "stylized",
            "Stylized",
            "stylized images",
            "sty",
            50,
            "2dd0af3c0e6852aa5fbe098a906d785be0eeefe872b49d861c03742ba81e83ed",
            None,
            5,
            _TEXTURE,
            _IMAGENET,
            in_one_folder=True,
        ),
        _distortion(
            "colour",
            "Colour and greyscale",
            "cl",
            80,
            "4c3947ca6590c5bd2f58d9092f242130c101123509aa3cb0192d44b85d2d6033",
            _conditions("cr bw*", "colour greyscale"),
            "colour",
        ),
        _distortion(
            "contrast",
            "Contrast",
            "cop",
            80,
            "08d81fb2331e6fb0e42396d8a865a8c783f6f5c5ebf865abdaf091177abe66a2",
            _conditions("c100 c50* c30* c15* c10* c05* c03 c01", "100 50 30 15 10 5 3 1"),
            "contrast in percent",
        ),
        _distortion(
            "high-pass",
            "High-pass",
            "hp",
            80,
            "681b2aaed547bc4181297d9c2d2f493017a566893ed54c617de6b1b534362e87",
            _conditions("inf 3.0* 1.5* 1.0* 0.7* 0.55 0.45 0.4", "inf 3.0 1.5 1.0 .7 .55 .45 .4"),
            "filter standard deviation",
        ),
        _distortion(
            "low-pass",
            "Low-pass",
            "lp",
            80,
            "af589aca7c556371b41f780b8526065cb2ae3a45aea4ef83cbf3740011eaf2ba",
            _conditions("0 1* 3* 5* 7* 10* 15 40"),
            "filter standard deviation",
        ),
        _distortion(
            "phase-scrambling",
            "Phase noise",
            "ps",
            70,
            "c09235670fb84d513fa46a6bc142fb62a383f1950237a306e03e64d4facef762",
            _conditions("0 30* 60* 90* 120* 150 180"),
            "phase noise width in degrees",
        ),
        _distortion(
            "power-equalisation",
            "Power equalisation",
            "pow",
            70,
            "c6074166bee8343a1e12b3f70ee6ed9355874aec733765a1a592c5b4f306b725",
            _conditions("0 pow*", "original equalised"),
            "power spectrum",
        ),
        _distortion(
            "false-colour",
            "False colour",
            "fc",
            70,
            "931b8cb397033bfc31ac7f8f663d36996f35b48926a3fecffa425e1abb14f082",
            _conditions("true false*", "true opponent"),
            "colour",
        ),
        _distortion(
            "rotation",
            "Rotation",
            "rot",
            80,
            "e1cba721c4bacab3b5252fd9dc56594eb47f8323db572ba74070adf50edc7ec2",
            _conditions("0 90* 180* 270*"),
            "rotation angle in degrees",
        ),
        _eidolon("I", 10, 5, "023f846c5ba85ebb5f186ae5d0d8e60c5663c9953fb8aa45f869117c4845fad0"),
        _eidolon("II", 3, 4, "ce97c1bfec819eb275c378c9199e1019a4a6fe3125aa300f1ee23616769be7e1"),
        _eidolon("III", 0, 3, "d37f3a6095a2276db3e4fc126794869649dd0591f52a36eb3b10d360c3042960"),
        _distortion(
            "uniform-noise",
            "Uniform noise",
            "nse",
            80,
            "5c2e58f006241a68b72c864e3a847b98bb9b96ad6aa00df1762f438ff8345b48",
            _conditions("0.0 0.03* 0.05* 0.1* 0.2* 0.35* 0.6 0.9", "0 .03 .05 .1 .2 .35 .6 .9"),
            "uniform noise width",
        ),
    )
}
"""Name -> experiment. The first three are those whose images this project has had."""
