"""The command line of `erf.visualize`, and the configuration that it is parsed into."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from erf.drawing import OUTLINES, SCALES, SQUARES, Drawing
from erf.until import MIN_IMAGES, read_share
from runkit.options import (
    NOT_RECORDED,
    RunOptions,
    add_batch_size,
    add_console,
    add_device,
    add_formats,
    add_no_caption,
    add_normalisation,
    add_output,
    add_report,
    add_resume,
    add_seed,
    add_weights,
    program_name,
    read_options,
)
from runkit.parser import Parser
from runkit.sizes import Size, read_size

__all__ = ["Config", "build_parser", "parse_config", "read_position"]

_EXAMPLES = """examples:
  python -m erf.visualize --model replknet31b resnet101.tv_in1k
      two networks on the bundled photographs at 1024 x 1024 pixels, each drawn and measured, then compared
  python -m erf.visualize --model resnet50 --weights checkpoint.pth --images photos/ --num-images 20 --size 512
      one network with your weights on 20 of your images
  python -m erf.visualize --model tf_efficientnet_lite0.in1k --weights pretrained random --layer all --size 256
      every stage, with trained and with random weights
  python -m erf.visualize --model resnet101.tv_in1k --json --quiet > summary.json
      for scripts: print all measures to stdout

Sides, radii and widths are in pixels of the resized image, areas in pixels or as fractions of the image.
"""


@dataclass(frozen=True, kw_only=True)
class Config(RunOptions):
    """Configuration of a run. Attributes have the names of the command-line options.

    Attributes:
        images: Folder of images, text file that lists images, or several folders, text files and images; None for the
            bundled photographs.
        num_images: Maximum number of images.
        num_images_said: Whether the user gave `num_images`, and should be warned if there are fewer images.
        until: Stop early once the interval of the side that holds half of the contribution is narrower than this share
            of the side; None to measure all images.
        size: Sizes of the images in pixels: sides of squares, or (height, width).
        layer: Feature maps: "last", the index of a stage, the name of a module, or "all" for every stage.
        layout: Layout of the layers' outputs, such as "NHWC"; None to detect it.
        call: Index of the call, for a layer that is called several times; None for a layer that is called once.
        prefix_tokens: Number of tokens before those of the map; None to detect it.
        position: Position of the unit: "centre", "average", or two fractions of the image (down, across).
        plain: Whether to run the network as published, with no layers merged or reordered.
        cuda_graphs: Whether to record the operations of a map on a GPU once and replay them for further images.
        scale, squares, thresholds, cmap, crop, width, columns, labels, no_table, no_caption: How the pictures are
            drawn, as in `erf.drawing.Drawing`.
        before_after: Whether to measure each network with random weights as well, drawn above the trained ones.
        outlines: Outlines to draw around the unit besides the squares, from `erf.drawing.OUTLINES`.
        keep_maps: Whether to keep the maps of single images and draw them as a sheet.
        tex_columns: Measures in the LaTeX table, as for `erf.results.tables.read_columns`; empty for the default ones.
        overlay: Whether to keep the maps of single images and draw each over its photograph.
        from_npz: Saved results to measure and draw again, instead of networks.
    """

    images: Path | tuple[Path, ...] | None = None
    num_images: int = 50
    num_images_said: bool = field(default=False, metadata=NOT_RECORDED)
    until: float | None = None
    size: tuple[Size, ...] = (1024,)
    layer: tuple[str, ...] = ("last",)
    layout: str | None = None
    call: int | None = None
    prefix_tokens: int | None = None
    position: str | tuple[float, float] = "centre"
    plain: bool = False
    cuda_graphs: bool = False
    before_after: bool = False
    scale: str = "decades"
    squares: str = "published"
    thresholds: tuple[float, ...] = (0.2, 0.3, 0.5, 0.99)
    cmap: str = "mako"
    crop: str | int = "auto"
    width: str | float | None = None
    columns: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    no_table: bool = False
    no_caption: bool = False
    outlines: tuple[str, ...] = ()
    keep_maps: bool = False
    overlay: bool = False
    tex_columns: tuple[str, ...] = ()
    from_npz: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """Folder for the files of the run."""
        return self.output / "erf"

    @property
    def drawing(self) -> Drawing:
        """The options of the pictures."""
        return Drawing(
            scale=self.scale,
            squares=self.squares,
            thresholds=self.thresholds,
            cmap=self.cmap,
            crop=self.crop,
            width=self.width,
            columns=self.columns,
            before_after=self.before_after,
            labels=self.labels,
            table=not self.no_table,
            caption=not self.no_caption,
            outlines=self.outlines,
        )

    @property
    def sheets(self) -> tuple[str, ...]:
        """The sheets of single images' maps to draw: 'maps', 'overlay', both or none."""
        return ("maps",) * self.keep_maps + ("overlay",) * self.overlay


def build_parser() -> argparse.ArgumentParser:
    """Build the parser. Its defaults are those of `Config`."""
    parser = Parser(
        prog=program_name("erf.visualize", "erf"),
        description="Measure and draw the effective receptive field of networks: how much each input pixel contributes "
        "to the central unit of the last feature map.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Config()
    what = parser.add_argument_group("what is measured")
    what.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names of networks: of timm, such as resnet101, or a group, such as @large-kernels",
    )
    add_weights(what, auto="if there are none, random ones with a warning", several=True)
    what.add_argument(
        "--before-after",
        action="store_true",
        help="measure each network with random weights as well, and draw these above the trained ones; with "
        "--from-npz, draw the saved results in this order",
    )
    what.add_argument(
        "--images",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="images to average over: folders (searched at any depth), image files, or text files (.txt) with one "
        "path per line (default: bundled photographs)",
    )
    what.add_argument(
        "--num-images",
        type=int,
        metavar="N",
        help="use at most N images, spread evenly over the sorted files (default: 50, or all if there are fewer)",
    )
    what.add_argument(
        "--until",
        type=_share,
        default=default.until,
        metavar="SHARE",
        help="stop early: take images one by one in a shuffled order until the 95%% interval of the side of the "
        "square that holds half of the contribution is narrower than this share of that side, such as 5%%; at "
        "least 10 images and at most --num-images are used",
    )
    what.add_argument(
        "--size",
        nargs="+",
        type=_size,
        default=list(default.size),
        metavar="S",
        help="resize the images to S x S pixels, or to HEIGHTxWIDTH, such as 384x128 (default: 1024)",
    )
    what.add_argument(
        "--layer",
        nargs="+",
        default=list(default.layer),
        metavar="L",
        help="feature map to look at: last, the index of a stage (0, 1, ...), the name of a module, or all for every"
        " stage (default: last); NAME:KEY takes one entry of a module's output (backbone:out), and NAME:in its "
        "input",
    )
    what.add_argument(
        "--layout",
        default=default.layout,
        metavar="LETTERS",
        help="order of the dimensions of the module's output, where it cannot be detected: NCHW, NHWC, NLC and so on"
        " (N images, C channels, H rows, W columns, L tokens in row order; NLC:14x28 means 14 rows of 28 "
        "tokens)",
    )
    what.add_argument(
        "--call",
        type=int,
        default=default.call,
        metavar="N",
        help="if the module is called several times, use call N, counted from 0; negative numbers count from the end",
    )
    what.add_argument(
        "--prefix-tokens",
        type=int,
        default=default.prefix_tokens,
        metavar="N",
        help="number of tokens before those of the map, such as class tokens, where it cannot be detected",
    )
    what.add_argument(
        "--position",
        nargs="+",
        default=default.position,
        metavar="P",
        help="unit of the feature map whose field is measured: centre, two fractions of the image height and width "
        "(such as 0.25 0.75), or average, which superimposes the fields of a 3 x 3 grid of units and averages "
        "them (default: centre)",
    )
    add_normalisation(what)
    add_seed(what)
    how = parser.add_argument_group("how it is computed")
    add_device(how)
    add_batch_size(how, auto="one on a CPU, as many as fit on a GPU, up to 32")
    how.add_argument(
        "--precision",
        choices=("auto", "float32", "float64", "bfloat16", "float16", "tf32"),
        default=default.precision,
        help="number format of the computation (default: float32); auto takes bfloat16 where the device multiplies "
        "matrices faster in it, otherwise float32; float16 and tf32 need CUDA; for a reduced precision, the "
        "difference from float32 is measured on the first image and saved",
    )
    how.add_argument(
        "--plain",
        action="store_true",
        help="run the network as published, with no layers merged or reordered: slower, with the same map",
    )
    how.add_argument(
        "--cuda-graphs",
        action="store_true",
        help="on an NVIDIA GPU, record the operations of a map once and replay them for further images of the same "
        "size: less work for the processor, with the same map, but more GPU memory; not yet measured on a GPU",
    )
    files = parser.add_argument_group("files")
    add_output(files, folder="erf")
    add_formats(files)
    add_report(files)
    add_resume(files)
    files.add_argument(
        "--from-npz",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="measure and draw saved results again without a network: .npz files, the .json or a picture next to one,"
        " or a folder",
    )
    files.add_argument(
        "--keep-maps",
        action="store_true",
        help="also keep the map of every single image (NAME.maps.npz, in float16) and draw all of them on one sheet "
        "(NAME.maps.png)",
    )
    files.add_argument(
        "--overlay",
        action="store_true",
        help="also keep these maps and draw each over its photograph, with the unit marked (NAME.overlay.png)",
    )
    files.add_argument(
        "--tex-columns",
        nargs="+",
        default=list(default.tex_columns),
        metavar="MEASURE",
        help="measures in comparison.tex, by their names in the JSON file, such as rms_radius_px or, at a threshold,"
        " area_ratio@0.5, or all for twelve (default: the published and the scale-free area ratio at 50%%, which fit a"
        " column of a paper)",
    )
    _add_drawing(parser.add_argument_group("how it is drawn"), default)
    add_console(parser, script="erf")
    return parser


def _add_drawing(drawn: Any, default: Config) -> None:
    """Add the options of the pictures."""
    drawn.add_argument(
        "--scale",
        choices=SCALES,
        default=default.scale,
        help="colour scale: decades shows four decades below the maximum, published shows log10(score+1)/max "
        "(default: decades)",
    )
    drawn.add_argument(
        "--squares",
        choices=SQUARES,
        default=default.squares,
        help="squares drawn and listed in the pictures: published holds shares of log10(score+1), mass holds shares of "
        "the score itself, which do not depend on the scale of the gradients (default: published)",
    )
    drawn.add_argument(
        "--thresholds",
        nargs="*",
        type=float,
        default=list(default.thresholds),
        metavar="T",
        help="draw and list the squares that hold these shares, such as 0.5 0.99; without numbers, no squares are "
        "drawn (default: 0.2 0.3 0.5 0.99)",
    )
    drawn.add_argument("--cmap", default=default.cmap, metavar="NAME", help="colour map of matplotlib or seaborn")
    drawn.add_argument(
        "--crop",
        default=default.crop,
        metavar="auto|none|PIXELS",
        help="show only the central part of each map, the same for all, with the whole map as an inset: a side in "
        "pixels, none, or auto, which crops where the 99%% square covers less than a quarter of each map "
        "(default: auto)",
    )
    drawn.add_argument(
        "--width",
        default=default.width,
        metavar="column|page|CM",
        help="width of the pictures: column (8.6 cm), page (17.8 cm), or a number of centimetres",
    )
    drawn.add_argument(
        "--columns",
        type=int,
        default=default.columns,
        metavar="N",
        help="number of panels in a row; with --before-after, number of networks side by side",
    )
    drawn.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="NAME=TEXT",
        help="name to show in the pictures instead of a result's own, which is that of its files; the weights are "
        "still named",
    )
    drawn.add_argument(
        "--outlines",
        nargs="+",
        choices=OUTLINES,
        default=list(default.outlines),
        metavar="WHAT",
        help="also draw around the unit: theoretical (the theoretical receptive field, dashed) or gaussian (a dotted"
        " circle whose radius is one standard deviation of the fitted Gaussian)",
    )
    drawn.add_argument("--no-table", action="store_true", help="do not draw the table below the panels of a comparison")
    add_no_caption(drawn)


def parse_config(arguments: Sequence[str]) -> Config:
    """Parse arguments into a configuration. Wrong usage ends the program with exit code 2."""
    parser = build_parser()
    options = read_options(parser, arguments)
    if options["from_npz"]:
        _refuse_with_saved(parser, options)
    options["thresholds"] = tuple(dict.fromkeys(options["thresholds"]))
    options["num_images_said"] = options["num_images"] is not None
    if options["num_images"] is None:
        options["num_images"] = Config.num_images
    if options["num_images"] < 1:
        parser.error(f"--num-images {options['num_images']}: take at least 1")
    if options["images"] is not None and len(options["images"]) == 1:
        (options["images"],) = options["images"]
    try:
        options["labels"] = _read_labels(options["labels"])
        config = Config(**{**options, "position": read_position(options["position"])})
        _ = config.drawing
        if config.before_after and not config.from_npz:
            config = replace(config, weights=_before_after(config.weights))
    except ValueError as error:
        parser.error(str(error))
    if config.until is not None and config.num_images < MIN_IMAGES:
        parser.error(f"--until measures at least {MIN_IMAGES} images; --num-images {config.num_images} allows fewer")
    if config.plain and config.cuda_graphs:
        parser.error("--plain runs the network as it was published; leave out --cuda-graphs")
    if config.console.list_models is None and bool(config.model) == bool(config.from_npz):
        parser.error("give --model NAME [NAME ...], or --from-npz FILE [FILE ...]")
    return config


_MEASURING = (
    *("weights", "images", "num_images", "until", "size", "layer", "layout", "call", "prefix_tokens", "position"),
    *("mean", "std", "seed", "precision", "plain", "cuda_graphs"),
)
"""Options about measuring a network. They are refused together with `--from-npz`, which runs no network."""


def _refuse_with_saved(parser: argparse.ArgumentParser, options: Mapping[str, Any]) -> None:
    """End the program if `--from-npz` is combined with an option that requires running a network."""

    def as_parsed(value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    said = [name for name in _MEASURING if options[name] != as_parsed(parser.get_default(name))]
    if said:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in said)
        parser.error(f"--from-npz measures saved results and runs no network; leave out {names}")


def _size(text: str) -> Size:
    """Parse the value of `--size` for argparse, which reports the error."""
    try:
        return read_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _share(text: str) -> float:
    """Parse the value of `--until` for argparse, which reports the error."""
    try:
        return read_share(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _before_after(weights: tuple[str, ...]) -> tuple[str, ...]:
    """Random weights followed by the requested ones, where 'auto' becomes 'pretrained'.

    Raises: ValueError if random weights were requested already.
    """
    if "random" in weights:
        raise ValueError("--before-after compares trained weights with random ones; leave --weights random out")
    return ("random", *("pretrained" if one == "auto" else one for one in weights))


def _read_labels(pairs: Sequence[str]) -> dict[str, str]:
    """Parse labels of the form NAME=TEXT into a dictionary.

    Raises: ValueError for a label of another form.
    """
    labels = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals and text):
            raise ValueError(f"--labels {pair}: write NAME=TEXT, such as replknet31n='kernels 31 to 7'")
        labels[name] = text
    return labels


def read_position(values: str | Sequence[str | float]) -> str | tuple[float, float]:
    """Parse a position: one word or two numbers.

    Raises: ValueError if it is neither 'centre' nor 'average', nor two fractions of at least 0 and below 1.
    """
    words = [values] if isinstance(values, str) else list(values)
    if words in (["centre"], ["average"]):
        return str(words[0])
    try:
        down, across = map(float, words)
        if 0 <= down < 1 and 0 <= across < 1:
            return (down, across)
    except ValueError:
        pass  # the message below names the valid values
    raise ValueError(
        f"--position {' '.join(map(str, words))}: take centre, average, or two fractions of the image below 1"
    )
