"""Update the tables about the trained nano networks on all pages, from figures/reference.

A table stands between `<!-- numbers: NAME -->` and `<!-- end of numbers -->`, where NAME is a key of `BLOCKS`. The
output of the README's example is updated, too. The text around the tables and the table in docs/how-to/claims.md are
written by hand: check them after the numbers have changed.
"""

import argparse
import csv
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

import replknet  # noqa: F401  registers the networks
from claims.experiments.fields import SIZE_OF_TRAINED
from replknet.weights.imagenette import CHECKPOINTS, TAG
from runkit import load_json
from runkit.numbers import FRACTION, Form

__all__ = ["BLOCKS", "main", "rewrite"]

_ROOT = Path(__file__).resolve().parent.parent
REFERENCE = _ROOT / "figures" / "reference"
MORE = REFERENCE / "trainings"
FIRST, LARGE = SIZE_OF_TRAINED, 1024
SIDE = 128
"""Side in pixels of the images on which accuracy is measured."""
_PERCENT = Form(decimals=1, factor=100, unit="%")
KERNELS = {
    "replknet31n": "31, 29, 15, 7",
    "replknet13n": "13, 13, 13, 7",
    "replknet7n": "all 7",
    "replknet3n": "all 3",
    "resnet18n": "7 in the stem, 3",
}
README_ROWS = {"replknet31n": "kernels 31 to 7", "replknet3n": "kernels 3", "resnet18n": ""}
_PAPER = {"RepLKNet-31, 50 images of ImageNet": "43.2%", "ResNet-101, 50 images of ImageNet": "3.2%"}
_BLOCK = re.compile(r"(<!-- numbers: (?P<name>[\w-]+) -->\n).*?(<!-- end of numbers -->)", re.DOTALL)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in [header, *rows]]
    return "\n".join([lines[0], f"|{'---|' * len(header)}", *lines[1:]])


def _networks() -> str:
    """Table of each network's size, accuracy and training time, and the accuracy of further trainings, if any."""
    rows = []
    more = any(MORE.glob("*.json"))
    for name, kernels in KERNELS.items():
        model = timm.create_model(name, num_classes=10).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, SIDE, SIDE))
        record = load_json(CHECKPOINTS / f"{name}.{TAG}.json")
        others = [load_json(path)["top1"] for path in sorted(MORE.glob(f"{name}.*.json"))]
        low, high = record["top1_interval"]
        rows.append(
            [
                f"`{name}`",
                kernels,
                f"{record['parameters'] / 1e6:.2f} M",
                f"{counter.get_total_flops() / 2e9:.2f}",
                f"{record['top1']:.1f}% [{low:.1f}, {high:.1f}]",
                *([", ".join(f"{top1:.1f}%" for top1 in others) or "–"] if more else []),
                f"{record['training_seconds'] / 3600:.1f} h",
            ]
        )
    return _table(
        [
            "network",
            "kernels",
            "parameters",
            f"GMACs at {SIDE}",
            "top-1, with its 95% interval",
            *(["other seeds"] if more else []),
            "trained in",
        ],
        rows,
    )


def _result(name: str, size: int) -> Path:
    """Path of the JSON file with a network's receptive field at a size."""
    return REFERENCE / "erf" / f"{name}.size-{size}.json"


def _at_half(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row for the threshold of one half."""
    return next(row for row in rows if row["threshold"] == 0.5)


def _field(path: Path) -> dict[str, Any]:
    """Read the published ratios at 20, 30, 50 and 99%, and the square that holds half of the contribution."""
    results = load_json(path)["results"]
    half = _at_half(results["mass_area_ratio"])
    share, pixels = half["ratio_interpolated"], half["side_interpolated_px"]
    return {
        "published": [one["ratio"] for one in results["area_ratio"]],
        "share": share,
        "half": _PERCENT.write(share, *half["ratio_interpolated_interval"]),
        "pixels": pixels,
        "side": Form(decimals=0).write(pixels, *half["side_interpolated_px_interval"]),
    }


def _fields(size: int) -> str:
    """Table of each network's receptive field, and for the size `FIRST` its range over several trainings, if any."""
    seeds = size == FIRST and (REFERENCE / "erf" / "seeds").is_dir()
    rows = []
    for name, kernels in KERNELS.items():
        found = _field(_result(name, size))
        row = [f"`{name}` ({kernels})", str(found["side"]), str(found["half"])]
        row += [f"{ratio:.2%}" for ratio in found["published"]]
        rows.append(row + _spread(name, found) * seeds)
    for network, ratio in _PAPER.items():
        rows.append([f"*the paper's* {network}", "", "", "", "", f"*{ratio}*", "", *([""] * 2 * seeds)])
    header = ["network (kernels)", "side of the square that holds half of the contribution, in pixels"]
    header += ["its share of the image", "published area ratio at t = 20%", "30%", "50%", "99%"]
    return _table(header + ["share over all trainings", "ratio at 50% over all trainings"] * seeds, rows)


def _spread(name: str, shipped: dict[str, Any]) -> list[str]:
    """The smallest and the largest value over all trainings of a network, as text."""
    fields = [shipped, *map(_field, sorted((REFERENCE / "erf" / "seeds").glob(f"{name}.*.json")))]
    if len(fields) == 1:
        return ["one training"] * 2
    values = [[one["share"] for one in fields], [one["published"][2] for one in fields]]
    return [f"{min(of):.2%} to {max(of):.2%} ({len(of)} trainings)" for of in values]


def _readme() -> str:
    rows = []
    for name, kernels in README_ROWS.items():
        found = _field(_result(name, FIRST))
        row = [f"`{name}`" + (f" ({kernels})" if kernels else ""), f"{found['pixels']:.0f} pixels"]
        rows.append([*row, str(found["half"]), f"{found['published'][2]:.2%}"])
    header = ["network", "square that holds half of the contribution", "its share of the image, 95% interval"]
    return _table([*header, "published area ratio at 50%"], rows)


def _squares() -> str:
    """Table of the three squares of the README's example."""
    results = load_json(_result("replknet31n", FIRST))["results"]
    half, published = (_at_half(results[measure]) for measure in ("mass_area_ratio", "area_ratio"))
    sides = {
        "half of the contribution, with a side between whole pixels": f"{half['side_interpolated_px']:.0f}",
        "more than half of the contribution, with a side of whole, odd pixels": f"{half['side_px']}",
        "more than half of log10(score + 1), likewise: the published square": f"{published['side_px']}",
    }
    return _table(["the smallest square that holds", "side in pixels"], [list(side) for side in sides.items()])


def _reliance() -> str:
    folder = REFERENCE / "shapebias" / "reliance"
    with (folder / "reliance-cues.csv").open(newline="", encoding="utf-8") as file:
        cues = {(row["network"], row["measure"], row["of"]): row for row in csv.DictReader(file)}
    with (folder / "reliance.csv").open(newline="", encoding="utf-8") as file:
        accuracy = {row["network"]: float(row["accuracy"]) for row in csv.DictReader(file) if row["variant"] == "none"}
    rows = []
    for name in KERNELS:
        row = [f"`{name}`", f"{accuracy[name]:.3f}"]
        for cue in ("shape", "texture", "colour"):
            found = (float(cues[name, "reliance", cue][key]) for key in ("value", "value_low", "value_high"))
            row.append(str(FRACTION.write(*found)))
        rows.append(row)
    return _table(["network", "accuracy", "shape", "texture", "colour"], rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "networks": _networks,
    "fields": lambda: _fields(FIRST),
    "fields-1024": lambda: _fields(LARGE),
    "readme": _readme,
    "readme-squares": _squares,
    "reliance": _reliance,
}
PAGES = ("README.md", "docs/zoo.md", "docs/concepts/reliance.md")


def rewrite(text: str) -> str:
    """Return a page's text with updated tables."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{BLOCKS[block['name']]()}\n\n{block[3]}", text)


def _example(text: str) -> str:
    """Return the README's text with an updated output of its example."""
    found = _field(_result("replknet31n", FIRST))
    side = found["side"]
    printed = (
        f"half of the contribution lies in a square of {found['pixels']:.0f} pixels, "
        f"95% interval {side.low} to {side.high}\n"
        f"that is {found['share']:.1%} of the image\n"
    )
    return re.sub(r"(?<=```text\n)half of the contribution.*?(?=```)", printed, text, flags=re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or only compare them with --check, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where a page is out of date")
    check = parser.parse_args(arguments).check
    pages: dict[str, Callable[[str], str]] = {page: rewrite for page in PAGES}
    pages["README.md"] = lambda text: _example(rewrite(text))
    differs = []
    for name, make in pages.items():
        path = _ROOT / name
        text = path.read_text(encoding="utf-8")
        new = make(text)
        if new != text:
            differs.append(name)
            if not check:
                path.write_text(new, encoding="utf-8")
    sys.stderr.writelines(f"{name}: {'out of date' if check else 'written'}\n" for name in differs)
    return int(check and bool(differs))


if __name__ == "__main__":
    sys.exit(main())
