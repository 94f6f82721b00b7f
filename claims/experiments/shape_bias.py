"""Do large kernels make a network rely more on shape? Recorded answers, and four trained nano RepLKNets in miniature.

The paper's own networks are not available everywhere, so the claim is tested in two ways:

- **Recorded answers** to the cue-conflict images (`--answers`) from any source: the shape bias of each network, and of
  people. To add a network whose weights are available, run it with `shapebias.run`, which records its answers.
- **In miniature** (`--data`): the accuracy that four trained nano RepLKNets, which differ only in their kernels, and a
  ResNet lose when shape, texture or colour is suppressed (`shapebias.reliance`). Further trainings of these networks,
  with other seeds, are read from `--trained`.

The criterion applies to the miniature, because its RepLKNets differ only in their kernels. It was fixed before the
networks were measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from claims.claim import Experiment, Measurement, Options, Row, Verdict, rows_of
from claims.intervals import mean_interval
from runkit import UserError, load_json
from shapebias.answers.observers import pool_people, read_observers
from shapebias.answers.suppressed import SuppressedAnswers
from shapebias.measures.reliance import Draws, compare_reliance, measure_reliance
from shapebias.measures.shape_bias import measure
from shapebias.reliance_sweep import Config, ask_networks
from shapebias.results.reliance import RelianceFolder
from shapebias.stimuli.experiments import CUE_CONFLICT
from shapebias.stimuli.suppressions import CUES, Variant, choose_variants

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "NETWORKS"]

NETWORKS = ("replknet31n", "replknet13n", "replknet7n", "replknet3n", "resnet18n")
LARGE, SMALL = NETWORKS[0], NETWORKS[3]
NUM_IMAGES = 500
COARSE = 4
"""Grids of up to this many patches per side leave structures smaller than a quarter of the image's side intact."""
GLOBAL = "global shape"
MEASURES = (*CUES, GLOBAL)
ANSWERS, RELIANCE, DIFFERENCE = "recorded answers", "reliance", "difference of reliance"


@dataclass(frozen=True)
class _Trained:
    """The answers of one trained network, with the seed of its training."""

    network: str
    seed: int
    answers: SuppressedAnswers


def _measure(options: Options) -> Measurement:
    if options.data is None and not options.answers:
        raise UserError(
            "shape-bias needs images or answers; give --data DIR (Imagenette, with val), or --answers DIR with "
            "recorded answers to the cue-conflict images, or both"
        )
    rows = _recorded(options.answers)
    settings: dict[str, Any] = {"answers": [path.name for path in options.answers]}
    records = []
    if options.data is not None:
        trained, variants = _ask(options, options.data)
        rows += _reliance_rows(trained, variants)
        records = [one.answers.provenance["weights"] for one in trained]
        settings |= {
            "networks": list(dict.fromkeys(one.network for one in trained)),
            "seeds": sorted({one.seed for one in trained}),
            "data": trained[0].answers.provenance["data"],
            "suppressions": [variant.label for variant in variants],
            "coarse_grids_up_to": COARSE,
        }
    return Measurement(rows, settings, records)


def _row(part: str, name: str, value: float, low: float | None, high: float | None, images: int, **more: Any) -> Row:
    given = {"kind": "network", "seed": None, "measure": "shape bias", **more}
    return {"part": part, "name": name, **given, "value": value, "low": low, "high": high, "images": images}


def _recorded(paths: Sequence[Path]) -> list[Row]:
    """Shape bias of every trained network among the recorded answers, and of all people pooled, in ascending order.

    Raises: UserError as `read_observers`.
    """
    observers = read_observers(paths, CUE_CONFLICT) if paths else []
    people = [one for one in observers if one.kind == "person"]
    shown = [one for one in observers if one.kind != "person" and not one.random]
    rows = []
    for observer in [*shown, *([pool_people(people)] if people else [])]:
        found = measure(observer)
        bias = found.shape_bias
        if bias.value is not None:
            rows.append(
                _row(ANSWERS, found.label, bias.value, bias.low, bias.high, found.conflict_trials, kind=observer.kind)
            )
    return sorted(rows, key=lambda row: row["value"])


def _ask(options: Options, data: Path) -> tuple[list[_Trained], list[Variant]]:
    """Collect the answers of all trainings to the same suppressed images.

    Finished answers are reused, unfinished ones are resumed.

    Raises: UserError if a network cannot be measured.
    """
    variants = choose_variants(CUES)
    folder = options.output / "shape-bias"
    trained: list[_Trained] = []
    for label, networks, weights, seed in _trainings(options.trained):
        config = Config(
            model=networks,
            weights=(weights,),
            images=data / "val",
            num_images=options.num_images or NUM_IMAGES,
            suppress=CUES,
            device=options.device,
            output=folder,
            resume=True,
            overwrite=options.overwrite,
            arguments=options.arguments,
        )
        swept = ask_networks(config, RelianceFolder(folder / label))
        if swept.failures.reasons:
            raise UserError(f"{', '.join(swept.failures.reasons)} could not be measured, for the reasons given above")
        trained += [_Trained(network, seed, answers) for network, answers in zip(networks, swept.results, strict=True)]
    return trained, variants


def _trainings(folder: Path | None) -> list[tuple[str, tuple[str, ...], str, int]]:
    """The trainings to measure, each as (name for its files, networks, weights, seed).

    The shipped weights of all networks come first, as one entry.

    Args:
        folder: Folder with further trainings; None for none. Files that equal shipped weights are skipped.

    Raises: UserError if the folder holds none of the networks, weights without their record, or two trainings of the
        same network with the same seed.
    """
    asked: list[tuple[str, tuple[str, ...], str, int]] = [("shipped", NETWORKS, "pretrained", 0)]
    if folder is None:
        return asked
    from replknet.weights.imagenette import CHECKPOINTS, TAG

    found = [path for name in NETWORKS for path in sorted(folder.glob(f"{name}.*.safetensors"))]
    if not found:
        raise UserError(f"{folder} holds no NAME.TAG.safetensors of {', '.join(NETWORKS)}; replknet.train makes them")
    shipped = {load_json(CHECKPOINTS / f"{name}.{TAG}.json")["file"]["sha256"] for name in NETWORKS}
    for path in found:
        if not path.with_suffix(".json").is_file():
            raise UserError(f"{path.with_suffix('.json')} is missing; replknet.train writes it next to {path.name}")
        record = load_json(path.with_suffix(".json"))
        if record["file"]["sha256"] not in shipped:
            asked.append((path.stem, (path.name.partition(".")[0],), str(path), record["recipe"]["seed"]))
    if len({(networks, seed) for _, networks, _, seed in asked}) < len(asked):
        raise UserError(f"{folder} holds two trainings of one network and one seed; leave one of them")
    return asked


def _reliance_rows(trained: Sequence[_Trained], variants: Sequence[Variant]) -> list[Row]:
    """Reliance of each training on each cue, and the difference between the largest and the smallest kernels.

    Differences are paired by seed and image.
    """
    images = len(trained[0].answers.images)
    draws = Draws.of(images)
    rows: list[Row] = []
    for measure_names, shown in ((CUES, variants), ((GLOBAL,), _coarse(variants))):  # GLOBAL is measured as CUES[0]
        for one in trained:
            found = measure_reliance(_restrict(one.answers, shown), shown, draws=draws).reliance
            for name, cue in zip(measure_names, CUES, strict=False):
                if cue not in found:
                    raise UserError(
                        f"{one.network}, seed {one.seed}, is no better than chance on {images} images; take more images"
                    )
                estimate = found[cue]
                assert estimate.value is not None  # every reliance that is found has a value
                values = (estimate.value, estimate.low, estimate.high, images)
                rows.append(_row(RELIANCE, one.network, *values, seed=one.seed, measure=name))
        rows += _difference_rows(trained, shown, draws, dict(zip(CUES, measure_names, strict=False)))
    return rows


def _difference_rows(
    trained: Sequence[_Trained], variants: Sequence[Variant], draws: Draws, names: dict[str, str]
) -> list[Row]:
    by_seed = {(one.network, one.seed): one.answers for one in trained}
    rows = []
    for seed in sorted({one.seed for one in trained}):
        pair = [by_seed.get((name, seed)) for name in (LARGE, SMALL)]
        if None in pair:
            continue
        answers = [
            replace(_restrict(one, variants), name=name) for name, one in zip((LARGE, SMALL), pair, strict=True) if one
        ]
        for found in compare_reliance(answers, variants, draws=draws):
            if found.kind == "networks" and found.of in names:
                values = (found.difference, found.low, found.high, draws.weights.shape[1])
                rows.append(_row(DIFFERENCE, f"{LARGE} - {SMALL}", *values, seed=seed, measure=names[found.of]))
    return rows


def _coarse(variants: Sequence[Variant]) -> list[Variant]:
    """The variants with unchanged images, and those whose shape is suppressed by few large patches."""
    return [
        one
        for one in variants
        if one.suppression is None
        or (one.suppression.cues == ("shape",) and one.strength is not None and one.strength.value <= COARSE)
    ]


def _restrict(answers: SuppressedAnswers, variants: Sequence[Variant]) -> SuppressedAnswers:
    """Restrict answers to some of the variants."""
    labels = tuple(variant.label for variant in variants)
    index = [answers.variants.index(label) for label in labels]
    assert answers.label_probability is not None
    return replace(
        answers,
        variants=labels,
        top_outputs=answers.top_outputs[index],
        top_probabilities=answers.top_probabilities[index],
        label_probability=answers.label_probability[index],
    )


def _judge(rows: Sequence[Row]) -> Verdict:
    parts: list[str] = []
    findings: dict[str, Any] = {}
    answers = rows_of(rows, part=ANSWERS)
    if answers:
        listed = ", ".join(f"{row['name']} {row['value']:.2f} {_interval(row['low'], row['high'])}" for row in answers)
        parts.append(f"shape bias of recorded answers: {listed}")
    if not rows_of(rows, part=RELIANCE):
        return Verdict(None, "; ".join([*parts, "in miniature: not measured, --data was not given"]), findings)
    for name in dict.fromkeys(row["name"] for row in rows_of(rows, part=RELIANCE)):
        means = [  # over seeds
            np.mean([row["value"] for row in rows_of(rows, part=RELIANCE, name=name, measure=what)])
            for what in MEASURES
        ]
        parts.append(f"{name}: " + ", ".join(f"{what} {mean:.3f}" for what, mean in zip(MEASURES, means, strict=True)))
    for what in MEASURES:
        mean, low, high, seeds = _over_seeds(rows_of(rows, part=DIFFERENCE, measure=what))
        findings[what] = {"difference": mean, "low": low, "high": high, "seeds": seeds}
    shape = findings["shape"]
    holds = True if shape["low"] > 0 else False if shape["high"] < 0 else None
    runs = f"{shape['seeds']} training{'s' if shape['seeds'] > 1 else ''} each"
    differences = ", ".join(
        f"{what} {one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]" for what, one in findings.items()
    )
    parts.append(f"largest over smallest kernels, reliance ({runs}): {differences}")
    return Verdict(holds, "; ".join(parts), {"reliance": findings})


def _over_seeds(rows: Sequence[Row]) -> tuple[float, float, float, int]:
    """Mean difference over seeds, the ends of its 95% interval, and the number of seeds.

    The interval combines the variation over seeds with that over images; with one seed it is over images alone. All
    seeds share the same images, so the part of the images does not shrink with the number of seeds.
    """
    mean, low, high = mean_interval([row["value"] for row in rows])
    below = float(np.mean([row["value"] - row["low"] for row in rows]))
    above = float(np.mean([row["high"] - row["value"] for row in rows]))
    if low is not None and high is not None:
        below, above = float(np.hypot(mean - low, below)), float(np.hypot(high - mean, above))
    return mean, mean - below, mean + above, len(rows)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.2f}, {high:.2f}]"


def _draw(rows: Sequence[Row]) -> "Figure":
    from runkit.figures import new_figure

    answers, reliance = rows_of(rows, part=ANSWERS), rows_of(rows, part=RELIANCE)
    networks = list(dict.fromkeys(row["name"] for row in reliance))
    lines = max(len(answers), len(networks))
    with new_figure(7.2, 1.3 + 0.3 * lines) as figure:
        axes = figure.subplots(1, bool(answers) + (bool(reliance)), squeeze=False)[0]
        if answers:
            _draw_answers(axes[0], answers)
        if reliance:
            _draw_reliance(axes[-1], reliance, networks)
            figure.legend(loc="outside lower right", ncols=len(MEASURES), frameon=False)
    return figure


def _draw_answers(ax: "Axes", rows: Sequence[Row]) -> None:
    from runkit.figures import COLOURS

    for y, row in enumerate(rows):
        low, high = (row["value"] if row[end] is None else row[end] for end in ("low", "high"))
        person = row["kind"] != "network"
        ax.errorbar(
            row["value"],
            y,
            xerr=[[row["value"] - low], [high - row["value"]]],
            fmt="D" if person else "o",
            color=COLOURS[1] if person else COLOURS[0],
            markersize=4,
            linewidth=1.2,
        )
    ax.set_yticks(range(len(rows)), [row["name"] for row in rows])
    ax.set(xlim=(0, 1), ylim=(-0.6, len(rows) - 0.4), title="recorded answers")
    ax.set_xlabel("shape bias on cue-conflict images,\n95% intervals over images")
    ax.grid(axis="y", linewidth=0.4)


def _draw_reliance(ax: "Axes", rows: Sequence[Row], networks: Sequence[str]) -> None:
    from runkit.figures import COLOURS

    seeds = sorted({row["seed"] for row in rows})
    for number, what in enumerate(MEASURES):
        for row in rows_of(rows, measure=what):
            y = networks.index(row["name"]) + 0.18 * (number - 1.5) + 0.05 * seeds.index(row["seed"])
            first = row["name"] == networks[0] and row["seed"] == seeds[0]
            ax.errorbar(
                row["value"],
                y,
                xerr=[[row["value"] - row["low"]], [row["high"] - row["value"]]],
                fmt="osD^"[number],
                color=COLOURS[number],
                markersize=3.5,
                linewidth=1,
                label=what if first else None,
            )
    ax.set_yticks(range(len(networks)), networks)
    ax.set(ylim=(len(networks) - 0.5, -0.5), title="in miniature, Imagenette")
    ax.set_xlabel("reliance: accuracy lost without the cue,\n95% intervals over images,\none mark per training")
    ax.grid(axis="y", linewidth=0.4)


EXPERIMENT = Experiment(_measure, _judge, _draw)
