"""The gain from large kernels in dense prediction, compared with their gain in classification.

Four trained nano RepLKNets, which differ only in their kernels, are fine-tuned on CamVid with the same decoder. The
gain in mean intersection over union from the smallest to the largest kernels is compared with the gain in top-1
accuracy. A finished fine-tuning is kept in `<output>/dense-prediction` and is not repeated.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from claims.claim import Experiment, Measurement, Options, Row, Verdict, rows_of
from claims.experiments.fields import (
    FIELD_OF_TRAINED,
    SIZE_OF_TRAINED,
    field_errors,
    field_interval,
    field_row,
    measure_fields,
)
from claims.intervals import LEVEL, mean_interval, top1_half_interval
from runkit import UserError, list_differences, load_json, save_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from claims.experiments.segmentation import Photographs, Schedule

__all__ = ["EXPERIMENT", "NETWORKS"]

NETWORKS = ("replknet31n.imagenette", "replknet13n.imagenette", "replknet7n.imagenette", "replknet3n.imagenette")
LARGE, SMALL = NETWORKS[0], NETWORKS[-1]
SEEDS = 3
ERF_IMAGES = 5


def _measure(options: Options) -> Measurement:
    from claims.experiments.segmentation import Photographs, Schedule

    if options.camvid is None:
        raise UserError("dense-prediction fine-tunes networks; give --camvid DIR, a folder with images and masks")
    schedule = replace(Schedule(), epochs=options.epochs) if options.epochs else Schedule()
    photographs = {split: Photographs(options.camvid, split) for split in ("train", "test")}
    seeds = options.seeds or SEEDS
    fields = measure_fields(
        options, "dense-prediction", NETWORKS, "pretrained", size=SIZE_OF_TRAINED, num_images=ERF_IMAGES
    )
    rows: list[Row] = []
    for name, field in zip(NETWORKS, fields, strict=True):
        card = _card(name)
        sides = field_row(field, 0)
        for seed in range(seeds):
            confusion = _confusion(name, seed, photographs, schedule, options)
            rows.append(
                {
                    "network": name,
                    "seed": seed,
                    "epochs": schedule.epochs,
                    **_iou(confusion),
                    "test_images": len(confusion),
                    "top1": card["top1"],
                    "val_images": card["data"]["val_images"],
                    **{key: sides[key] for key in FIELD_OF_TRAINED},
                    **field_interval(sides),
                }
            )
    settings = {"networks": NETWORKS, "seeds": seeds, "schedule": asdict(schedule)}
    return Measurement(rows, settings, [field.provenance["weights"] for field in fields])


def _card(name: str) -> dict[str, Any]:
    from replknet.weights.imagenette import CHECKPOINTS

    return load_json(CHECKPOINTS / f"{name}.json")


def _iou(confusion: np.ndarray) -> dict[str, float]:
    """Mean IoU in percentage points, with its 95% interval over test images."""
    from claims.experiments.segmentation import mean_iou, resampled_iou

    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(resampled_iou(confusion), [tail, 100 - tail])
    return {"miou": 100 * float(mean_iou(confusion.sum(0))), "low": 100 * float(low), "high": 100 * float(high)}


def _confusion(
    name: str, seed: int, photographs: "dict[str, Photographs]", schedule: "Schedule", options: Options
) -> np.ndarray:
    """Confusion matrix of each test image in pixels, (images, true class, predicted class).

    It is read from the file of a finished fine-tuning if there is one; otherwise the network is fine-tuned.

    Raises: UserError if the file belongs to a different fine-tuning and may not be overwritten.
    """
    import torch

    from claims.experiments.segmentation import Segmenter, confusions, fine_tune
    from replknet.zoo import load_model
    from runkit.compute.device import choose_device

    stem = options.output / "dense-prediction" / f"{name}-seed{seed}"
    record, counts = stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.npy")
    loaded = load_model(name, "pretrained")
    identity: dict[str, Any] = {
        "network": loaded.record.identity,
        "schedule": json.loads(json.dumps(asdict(schedule))),  # lists instead of tuples, as in the file
        "seed": seed,
        "data": {split: images.sha256_of_names for split, images in photographs.items()},
    }
    if record.exists() and counts.exists():
        differences = list_differences(load_json(record), identity)
        if not differences:
            return np.load(counts)
        if not options.overwrite:
            raise UserError(f"{record} is of another fine-tuning ({'; '.join(differences)}); --overwrite replaces it")
    device = choose_device(options.device)
    backbone = loaded.model
    channels = [stage["num_chs"] for stage in backbone.feature_info[-4:]]  # type: ignore[index, union-attr]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Segmenter(backbone, channels, loaded.preprocessing.mean, loaded.preprocessing.std).to(device)
    fine_tune(model, photographs["train"], schedule, seed=seed, title=f"{name}, seed {seed}")
    confusion = confusions(model, photographs["test"])
    counts.parent.mkdir(parents=True, exist_ok=True)
    np.save(counts, confusion)
    save_json(record, identity)
    return confusion


def _judge(rows: Sequence[Row]) -> Verdict:
    large, small = (rows_of(rows, network=name) for name in (LARGE, SMALL))
    top1 = large[0]["top1"] - small[0]["top1"]
    leads = [one["miou"] - other["miou"] - top1 for one, other in zip(large, small, strict=True)]
    mean, low, high = mean_interval(leads)
    if low is not None and high is not None:  # combine the interval over seeds with that of top-1 over images
        half = math.hypot(high - mean, *(top1_half_interval(one[0]) for one in (large, small)))
        low, high = mean - half, mean + half
    holds = None if low is None or high is None else True if low > 0 else False if high < 0 else None
    parts = []
    for name in dict.fromkeys(row["network"] for row in rows):
        of_network = rows_of(rows, network=name)
        miou = np.mean([row["miou"] for row in of_network])
        parts.append(f"{name.partition('.')[0]} {miou:.1f} mIoU, {of_network[0]['top1']:.1f}% top-1")
    interval = "" if low is None else f" [{low:+.1f}, {high:+.1f}]"
    ours = (
        f"{', '.join(parts)}; 31, 29, 15, 7 over 3: {mean + top1:+.1f} points of mIoU, {top1:+.1f} of top-1, "
        f"difference {mean:+.1f}{interval} ({len(leads)} run{'s' if len(leads) > 1 else ''} each)"
    )
    return Verdict(
        holds, ours, {"gain_miou": mean + top1, "gain_top1": top1, "lead": {"points": mean, "low": low, "high": high}}
    )


def _draw(rows: Sequence[Row]) -> "Figure":
    from runkit.figures import COLOURS, new_figure

    names = list(dict.fromkeys(row["network"] for row in rows))
    with new_figure(7.0, 0.9 + 0.36 * len(names)) as figure:
        dense, classes, field = figure.subplots(1, 3, sharey=True)
        for row in rows:
            y = names.index(row["network"]) + 0.16 * (row["seed"] - 1)
            errors = [[row["miou"] - row["low"]], [row["high"] - row["miou"]]]
            dense.errorbar(row["miou"], y, xerr=errors, fmt="o", color=COLOURS[0], markersize=3.5, linewidth=1)
        for y, name in enumerate(names):
            row = rows_of(rows, network=name)[0]
            for ax, key, half, mark, colour in (
                (classes, "top1", top1_half_interval(row), "s", COLOURS[1]),
                (field, "mass_side_50_px", field_errors(row), "D", COLOURS[2]),
            ):
                ax.errorbar(row[key], y, xerr=half, fmt=mark, color=colour, markersize=3.5, linewidth=1)
        dense.set_xlabel("mIoU on CamVid (points),\n95% over test images, one mark per seed")
        classes.set_xlabel("top-1 on Imagenette (%),\n95% over validation images")
        over = ", 95% over images" if any(map(field_errors, rows)) else ""
        field.set_xlabel(f"side holding half of the field\n(pixels, of {rows[0]['size_px']}){over}")
        for ax in (dense, classes, field):
            ax.set(ylim=(len(names) - 0.5, -0.5))
            ax.set_yticks(range(len(names)), [name.partition(".")[0] for name in names])
            ax.grid(axis="y", linewidth=0.4)
    return figure


EXPERIMENT = Experiment(_measure, _judge, _draw)
