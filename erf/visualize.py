"""Command line of the receptive-field tool: `python -m erf.visualize --model replknet31b`.

Options, files and exit codes are a contract that people script against; see the README. Torch is loaded only when a
network has to run: help, wrong arguments and drawing from saved results answer at once.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erf.results import ErfResult, check_result, finished_identity, load_result, save_measures, save_result
from erf.sums import stack_sums
from erf.tables import text_table, write_tables
from runkit import (
    UserError,
    auto_or_int,
    describe_run,
    list_differences,
    run_main,
)
from runkit.options import add_formats, add_weights

if TYPE_CHECKING:
    from erf.images import ImageSet
    from replknet.zoo import ResolvedWeights

__all__ = ["Config", "build_parser", "main"]

_EXAMPLES = """examples:
  python -m erf.visualize --model replknet31b resnet101.tv_in1k
      two networks on the bundled photographs at 1024 x 1024 pixels, each drawn and measured, then compared
  python -m erf.visualize --model resnet50 --weights checkpoint.pth --images photos/ --num-images 20 --size 512
      one network with your weights on 20 of your images
"""


@dataclass(frozen=True)
class Config:
    """What the command line asked for; the names are those of the options."""

    model: tuple[str, ...]
    weights: str = "auto"
    images: str | None = None
    num_images: int = 50
    size: int = 1024
    layer: str = "last"
    device: str = "auto"
    batch_size: int | None = None
    precision: str = "float32"
    seed: int = 0
    plain: bool = False
    output: str = "figures"
    formats: tuple[str, ...] = ("png",)
    scale: str = "decades"
    resume: bool = False
    overwrite: bool = False
    from_npz: tuple[str, ...] = ()


def build_parser() -> argparse.ArgumentParser:
    """The parser; its defaults are those of `Config`."""
    parser = argparse.ArgumentParser(
        prog="python -m erf.visualize",
        description="Measure and draw the effective receptive field of networks: how much each input pixel contributes "
        "to the central unit of the last feature map.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Config(model=())
    what = parser.add_argument_group("what is measured")
    what.add_argument("--model", nargs="+", default=[], metavar="NAME", help="networks: timm names, such as resnet101")
    add_weights(what, auto="where there are none, random ones with a warning")
    what.add_argument("--images", metavar="DIR", help="folder of images, any depth (default: bundled photographs)")
    what.add_argument(
        "--num-images", type=int, default=default.num_images, metavar="N", help="at most N images (default 50)"
    )
    what.add_argument(
        "--size", type=int, default=default.size, metavar="S", help="images are resized to S x S pixels (default 1024)"
    )
    what.add_argument(
        "--layer",
        default=default.layer,
        metavar="L",
        help="feature map: last, a stage's position, or a module's name (default last)",
    )
    what.add_argument("--seed", type=int, default=default.seed, metavar="N", help="seed of random weights (default 0)")
    how = parser.add_argument_group("how it is computed")
    how.add_argument("--device", default=default.device, help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    how.add_argument(
        "--batch-size", type=auto_or_int, metavar="N", help="images at a time, or auto (default): chosen by the device"
    )
    how.add_argument(
        "--precision", choices=("float32", "float64"), default=default.precision, help="arithmetic (default float32)"
    )
    how.add_argument(
        "--plain", action="store_true", help="the network as published, nothing merged or reordered: slower, same map"
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--output", default=default.output, metavar="DIR", help="results go to DIR/erf (default figures)"
    )
    add_formats(files)
    files.add_argument(
        "--scale",
        choices=("decades", "published"),
        default=default.scale,
        help="colours: four decades below the maximum, or log10(score+1)/max as published (default decades)",
    )
    files.add_argument("--resume", action="store_true", help="continue an unfinished run")
    files.add_argument("--overwrite", action="store_true", help="replace results that are there")
    files.add_argument(
        "--from-npz", nargs="+", default=[], metavar="FILE", help="measure and draw saved results again, no network"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 2 the user can mend it)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    parsed = vars(parser.parse_args(arguments))
    options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in parsed.items()}
    config = Config(**options)
    if bool(config.model) == bool(config.from_npz):
        parser.error("give --model NAME [NAME ...], or --from-npz FILE [FILE ...]")

    def resume_hint() -> str:
        return " ".join(
            ["python -m erf.visualize", *map(shlex.quote, arguments), *([] if config.resume else ["--resume"])]
        )

    return run_main(lambda: _run(config, arguments), program="erf.visualize", resume_hint=resume_hint)


def _run(config: Config, arguments: Sequence[str]) -> int:
    folder = Path(config.output) / "erf"
    if config.from_npz:
        results = [load_result(path) for path in config.from_npz]
        _refuse_same_stem([result.name for result in results])
        for result in results:
            _write_measures_and_picture(result, folder, config)
    else:
        _refuse_same_stem(config.model)
        results = _measure_models(config, folder, arguments)
    if len(results) > 1:
        _write_comparison(results, folder, config)
    sys.stdout.write(text_table(results) + "\n")
    return 0


def _file_stem(name: str) -> str:
    """Name of a network's files: its own, with what a file system would not take replaced."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)


def _refuse_same_stem(names: Sequence[str]) -> None:
    stems = [_file_stem(name) for name in names]
    if twice := sorted({name for name, stem in zip(names, stems, strict=True) if stems.count(stem) > 1}):
        raise UserError(f"{', '.join(twice)}: named more than once; results of one name share their files")


# --- networks -----------------------------------------------------------------------------------------------------


def _measure_models(config: Config, folder: Path, arguments: Sequence[str]) -> list[ErfResult]:
    """Contribution maps of all networks asked for, computed or, where they are there already, read."""
    from erf.images import find_images
    from replknet.zoo import resolve_weights

    if config.size < 32:
        raise UserError(f"--size {config.size}: feature maps need at least 32 pixels")
    images = find_images(config.images, config.num_images)
    image_sha256 = images.sha256()
    resolved = [resolve_weights(name, config.weights, seed=config.seed) for name in config.model]
    return [_measure_model(config, folder, arguments, weights, images, image_sha256) for weights in resolved]


def _measure_model(
    config: Config,
    folder: Path,
    arguments: Sequence[str],
    weights: "ResolvedWeights",
    images: "ImageSet",
    image_sha256: str,
) -> ErfResult:
    import torch

    from erf.accumulate import Progress, accumulate, load_progress, save_progress
    from replknet.device import choose_device, device_label, exact_float32
    from replknet.optimize import optimize, preferred_memory_format, use_stock_convolutions
    from replknet.zoo import load_model

    name = weights.name
    stem = folder / _file_stem(name)
    npz, partial = stem.with_name(stem.name + ".npz"), stem.with_name(stem.name + ".partial.npz")
    identity = _identity(config, weights, image_sha256, len(images.paths))
    if not config.overwrite and (finished := finished_identity(stem)) is not None:
        if differences := list_differences(finished, identity):
            raise UserError(
                f"{npz} is of another configuration ({'; '.join(differences)}); use --overwrite or another --output"
            )
        sys.stderr.write(f"erf.visualize: {npz} is finished already and is kept; --overwrite computes it again\n")
        result = load_result(npz)
        _write_measures_and_picture(result, folder, config)
        return result
    progress: Progress | None = None
    if partial.exists() and not config.overwrite:
        if not config.resume:
            raise UserError(f"{partial} holds an unfinished run; --resume continues it, --overwrite starts again")
        progress = load_progress(partial, identity)
        sys.stderr.write(f"erf.visualize: {name}: going on after image {progress.done} of {len(images.paths)}\n")

    started = datetime.now(timezone.utc)
    loaded = load_model(weights, input_size=config.size)
    device, dtype = choose_device(config.device), getattr(torch, config.precision)
    model = loaded.model.to(device=device, dtype=dtype)
    model = use_stock_convolutions(model) if config.plain else optimize(model)
    with exact_float32():
        progress = accumulate(
            model,
            images,
            loaded.preprocessing,
            size=(config.size, config.size),
            layer=config.layer,
            device=device,
            dtype=dtype,
            memory_format=torch.contiguous_format if config.plain else preferred_memory_format(model),
            batch_size=config.batch_size or (8 if device.type == "cuda" else 1),
            progress=progress,
            save=lambda state: save_progress(state, partial, identity),
            label=name,
        )
    if not progress.sums:
        partial.unlink(missing_ok=True)
        reasons = "; ".join(f"{entry['image']}: {entry['reason']}" for entry in progress.skipped[:3])
        raise UserError(f"{name}: no image could be used ({reasons})")
    provenance = {
        **describe_run(program="erf.visualize", arguments=arguments, started=started, seconds=progress.seconds),
        "config": asdict(config),
        "identity": identity,
        "seed": config.seed,
        "device": device_label(device),
        "precision": config.precision,
        "plain": config.plain,
        "layer": config.layer,
        "weights": loaded.record.as_dict(),
        "model_args": loaded.model_args,
        "data": {
            "name": images.name,
            "images_found": images.found,
            "images_chosen": len(images.paths),
            "images_used": len(progress.sums),
            "sha256": image_sha256,
            "size_px": [config.size, config.size],
            "mean": loaded.preprocessing.mean,
            "std": loaded.preprocessing.std,
            "interpolation": "bicubic",
        },
        "skipped": list(progress.skipped),
        "unit": _unit(progress.feature_size, config.size),
    }
    mean = progress.total / len(progress.sums)
    result = ErfResult(name, mean, provenance, stack_sums(progress.sums), progress.names)
    check_result(result)
    save_result(result, npz)
    _write_measures_and_picture(result, folder, config)
    partial.unlink(missing_ok=True)
    return result


def _identity(config: Config, weights: "ResolvedWeights", image_sha256: str, num_images: int) -> dict[str, Any]:
    """What decides a result, and so whether a file is of the same configuration: device and batch size do not."""
    return {
        "model": weights.name,
        "weights": weights.record.identity,
        "images": image_sha256,
        "num_images": num_images,
        "size": config.size,
        "layer": config.layer,
        "precision": config.precision,
        "plain": config.plain,
    }


def _unit(feature_size: tuple[int, int] | None, size: int) -> dict[str, Any]:
    """Which unit was taken, and which pixels it lies over; in a map of odd size these lie round the image's centre."""
    if feature_size is None:
        raise AssertionError("a run that used an image knows its feature map")
    index = [side // 2 for side in feature_size]
    covers = [[i * size // side, (i + 1) * size // side - 1] for i, side in zip(index, feature_size, strict=True)]
    odd = any(side % 2 for side in feature_size)
    where = "the middle unit" if odd else "the unit right below the middle"
    return {
        "feature_map": list(feature_size),
        "index": index,
        "covers_px": covers,
        "note": f"{where} of the feature map; squares are centred on pixel {[size // 2] * 2} of the input",
    }


# --- files and table ----------------------------------------------------------------------------------------------


def _write_measures_and_picture(result: ErfResult, folder: Path, config: Config) -> None:
    from erf.plots import plot_result, save_figure

    stem = folder / _file_stem(result.name)
    save_measures(result, stem.with_name(stem.name + ".json"))
    save_figure(plot_result(result, scale=config.scale), stem, config.formats, description=result.provenance["command"])


def _write_comparison(results: Sequence[ErfResult], folder: Path, config: Config) -> None:
    from erf.curves import plot_curves
    from erf.plots import plot_comparison, save_figure

    write_tables(results, folder / "comparison")
    description = " | ".join(dict.fromkeys(result.provenance["command"] for result in results))
    figures = {"comparison": plot_comparison(results, scale=config.scale), "comparison-curves": plot_curves(results)}
    for name, figure in figures.items():
        save_figure(figure, folder / name, config.formats, description=description)


if __name__ == "__main__":
    raise SystemExit(main())
