"""What a claim and its experiment are: measured rows, a verdict that follows from the rows alone, and a picture.

Loads neither torch nor matplotlib: the list of claims answers at once.
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
"""The table of this repository; if the package was installed without it, `--table` has to name one."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for; None leaves a choice to the experiment.

    Attributes:
        output: Folder of the results; maps and networks of a claim go to a folder of its name within.
        arguments: The command line, for the provenance.
        images: Folder of photographs; None for the bundled ones.
        num_images: At most this many of them.
        size: Side of the images in pixels.
        seeds: How often random weights are drawn, or a network is trained.
        weights: 'auto', 'pretrained' or 'random', where a claim holds for either.
        table: CSV of `benchmarks.bench_depthwise`.
        data: Folder with `train` and `val`, for the claims that train classifiers.
        camvid: Folder with `images` and `masks`, for the claim that trains dense prediction.
        answers: Folders and CSVs of recorded answers to the cue-conflict images, for the claim about shape bias.
        trained: Folder of more trainings of the nano networks, for a claim about those that are shipped.
        epochs: Number of epochs of a training.
        device: As for `erf.visualize`.
        overwrite: Whether maps of another configuration are replaced.
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
    """What was measured.

    Attributes:
        rows: At least one, all with the same keys.
        settings: What decided them besides the code: sizes, seeds, networks.
        weights: Record of each network's weights, where networks were measured.
    """

    rows: Sequence[Row]
    settings: Mapping[str, Any]
    weights: Sequence[Mapping[str, Any]] = ()


def rows_of(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """The rows in which every given key has the given value."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


@dataclass(frozen=True)
class Verdict:
    """What the rows say of the claim.

    Attributes:
        holds: Whether its direction holds; None if the rows do not decide it.
        ours: Our figure, as text, next to the paper's.
        findings: Numbers that were derived from the rows.
    """

    holds: bool | None
    ours: str
    findings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def word(self) -> str:
        return {True: "holds", False: "does not hold", None: "not decided"}[self.holds]


@dataclass(frozen=True)
class Experiment:
    """How a claim is put to the test; `judge` and `draw` work from the rows alone."""

    measure: Callable[[Options], Measurement]
    judge: Callable[[Sequence[Row]], Verdict]
    draw: Callable[[Sequence[Row]], "Figure"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: Name of the command and its files.
        statement: What is claimed.
        source: Where in the paper.
        paper: The paper's own figure.
        criterion: When its direction counts as holding here.
        limits: What was scaled down, and what the experiment does not show.
        experiment_path: `module:name` of the `Experiment`, loaded when it runs.
        needs: Option that names the images that it needs besides the bundled ones, 'data' or 'camvid'; None if none.
        trains: Whether it trains networks.
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
        """Load what puts the claim to the test."""
        module, _, name = self.experiment_path.partition(":")
        return getattr(importlib.import_module(module), name)
