"""Claims about training, on a small scale: MobileNetV2s that differ only in their depthwise convolutions and shortcuts.

All networks are trained by `replknet.train` with the same recipe, and their receptive fields are measured. A finished
network is kept in `<output>/networks` and reused by every claim that needs it; an unfinished training is resumed. The
direction follows from a contrast of accuracies: a weighted sum of top-1 accuracies that is positive if the paper is
right.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claims.claim import Experiment, Measurement, Options, Row, Verdict, rows_of
from claims.experiments.fields import FIELD_OF_TRAINED, field_errors, field_interval, field_row, measure_fields
from claims.experiments.mobilenet import VARIANTS
from claims.intervals import mean_interval, top1_half_interval
from runkit import UserError, list_differences, load_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DILATION", "LAST_STAGE", "REPARAMETERIZATION", "SHORTCUT"]

EPOCHS = 6
# small images for a CPU; with few epochs, CutMix does not help
RECIPE: dict[str, Any] = {"start_size": 48, "size": 96, "size_step": 16, "test_size": 96, "cutmix_prob": 0.0}
SEEDS = 1
ERF_SIZE = 256
ERF_IMAGES = 5
WORKERS = 2


def _measure(claim: str, networks: Sequence[str], options: Options) -> Measurement:
    if options.data is None:
        raise UserError(f"{claim} trains networks; give --data DIR, a folder with train and val (Imagenette)")
    epochs, seeds = options.epochs or EPOCHS, options.seeds or SEEDS
    rows: list[Row] = []
    records = []
    for seed in range(seeds):
        for name in networks:
            weights, card = _trained(name, options, epochs, seed)
            (result,) = measure_fields(
                options, claim, [name], str(weights), size=ERF_SIZE, num_images=ERF_IMAGES, seed=seed
            )
            field = field_row(result, seed)
            rows.append(
                {
                    "network": name,
                    **asdict(VARIANTS[name]),
                    "seed": seed,
                    "epochs": epochs,
                    "top1": card["top1"],
                    "val_images": card["data"]["val_images"],
                    "parameters": card["parameters"],
                    **{key: field[key] for key in FIELD_OF_TRAINED},
                    **field_interval(field),
                }
            )
            records.append(result.provenance["weights"])
    settings = {"epochs": epochs, "seeds": seeds, "recipe": card["recipe"], "data": card["data"]}
    return Measurement(rows, settings, records)


def _trained(name: str, options: Options, epochs: int, seed: int) -> tuple[Path, dict[str, Any]]:
    """Return the path of a network's weights and the content of their card; train the network if it is not finished.

    Raises: UserError if finished files exist, but with another recipe or other data.
    """
    from replknet.train import Folders, Recipe, Training, train
    from runkit.compute.device import choose_device

    assert options.data is not None
    recipe = Recipe(epochs=epochs, warmup_epochs=min(1, epochs - 1), seed=seed, **RECIPE)
    device = choose_device(options.device)
    folders = Folders(options.data, WORKERS)
    training = Training(name, folders, recipe, tag=f"seed{seed}", device=device)
    folder = options.output / "networks"
    weights, card = (folder / f"{training.stem}.{suffix}" for suffix in ("safetensors", "json"))
    if weights.exists() and card.exists():
        about = load_json(card)
        differences = list_differences({key: about.get(key, {}) for key in training.identity}, training.identity)
        if not differences:
            return weights, about
        if not options.overwrite:
            raise UserError(f"{card} is of another training ({'; '.join(differences)}); --overwrite trains again")
    train(training, folder, resume=True, overwrite=options.overwrite, eval_every=epochs, command=options.arguments)
    return weights, load_json(card)


def _contrast(rows: Sequence[Row], weights: Mapping[str, float]) -> tuple[float, float, float]:
    """The weighted sum of accuracies in percentage points, with its 95% interval.

    The interval is over seeds. With a single seed it is over the validation images alone, and does not include the
    variation between trainings.
    """
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    top1 = {(row["network"], row["seed"]): row["top1"] for row in rows}
    of_each = [sum(weight * top1[name, seed] for name, weight in weights.items()) for seed in seeds]
    mean, low, high = mean_interval(of_each)
    if low is not None and high is not None:
        return mean, low, high
    half = math.hypot(*(weights[row["network"]] * top1_half_interval(row) for row in rows))
    return mean, mean - half, mean + half


def _judge(weights: Mapping[str, float], meaning: str, rows: Sequence[Row]) -> Verdict:
    mean, low, high = _contrast(rows, weights)
    holds = True if low > 0 else False if high < 0 else None
    seeds = len({row["seed"] for row in rows})
    accuracies = {
        name: mean_interval([row["top1"] for row in rows_of(rows, network=name)])[0]
        for name in dict.fromkeys(row["network"] for row in rows)
    }
    listed = ", ".join(f"{name.partition('_')[2]} {top1:.1f}%" for name, top1 in accuracies.items())
    ours = (
        f"{listed}; {meaning} {mean:+.1f} points [{low:+.1f}, {high:+.1f}] "
        f"({seeds} run{'s' if seeds > 1 else ''} of {rows[0]['epochs']} epochs)"
    )
    return Verdict(holds, ours, {"contrast": {"points": mean, "low": low, "high": high, "weights": dict(weights)}})


def _draw(rows: Sequence[Row]) -> "Figure":
    from runkit.figures import new_figure

    names = list(dict.fromkeys(row["network"] for row in rows))
    network, seeds = names[0].partition("_")[0], len({row["seed"] for row in rows})
    training = f"{seeds} training{'s' if seeds > 1 else ''} of {rows[0]['epochs']} epochs"
    with new_figure(7.0, 1.1 + 0.32 * len(names)) as figure:
        figure.suptitle(f"{network} with other kernels (k), {training} for each", fontsize=8.0)
        accuracy, field = figure.subplots(1, 2, sharey=True)
        for row in rows:
            y, color = names.index(row["network"]), f"C{row['seed']}"
            accuracy.errorbar(
                row["top1"],
                y,
                xerr=top1_half_interval(row),
                fmt="o",
                color=color,
                markersize=4,
                linewidth=1.2,
            )
            field.errorbar(
                row["mass_side_50_px"], y, xerr=field_errors(row), fmt="o", color=color, markersize=4, linewidth=1.2
            )
        accuracy.set_xlabel("top-1 accuracy (%), 95% intervals over validation images")
        over = ", 95% intervals over images" if any(map(field_errors, rows)) else ""
        field.set_xlabel(f"side of the square holding half of the map,\nof {rows[0]['size_px']} pixels{over}")
        for ax in (accuracy, field):
            ax.set(ylim=(len(names) - 0.5, -0.5))
            ax.set_yticks(range(len(names)), [name.partition("_")[2].replace("_", " ") for name in names])
            ax.grid(axis="y", linewidth=0.4)
    return figure


def _experiment(claim: str, weights: Mapping[str, float], meaning: str) -> Experiment:
    """Experiment about the networks in `weights`, with the contrast of their accuracies that these weights define."""
    weights = {f"mobilenetv2n_{name}": weight for name, weight in weights.items()}
    return Experiment(partial(_measure, claim, list(weights)), partial(_judge, weights, meaning), _draw)


SHORTCUT = _experiment(
    "shortcut",
    {"k3": -1.0, "k13": 1.0, "k3_no_shortcut": 1.0, "k13_no_shortcut": -1.0},
    "a 13x13 kernel gains with shortcuts more than without",
)
REPARAMETERIZATION = _experiment(
    "reparameterization",
    {"k9": -0.5, "k9_with_k3": 0.5, "k13": -0.5, "k13_with_k3": 0.5},
    "a parallel 3x3 kernel brings",
)
LAST_STAGE = _experiment(
    "last-stage", {"k3": -1.0, "last_k7": 0.5, "last_k13": 0.5}, "larger kernels in the last stage bring"
)
DILATION = _experiment(
    "dilation",
    {"k9": 0.5, "k3_dilated_to_9": -0.5, "k13": 0.5, "k3_dilated_to_13": -0.5},
    "dense kernels over dilated ones of the same extent",
)
