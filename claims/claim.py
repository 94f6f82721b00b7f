"""Types of a claim and its experiment: measured rows, a verdict that follows from the rows alone, and a picture.

This module imports neither torch nor matplotlib, so that listing the claims is immediate.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Claim", "Experiment", "Measurement", "Options", "Row", "Verdict", "rows_of"]

Row = dict[str, Any]
_TABLE = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "depthwise.csv"
"""The table in this repository. If the package was installed without it, `--table` must name another table."""


@dataclass(frozen=True)
class Options:
    """Options of the command line. None leaves the choice to the experiment.

    Attributes:
        output: Folder for the results. Maps and networks of a claim go to a subfolder.
        arguments: The command line, for the provenance.
        images: Folder of photographs; None for the bundled ones.
        num_images: Maximum number of images to use.
        size: Side of the images in pixels.
        seeds: Number of draws of random weights, or of trainings of each network.
        weights: 'auto', 'pretrained' or 'random', for claims that can be tested with either kind of weights.
        table: CSV file written by `benchmarks.bench_depthwise`.
        data: Folder with `train` and `val`, for the claims that train or test classifiers.
        camvid: Folder with `images` and `masks`, for the claim that trains dense prediction.
        answers: Folders and CSVs of recorded answers to the cue-conflict images, for the claim about shape bias.
        trained: Folder with further trainings of the nano networks, for the claim about shape bias.
        epochs: Number of training epochs.
        device: As for `erf.visualize`.
        overwrite: Whether to replace results that were computed with another configuration.
    """

    output: Path = Path("figures/claims")
    arguments: tuple[str, ...] = ()
    images: Path | None = None
    num_images: int | None = None
    size: int | None = None
    seeds: int | None = None
    weights: str = "auto"
    table: Path = _TABLE
    data: Path | None = None
    camvid: Path | None = None
    answers: tuple[Path, ...] = ()
    trained: Path | None = None
    epochs: int | None = None
    device: str = "auto"
    overwrite: bool = False


@dataclass(frozen=True)
class Measurement:
    """The result of a measurement.

    Attributes:
        rows: At least one row; all rows have the same keys.
        settings: Settings on which the rows depend, such as sizes, seeds and networks.
        weights: Record of the weights of each measured network.
    """

    rows: Sequence[Row]
    settings: Mapping[str, Any]
    weights: Sequence[Mapping[str, Any]] = ()


def rows_of(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """Return the rows in which every given key has the given value."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


@dataclass(frozen=True)
class Verdict:
    """The conclusion from the rows of an experiment.

    Attributes:
        holds: Whether the claim's direction holds; None if the rows do not decide it.
        ours: Our figure, as text, to be shown next to the paper's.
        findings: Numbers derived from the rows.
    """

    holds: bool | None
    ours: str
    findings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def word(self) -> str:
        return {True: "holds", False: "does not hold", None: "not decided"}[self.holds]


@dataclass(frozen=True)
class Experiment:
    """How a claim is tested. `judge` and `draw` use nothing but the measured rows."""

    measure: Callable[[Options], Measurement]
    judge: Callable[[Sequence[Row]], Verdict]
    draw: Callable[[Sequence[Row]], "Figure"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: Name of the claim on the command line and of its files.
        statement: What the paper claims.
        source: Where the paper makes the claim.
        paper: The paper's own figure.
        criterion: Condition under which the claim's direction counts as holding here.
        limits: What was scaled down, and what the experiment does not show.
        experiment_path: `module:name` of the `Experiment`, which is imported only when it runs.
        needs: Name of the option for the images that the experiment needs besides the bundled ones, 'data' or
            'camvid'; None if it needs none.
        trains: Whether the experiment trains networks, if it needs such images.
    """

    name: str
    statement: str
    source: str
    paper: str
    criterion: str
    limits: str
    experiment_path: str
    needs: str | None = None
    trains: bool = True

    def experiment(self) -> Experiment:
        """Import and return the experiment that tests the claim."""
        module, _, name = self.experiment_path.partition(":")
        return getattr(importlib.import_module(module), name)
