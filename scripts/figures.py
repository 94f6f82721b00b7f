"""Produce the reference figures and their numbers in figures/reference, and the pictures of the docs in docs/images.

Receptive fields and most claims need nothing but the installation. The shape-bias benchmark downloads its images and
people's answers once, or reads them from --stimuli and --humans. Reliance and the claim about shape bias need the
photographs of Imagenette (--imagenette), and the claim about dense prediction those of CamVid (--camvid).
"""

import argparse
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import trained_networks
import trained_tables
from PIL import Image, PngImagePlugin

import claims.command
import erf.visualize
import htmlreport.relate
import shapebias.reliance
import shapebias.run
from claims.experiments.fields import SIZE_OF_TRAINED

FOLDER = Path("figures/reference")
IMAGES = Path("docs/images")
FIELDS = ["replknet31n", "replknet13n", "replknet7n", "replknet3n", "resnet18n"]
CLAIMS = ["cost", "latency", "small-maps", "growth", "depth", "training"]
WIDTH = 1600
FIRST = str(SIZE_OF_TRAINED)
"""Side in pixels of the images of the first picture."""
_PHOTOGRAPHS = ["--size", "512", "--num-images", "5"]
_GALLERY = [*_PHOTOGRAPHS, "--width", "page", "--no-table"]
_STAGES = ["--size", "256", "--num-images", "5", "--width", "page", "--no-table", "--no-caption"]
_SCRATCH = re.compile(r" --(?:output \S+|overwrite|quiet)")
"""Options of a command that do not affect its picture, and are removed from the command in a copied picture."""
_OUTLINES = ["--outlines", "theoretical", "gaussian"]


def draw_fields(options: argparse.Namespace) -> None:
    sizes = ["--size", FIRST, "1024", "--num-images", "5"]
    _run(erf.visualize.main, ["--model", *FIELDS, "--weights", "pretrained", *sizes])
    with tempfile.TemporaryDirectory() as scratch:
        row = [str(FOLDER / "erf" / f"{name}.size-{FIRST}.npz") for name in FIELDS]
        labels = [f"{name}.size-{FIRST}={name}" for name in FIELDS]
        look = ["--width", "page", "--columns", str(len(FIELDS)), "--no-table", "--labels", *labels]
        _run(erf.visualize.main, ["--from-npz", *row, *look], output=Path(scratch))
        _shrink(Path(scratch) / "erf" / "comparison.png", IMAGES / "erf-comparison.png")
    if options.trained:
        _measure_seeds(options.trained)


def _measure_seeds(folder: Path) -> None:
    """Measure the fields of further trainings of these networks and keep their JSON files, for the spread in tables."""
    whole = FOLDER / "seeds"  # a path without the name of this machine's folders, since the JSON files contain it
    for weights in [path for name in FIELDS for path in sorted(folder.glob(f"{name}.*_seed*.safetensors"))]:
        name = weights.name.partition(".")[0]
        size = ["--size", FIRST, "--num-images", "5"]
        _run(erf.visualize.main, ["--model", name, "--weights", str(weights), *size], output=whole)
        target = FOLDER / "erf" / "seeds" / f"{weights.stem}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(whole / "erf" / f"{name}.json", target)
        shutil.rmtree(whole)


def draw_large_kernels(options: argparse.Namespace) -> None:
    """Measure the untrained large-kernel networks. This takes an hour on two cores and runs only on request."""
    with tempfile.TemporaryDirectory() as scratch:
        size = ["--size", "512", "--num-images", "2", "--width", "page", "--no-table"]
        _run(erf.visualize.main, ["--model", "@large-kernels", "--weights", "random", *size], output=Path(scratch))
        folder = FOLDER / "large-kernels"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("comparison.csv", "comparison-measures.csv"):
            shutil.copy(Path(scratch) / "erf" / name, folder / name)
        _shrink(Path(scratch) / "erf" / "comparison.png", IMAGES / "large-kernels.png")


def draw_gallery(options: argparse.Namespace) -> None:
    """Draw the gallery's pictures of receptive fields, and copy reference figures."""
    pictures = {
        "comparison": (["before-after", "curves"], ["--model", *FIELDS[::3], "resnet18n", "--before-after", *_GALLERY]),
        "stages": (["stages"], ["--model", FIELDS[0], "--weights", "pretrained", "random", "--layer", "all", *_STAGES]),
        "replknet31n.maps": (["maps"], ["--model", FIELDS[0], "--keep-maps", "--outlines", "gaussian", *_PHOTOGRAPHS]),
        "replknet31n.overlay": (
            ["overlay"],
            ["--model", FIELDS[0], "--overlay", "--outlines", "gaussian", *_PHOTOGRAPHS],
        ),
        "replknet31n": (["single"], ["--model", FIELDS[0], "--outlines", "gaussian", *_PHOTOGRAPHS]),
        "resnet18n": (["outlines"], ["--model", "resnet18n", "--layer", "1", *_OUTLINES, *_PHOTOGRAPHS]),
    }
    for stem, (names, arguments) in pictures.items():
        with tempfile.TemporaryDirectory() as scratch:
            _run(erf.visualize.main, [*arguments, "--quiet"], output=Path(scratch))
            stem = "comparison" if stem == "stages" else stem
            for name in names:
                source = f"{stem}-curves" if name == "curves" else stem
                width = 600 if name == "single" else 1000
                _shrink(Path(scratch) / "erf" / f"{source}.png", IMAGES / f"gallery-{name}.png", width=width)
    reliance = FOLDER / "shapebias" / "reliance"
    with tempfile.TemporaryDirectory() as scratch:
        fields = ["--erf", str(FOLDER / "erf"), "--reliance", str(reliance), "--size", FIRST]
        if code := htmlreport.relate.main([*fields, "--output", scratch]):
            raise SystemExit(code)
        _shrink(Path(scratch) / "relation.png", IMAGES / "gallery-relation.png", width=1000)
    _shrink(reliance / "reliance.png", IMAGES / "gallery-reliance.png", width=700)
    _shrink(FOLDER / "claims" / "cost.png", IMAGES / "gallery-claim.png", width=1000)


def draw_claims(options: argparse.Namespace) -> None:
    _run(claims.command.main, CLAIMS, output=FOLDER / "claims")
    if options.imagenette:
        data = ["--data", str(options.imagenette.parent)]
        answers = [str(folder) for folder in (options.published, options.humans) if folder]
        more = (["--answers", *answers] if answers else []) + (
            ["--trained", str(options.trained)] if options.trained else []
        )
        _run(claims.command.main, ["shape-bias", *data, *more], output=FOLDER / "claims")
    if options.camvid:
        _run(claims.command.main, ["dense-prediction", "--camvid", str(options.camvid)], output=FOLDER / "claims")


def draw_shape_bias(options: argparse.Namespace) -> None:
    humans = ["--humans", str(options.humans)] if options.humans else []
    stimuli = ["--stimuli", str(options.stimuli)] if options.stimuli else []
    _run(shapebias.run.main, ["--model", "tf_efficientnet_lite0.in1k", *stimuli, *humans])
    _shrink(FOLDER / "shapebias" / "shape-bias.png", IMAGES / "shape-bias.png")
    _shrink(FOLDER / "shapebias" / "shape-bias-forest.png", IMAGES / "gallery-forest.png", width=1000)
    if options.published:
        answers = [FOLDER / "shapebias" / "raw" / "cue-conflict", options.published]
        _run(shapebias.run.main, ["--from-csv", *map(str, answers), *humans])


def draw_reliance(options: argparse.Namespace) -> None:
    if options.imagenette is None:
        return
    _run(shapebias.reliance.main, ["--model", *FIELDS, "--images", str(options.imagenette), "--num-images", "500"])
    for name, copy in (("reliance", "gallery-reliance"), *((f"reliance-{one}",) * 2 for one in ("curves", "control"))):
        _shrink(FOLDER / "shapebias" / "reliance" / f"{name}.png", IMAGES / f"{copy}.png")


def draw_trained(options: argparse.Namespace) -> None:
    """Update the page about the trained networks, with their learning curves, and the tables on other pages."""
    trained_networks.main([])
    trained_tables.main([])


PARTS = {
    "erf": draw_fields,
    "large-kernels": draw_large_kernels,
    "claims": draw_claims,
    "gallery": draw_gallery,
    "shape-bias": draw_shape_bias,
    "reliance": draw_reliance,
    "trained": draw_trained,
}
LONG = ("large-kernels",)


def _run(tool: Callable[[Sequence[str]], int], arguments: Sequence[str], *, output: Path = FOLDER) -> None:
    code = tool([*arguments, "--output", str(output), "--overwrite"])
    if code:
        raise SystemExit(code)


def _shrink(source: Path, target: Path, *, width: int = WIDTH) -> None:
    """Copy a picture for the web, at most `width` pixels wide, with the text chunks that describe how it was made."""
    with Image.open(source) as image:
        text = PngImagePlugin.PngInfo()
        for key, value in image.text.items():
            text.add_itxt(key, _SCRATCH.sub("", value))
        width = min(width, image.width)
        height = round(image.height * width / image.width)
        small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        small.save(target, optimize=True, pnginfo=text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/figures", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=[part for part in PARTS if part not in LONG],
        help="default: all but large-kernels",
    )
    parser.add_argument("--stimuli", type=Path, metavar="DIR", help="the 16 category folders of cue-conflict images")
    parser.add_argument("--humans", type=Path, metavar="DIR", help="raw-data CSVs of people")
    parser.add_argument(
        "--published", type=Path, metavar="DIR", help="raw-data CSVs of published networks, drawn together with ours"
    )
    parser.add_argument(
        "--imagenette",
        type=Path,
        metavar="DIR",
        help="Imagenette's validation photographs, a folder per class, for reliance, which is left out without them",
    )
    parser.add_argument(
        "--camvid",
        type=Path,
        metavar="DIR",
        help="CamVid's photographs and masks, for the claim dense-prediction, which takes hours",
    )
    parser.add_argument(
        "--trained",
        type=Path,
        metavar="DIR",
        help="weights of more trainings of the nano networks, NAME.TAG_seedN.safetensors: their fields, for the spread",
    )
    options = parser.parse_args()
    for part in options.only:
        PARTS[part](options)


if __name__ == "__main__":
    main()
