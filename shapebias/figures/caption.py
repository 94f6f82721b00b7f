"""What stands under the pictures of shape bias, reliance and the benchmark: networks, images, intervals, version."""

from collections.abc import Mapping, Sequence
from typing import Any

from runkit.figure_text import count_words, list_names, software_words
from shapebias.figures.reliance import UNDEFINED
from shapebias.measures.reliance import Reliance
from shapebias.measures.shape_bias import Measurement
from shapebias.results.benchmark_content import BenchmarkFile
from shapebias.results.files import note_on_images
from shapebias.stimuli.experiments import Experiment

__all__ = ["caption_answers", "caption_benchmark", "caption_reliance", "caption_suppressed", "name_both"]


def caption_answers(
    series: Sequence[Measurement],
    experiment: Experiment,
    head: Mapping[str, Any],
    *,
    persons: int = 0,
    weights: Mapping[str, str] | None = None,
) -> str:
    """The caption of a comparison of observers.

    Args:
        series: What is drawn.
        experiment: What was shown.
        head: What made the comparison, as `runkit.describe_run` makes it.
        persons: Number of people.
        weights: Name of a network -> its weights in words, as far as they are known.
    """
    networks = [one for one in series if one.kind != "people"]
    counts = sorted({one.trials for one in networks} or {one.trials // max(1, persons) for one in series})
    images = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    people = f" and {count_words(persons, 'person', 'people')}" if persons else ""
    known = dict(weights or {})
    recorded = [one.label for one in networks if one.name not in known]
    ticks = " Small ticks are single people." if persons else ""
    return _lines(
        f"{experiment.title}: {images} images, {count_words(len(networks), 'network', 'networks')}{people}. "
        f"95% intervals: bootstrap over images.{ticks}",
        _name_weights([known[one.name] for one in networks if one.name in known]),
        f"Recorded answers of {', '.join(recorded)}." if recorded else "",
        note_on_images(series),
        software_words(head),
    )


def caption_reliance(measured: Sequence[Reliance], head: Mapping[str, Any], weights: Mapping[str, str]) -> str:
    """The caption of what networks rely on.

    Args:
        measured: At least one network.
        head: What made the comparison, as `runkit.describe_run` makes it.
        weights: Name of each network -> its weights in words.
    """
    labels = [name_both(one.name, weights[one.name]) for one in measured]
    undefined = [one.label for one in measured if not (one.reliance or one.areas)]
    return _lines(
        f"{count_words(measured[0].images, 'image', 'images')}, {count_words(len(measured), 'network', 'networks')}. "
        "95% intervals: bootstrap over images.",
        f"{list_names(undefined)}: {UNDEFINED}." if undefined else "",
        _name_weights(labels),
        software_words(head),
    )


def caption_suppressed(images: int, head: Mapping[str, Any]) -> str:
    """The caption of pictures of suppressed images, with which networks have nothing to do.

    Args:
        images: How many images are shown or measured.
        head: What made the comparison, as `runkit.describe_run` makes it.
    """
    what = "One image under every suppression" if images == 1 else f"Means over {images:,} images, without any network"
    return _lines(f"{what}.", software_words(head))


def caption_benchmark(content: BenchmarkFile, picture: str = "") -> str:
    """The caption of one of the benchmark's pictures: what was answered, and what this picture shows of it.

    Args:
        content: Of `benchmark.json`.
        picture: End of the picture's name, of `shapebias.results.benchmark_tables.PICTURE_ENDS`.
    """
    return _lines(
        f"Recorded answers of {count_words(len(content['networks']), 'network', 'networks')} and of people: "
        f"{content['scope']}.",
        _say_shown(content, picture),
        software_words(content),
    )


def _say_shown(content: BenchmarkFile, picture: str) -> str:
    """Which datasets a picture of the benchmark shows, and what its bands and lines are."""
    conditions = [bool(dataset["conditions"]) for dataset in content["datasets"].values()]
    config = content["config"]
    if picture in ("", "-scatter"):
        interval = f"95% intervals: bootstrap over images ({config['resamples']:,} draws), people fixed."
        return f"Means over all datasets. {interval if config['intervals'] else ''}".rstrip()
    if picture == "-matrices":
        return f"Shown: {_some(conditions.count(False), len(conditions))} that have no conditions, all trials of each."
    if picture == "-confusion":
        return "Trials of all datasets, in the conditions that count."
    bands = "" if picture == "-entropy" else " Bands: range of people; grey ground: conditions that do not count."
    return f"Shown: {_some(conditions.count(True), len(conditions))} that have conditions.{bands}"


def _some(number: int, total: int) -> str:
    return f"the {number} of {count_words(total, 'dataset', 'datasets')}"


def name_both(name: str, label: str) -> str:
    """A network with its weights, where the words for these do not begin with its name."""
    return label if name in label else f"{name}: {label}"


def _name_weights(labels: Sequence[str]) -> str:
    """Weights of networks; of many the first, and how many more there are."""
    named = [label.removeprefix("weights ") for label in dict.fromkeys(labels)]
    return f"Weights: {list_names(named)}." if named else ""


def _lines(*lines: str) -> str:
    return "\n".join(filter(None, lines))
