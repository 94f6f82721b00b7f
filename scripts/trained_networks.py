"""Update docs/trained-networks.md and its picture of the learning curves, from the records of the trainings.

Each training has a record (JSON) and a learning curve (CSV), written by `replknet.train` or `replknet.evaluate`. Those
of the shipped weights are in replknet/checkpoints. Those of further trainings, whose weights are too large to be
shipped, are in figures/reference/trainings. The page is never edited by hand: its text is in this file, and its numbers
are in the records.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import replknet  # noqa: F401  registers the networks
from replknet.training.evaluation import accuracy_of
from replknet.training.taps import describe_taps
from replknet.weights.imagenette import CHECKPOINTS
from replknet.zoo import load_model
from runkit import load_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MORE", "PAGE", "PICTURE", "draw_curves", "page", "read_records"]

_ROOT = Path(__file__).resolve().parent.parent
PAGE = _ROOT / "docs" / "trained-networks.md"
PICTURE = _ROOT / "docs" / "images" / "learning-curves.png"
MORE = _ROOT / "figures" / "reference" / "trainings"
_ELSEWHERE = ("seed", "test_size")
"""Entries of a recipe that the page shows elsewhere. Accuracy may have been measured again at another size."""
ORDER = ("replknet31n", "replknet13n", "replknet7n", "replknet3n", "resnet18n")

_TEXT = """<!-- made by scripts/trained_networks.py; do not edit -->
# Trained networks

This page has the model cards of the [nano networks](zoo.md#nano-networks) in one table, and their learning curves. It
is made from the records that `replknet.train` leaves, by `scripts/figures --only trained`. The cards of the shipped
weights are in `replknet/checkpoints`{more}.

{table}

- **Weights**: whether they are installed with the package.
- **Top-1** is the accuracy of the weights as they are in the file (float16) on all validation images of Imagenette
  {size}, with Wilson's 95% interval over images.
- **Kernel taps**: a tap is one position in the kernel of a convolution, so a 31×31 kernel has 961. The table adds up
  the taps of all convolutions of the network except those of 1×1.
- **Taps that met an image**: on a small feature map, the outer taps of a large kernel lie outside of the map wherever
  the kernel is placed. Such taps would meet nothing but padding and learn nothing; `replknet.train` sets them to zero.
- **Training time** is that of the clock, on one core of a shared machine, pauses included.
- **Code of commit**: the state of this project with which the network was trained.

{spread}{recipes}

## Learning curves

![Training loss and validation accuracy of the nano networks by epoch](images/learning-curves.png)

Left: the mean training loss of each epoch. Labels are smoothed and images mixed, so it does not fall to zero. Right:
the accuracy of the moving average of the weights on the validation images, after the epochs at which it was measured
({during}). The images grow during training, which changes the loss. The numbers are in the CSV files
next to the records.
"""


def read_records(folders: Sequence[Path] = (CHECKPOINTS, MORE)) -> list[dict[str, Any]]:
    """Read the records of all trainings, sorted by network and seed.

    `stem` is added as the path of a training's files without suffix, and `shipped` as whether its weights are shipped.
    Interval and taps are computed for records of older versions, which lack them.
    """
    records = []
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            record = load_json(path)
            record |= {"stem": path.with_suffix(""), "shipped": path.with_suffix(".safetensors").exists()}
            if "top1_interval" not in record:
                count = record["data"]["val_images"]
                found = accuracy_of(round(record["top1"] * count / 100), count)
                record["top1_interval"] = found["top1_interval"]
            if "taps" not in record:
                model = load_model(record["model"], str(path.with_suffix(".safetensors"))).model
                record["taps"] = describe_taps(model, record["recipe"]["size"])
            records.append(record)
    return sorted(records, key=lambda record: (ORDER.index(record["model"]), record["recipe"]["seed"]))


def page(records: Sequence[dict[str, Any]]) -> str:
    """The text of the page."""
    more = ", those of the other trainings in `figures/reference/trainings`" * any(
        not one["shipped"] for one in records
    )
    sizes = sorted({_test_size(record) for record in records})
    return _TEXT.format(
        more=more,
        table=_table(records),
        during=_during(records),
        size=f"at {' or '.join(map(str, sizes))} pixels",
        spread=_spread(records),
        recipes=_recipes(records),
    )


def _during(records: Sequence[dict[str, Any]]) -> str:
    """Which lines of the picture are which trainings, and the sizes of the images on which they were measured."""
    words = []
    for shipped, line in ((True, "solid lines, shipped weights"), (False, "dotted lines, other trainings")):
        sizes = sorted({str(one["recipe"]["test_size"]) for one in records if one["shipped"] == shipped})
        if sizes:
            words.append(f"{line}: at {' or '.join(sizes)} pixels")
    return "; ".join(words)


def _test_size(record: dict[str, Any]) -> int:
    """Side in pixels of the images on which the accuracy was measured."""
    return int(record.get("evaluation", {}).get("size_px", record["recipe"]["test_size"]))


def _table(records: Sequence[dict[str, Any]]) -> str:
    header = ["network", "seed", "weights", "top-1 (%), 95% interval", "kernel taps", "taps that met an image"]
    header += ["training time", "device", "code of commit"]
    lines = [header, ["---"] * len(header)]
    for record in records:
        low, high = record["top1_interval"]
        taps = record["taps"]
        lines.append(
            [
                f"`{record['model']}`",
                str(record["recipe"]["seed"]),
                "shipped" if record["shipped"] else "not shipped",
                f"{record['top1']:.2f} [{low:.1f}, {high:.1f}]",
                f"{taps['taps']:,}",
                "all" if not taps["unreached"] else f"{taps['taps'] - taps['unreached']:,}",
                f"{record['training_seconds'] / 60:.0f} minutes",
                f"{record['device']}, {record['machine']['processor']}, {record['threads']} "
                f"thread{'s' if record['threads'] > 1 else ''}",
                f"`{(record['git_commit'] or 'unknown')[:7]}`",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(records: Sequence[dict[str, Any]]) -> str:
    """A sentence on the top-1 accuracy over seeds of each network that was trained several times."""
    parts = []
    for name in ORDER:
        top1 = [record["top1"] for record in records if record["model"] == name]
        if len(top1) > 1:
            parts.append(f"`{name}` {np.mean(top1):.2f}% ({min(top1):.2f} to {max(top1):.2f}, {len(top1)} trainings)")
    return f"Over seeds, the mean top-1 is: {'; '.join(parts)}.\n\n" if parts else ""


def _recipes(records: Sequence[dict[str, Any]]) -> str:
    """The recipe as text, once if all trainings share it. The seed is in the table instead."""
    words: dict[str, list[str]] = {}
    for record in records:
        recipe = ", ".join(f"{key} {value}" for key, value in record["recipe"].items() if key not in _ELSEWHERE)
        note = f" Images: {record['note']}." if record.get("note") else ""
        words.setdefault(f"{recipe}.{note}", []).append(f"`{record['model']}` (seed {record['recipe']['seed']})")
    if len(words) == 1:
        return f"All were trained by one recipe: {next(iter(words))}"
    return "\n".join(f"- {', '.join(dict.fromkeys(names))}: {recipe}" for recipe, names in words.items())


def draw_curves(records: Sequence[dict[str, Any]]) -> "Figure":
    """Draw loss and top-1 accuracy by epoch, with a colour for each network and a line for each training."""
    from matplotlib.ticker import MaxNLocator

    from runkit.figures import COLOURS, new_figure

    with new_figure(7.0, 2.7) as figure:
        loss, top1 = figure.subplots(1, 2)
        labelled: set[str] = set()
        for record in records:
            name = record["model"]
            style = {"color": COLOURS[ORDER.index(name)], "linewidth": 1.0}
            style["linestyle"] = "-" if record["shipped"] else ":"
            label = None if name in labelled else name
            labelled.add(name)
            rows = _curve(record["stem"].with_name(record["stem"].name + ".csv"))
            loss.plot([row["epoch"] for row in rows], [row["train_loss"] for row in rows], label=label, **style)
            seen = [(row["epoch"], row["val_top1"]) for row in rows if row["val_top1"] is not None]
            if not seen or seen[-1][0] < len(rows):
                seen.append((len(rows), record["top1"]))
            look: dict[str, Any] = {"marker": "o", "markersize": 3 if record["shipped"] else 2}
            if len(seen) == 1:  # a single dot would look as if its line were missing
                look = {"marker": "D", "markersize": 6, "markerfacecolor": "none", "linestyle": "none"}
                look["label"] = f"{name}: measured at the end only"
            top1.plot(*zip(*seen, strict=True), **{**style, **look})
        for ax in (loss, top1):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        loss.set(xlabel="epoch", ylabel="training loss", xlim=(0, None))
        top1.set(xlabel="epoch", ylabel="top-1 on validation images (%)", xlim=(0, None))
        loss.legend(frameon=False)
        if top1.get_legend_handles_labels()[1]:
            top1.legend(frameon=False, loc="upper left")
    return figure


def _curve(path: Path) -> list[dict[str, float | None]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(file)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write page and picture, or only compare the page with --check, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 where the page is out of date"
    )
    check = parser.parse_args(arguments).check
    records = read_records()
    text = page(records)
    if check:
        return int(PAGE.read_text(encoding="utf-8") != text)
    from runkit.figures import save_figure

    PAGE.write_text(text, encoding="utf-8")
    save_figure(draw_curves(records), PICTURE.with_suffix(""), description="python scripts/trained_networks.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
