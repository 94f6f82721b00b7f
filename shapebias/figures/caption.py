"""Captions of the figures of shape bias, reliance and the benchmark: networks, images, intervals, version."""

from collections.abc import Mapping, Sequence
from typing import Any

from runkit.figure_text import count_words, list_names, software_words
from shapebias.figures.reliance import UNDEFINED
from shapebias.figures.shape_bias import FEW
from shapebias.measures.reliance import Reliance
from shapebias.measures.shape_bias import Measurement
from shapebias.results.benchmark_content import BenchmarkFile
from shapebias.results.files import notes_on
from shapebias.results.reliance import notes_on_reliance
from shapebias.stimuli.experiments import Experiment

__all__ = [
    "caption_answers",
    "caption_benchmark",
    "caption_reliance",
    "caption_suppressed",
    "name_both",
    "name_weights",
]


def caption_answers(
    series: Sequence[Measurement],
    experiment: Experiment,
    head: Mapping[str, Any],
    *,
    persons: int = 0,
    weights: Mapping[str, str] | None = None,
    picture: str = "",
) -> str:
    """Write the caption of a figure that compares observers; it mentions only what this figure shows.

    Args:
        series: Measurements that the figure shows.
        experiment: The experiment.
        head: Provenance of the comparison, as `runkit.describe_run` returns it.
        persons: Number of people.
        weights: Name of a network -> description of its weights, as far as it is known.
        picture: Suffix of the figure's name, from `shapebias.results.comparison.picture_ends`.
    """
    networks = [one for one in series if one.kind != "people"]
    counts = sorted({one.trials for one in networks} or {one.trials // max(1, persons) for one in series})
    images = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    people = f" and {count_words(persons, 'person', 'people')}" if persons else ""
    known = dict(weights or {})
    recorded = [one.label for one in networks if one.name not in known]
    return _lines(
        f"{experiment.title}: {images} images, {count_words(len(networks), 'network', 'networks')}{people}.",
        _say_marks(series, experiment, picture, persons=bool(persons)),
        name_weights([known[one.name] for one in networks if one.name in known]),
        f"Recorded answers of {', '.join(recorded)}." if recorded else "",
        notes_on(series, experiment),
        software_words(head),
    )


def _say_marks(series: Sequence[Measurement], experiment: Experiment, picture: str, *, persons: bool) -> str:
    """Explain the marks and lines of a figure of observers, and the denominators of its shares."""
    fewer = "the number of shape or texture images, whichever is smaller" if experiment.two_cues else "their number"
    intervals = (
        f"95% intervals: bootstrap over images; where all answers agree, that of Clopper and Pearson for {fewer}."
    )
    ticks = "Each small tick is one person." if persons else ""
    people = any(one.kind == "people" for one in series)
    matrix = (
        "Each point: one category of shape, over the images for which the observer named one of the two cues, if there "
        "are any. Vertical lines: the shape bias of each observer over all images"
    )
    shares = (
        "Shape and texture accuracy are shares of all trials, coverage is a share of the trials whose shape and "
        "texture are of different categories."
    )
    if not experiment.two_cues:
        sentences = [intervals, ticks, "Dotted line: chance."]
    elif picture == "-column":
        sentences = [f"{matrix}, which the legend gives as a number."]
    elif picture == "-forest":
        sentences = [intervals, ticks, "Dashed line: people together." if people else "", shares]
    else:
        hidden = shares if len(series) <= FEW else ""
        sentences = [f"{matrix}, as the bars on the right.", intervals, ticks, hidden]
    return " ".join(filter(None, sentences))


def caption_reliance(
    measured: Sequence[Reliance], head: Mapping[str, Any], weights: Mapping[str, str], *, curves: bool = False
) -> str:
    """Write the caption of a figure of reliance.

    Args:
        measured: At least one network.
        head: Provenance of the comparison, as `runkit.describe_run` returns it.
        weights: Name of each network -> description of its weights.
        curves: Whether the figure shows the curves, and not the bars.
    """
    labels = [name_both(one.name, weights[one.name]) for one in measured]
    drawn = any(one.reliance or one.areas for one in measured)
    undefined = [one.label for one in measured if not (one.reliance or one.areas)]
    return _lines(
        f"{count_words(measured[0].images, 'image', 'images')}, {count_words(len(measured), 'network', 'networks')}.",
        f"{'Bands' if curves else 'Lines on the bars'}: 95% intervals, bootstrap over images." if drawn else "",
        _say_curves(measured) if curves and drawn else "",
        f"{list_names(undefined)}: {UNDEFINED}." if undefined else "",
        notes_on_reliance(measured),
        name_weights(labels),
        software_words(head),
    )


def _say_curves(measured: Sequence[Reliance]) -> str:
    """Explain the first point and the dotted line of the curves."""
    zero = "no answer is unchanged" if measured[0].chance is None else "the accuracy is at chance"
    return f"The first point of each curve (–) is the image as it is. Dotted line: 0, where {zero}."


def caption_suppressed(images: int, head: Mapping[str, Any], *, control: bool = False) -> str:
    """Write the caption of a figure of suppressed images, which does not involve any network.

    Args:
        images: Number of images that are shown or measured.
        head: Provenance of the comparison, as `runkit.describe_run` returns it.
        control: Whether the figure shows measures of the suppressed images, and not the images.
    """
    if not control:
        return _lines("One image under every suppression. The first picture of each row (–) is the image as it is.",
                      software_words(head))  # fmt: skip
    what = f"Means over {images:,} images" if images > 1 else "One image"
    return _lines(
        f"{what}, without any network. The first point of each curve (–) is the image as it is, which is 1 in every "
        "measure (dotted line). Edges in place: a correlation with it; colours: an overlap of histograms; the others: "
        "ratios to it.",
        software_words(head),
    )


def caption_benchmark(content: BenchmarkFile, picture: str = "") -> str:
    """Write the caption of one of the benchmark's figures: the answers, and what this figure shows of them.

    Args:
        content: Content of `benchmark.json`.
        picture: Suffix of the figure's name, from `shapebias.results.benchmark_tables.PICTURE_ENDS`.
    """
    return _lines(
        f"Recorded answers of {count_words(len(content['networks']), 'network', 'networks')} and of people: "
        f"{content['scope']}.",
        _say_shown(content, picture),
        software_words(content),
    )


def _say_shown(content: BenchmarkFile, picture: str) -> str:
    """Say which datasets a figure of the benchmark shows, and explain its intervals, bands and lines."""
    conditions = [bool(dataset["conditions"]) for dataset in content["datasets"].values()]
    config = content["config"]
    if picture in ("", "-scatter"):
        interval = f"95% intervals: bootstrap over images ({config['resamples']:,} draws), people fixed."
        dashed = (
            "Dashed line: people."
            if not picture
            else "Dashed lines (expected): the consistency by chance of independent observers of these accuracies."
        )
        return " ".join(
            filter(
                None,
                [
                    "Means over the datasets." if len(content["datasets"]) > 1 else "",
                    interval if config["intervals"] else "",
                    dashed,
                ],
            )
        )
    if picture == "-matrices":
        return f"Shown: {_some(conditions.count(False), len(conditions))} that have no conditions, all trials of each."
    if picture == "-confusion":
        return "Trials of all datasets, in the conditions that count."
    shown = f"Shown: {_some(conditions.count(True), len(conditions))} that have conditions."
    return f"{shown} {_say_ground(content, picture)}"


def _say_ground(content: BenchmarkFile, picture: str) -> str:
    """Explain the background of a figure over conditions: bands, grey areas and the dotted line."""
    measure, said = picture.removeprefix("-").replace("-", "_"), []
    drawn = [dataset for dataset in content["datasets"].values() if dataset["curves"] is not None]
    curves: list[Mapping[str, Any]] = [dataset["curves"] for dataset in drawn if dataset["curves"] is not None]
    if any(len(one[measure]["persons"]) > 1 for one in curves):
        said.append("bands: range of people")
    if any(not condition["kept"] for dataset in drawn for condition in dataset["conditions"]):
        said.append("grey background: conditions that do not count")
    chance = "answers that are spread evenly over the categories" if measure == "entropy" else "chance"
    words = "; ".join([*said, f"dotted line: {chance}"])
    return f"{words[0].upper()}{words[1:]}."


def _some(number: int, total: int) -> str:
    return f"the {number} of {count_words(total, 'dataset', 'datasets')}"


def name_both(name: str, label: str) -> str:
    """Return a network's name with the description of its weights, or only this if it contains the name."""
    return label if name in label else f"{name}: {label}"


def name_weights(labels: Sequence[str]) -> str:
    """List the weights of networks; if there are many, the first ones and the number of the others."""
    named = [label.replace(": weights ", ": ").removeprefix("weights ") for label in dict.fromkeys(labels)]
    return f"Weights: {list_names(named)}." if named else ""


def _lines(*lines: str) -> str:
    return "\n".join(filter(None, lines))
