"""`python -m replknet.train`: train networks on a folder of images, with components of timm and one recipe.

CutMix, the optimiser, the learning rate schedule and the moving average of the weights (EMA) come from timm. The folder
contains `train` and `val` with one folder per class, like torchvision's download of Imagenette. Progress is saved
during a run, and an interrupted run that is continued (`--resume`) ends in exactly the same weights. The parts are in
`replknet.training`.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replknet.training.recipe import PRECISIONS, Recipe
from replknet.weights.imagenette import TAG
from runkit import run_main
from runkit.parser import Parser

if TYPE_CHECKING:
    from replknet.training.data import Folders
    from replknet.training.taps import zero_unseen_taps
    from replknet.training.together import train, train_together
    from replknet.training.training import Training

__all__ = ["Folders", "Recipe", "Training", "build_parser", "main", "train", "train_together", "zero_unseen_taps"]

_ROOMS = {  # public name -> its module in `replknet.training`, which imports PyTorch
    "Folders": "data",
    "Training": "training",
    "train": "together",
    "train_together": "together",
    "zero_unseen_taps": "taps",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"replknet.training.{_ROOMS[name]}"), name)


_HELP = {
    "epochs": "passes over the training images",
    "held_size": "side in pixels to which training images are scaled when they are read",
    "start_size": "side in pixels of the training images in the first epochs",
    "size": "side in pixels of the training images in the last epochs",
    "size_step": "pixels by which the side grows from one stage of the training to the next",
    "test_size": "side in pixels of the images for evaluation",
    "batch_size": "images per step",
    "opt": "optimiser, by its name in timm",
    "lr": "highest learning rate",
    "warmup_epochs": "epochs in which the learning rate rises",
    "weight_decay": "weight decay of the optimiser",
    "label_smoothing": "share of the target that is spread over all classes",
    "min_scale": "smallest share of an image's area that a random crop keeps",
    "cutmix_prob": "share of the images that are mixed with another one by CutMix",
    "ema_decay": "decay of the moving average of the weights, which is evaluated and saved",
    "precision": "number format of the training; auto takes the faster one on the device",
}
"""Maps each field of `Recipe` to the help text of its option."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line; each field of the recipe is an option."""
    parser = Parser(
        prog="python -m replknet.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, nargs="+", metavar="NAME", help="names of timm networks, such as replknet31n"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the folders train and val")
    parser.add_argument(
        "--tag",
        default=TAG,
        help="tag of the weights, part of the file names (default: %(default)s); seeds other than 0 add _seedN",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="folder to write to (default: runs)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that read images (default: 2)")
    parser.add_argument("--eval-every", type=int, default=1, metavar="N", help="evaluate every N epochs (default: 1)")
    parser.add_argument("--resume", action="store_true", help="continue an unfinished run")
    parser.add_argument("--overwrite", action="store_true", help="start an unfinished run again from the beginning")
    recipe = parser.add_argument_group("recipe (use the same for all networks that you compare)")
    for field in fields(Recipe):
        kind = type(field.default)
        choices = PRECISIONS if field.name == "precision" else None
        if field.name == "seed":
            recipe.add_argument(
                "--seed", type=int, nargs="+", default=[field.default], help="one seed or several (default: 0)"
            )
            continue
        recipe.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            choices=choices,
            default=field.default,
            help=f"{_HELP[field.name]} (default: %(default)s)",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `runkit.run_main` for the exit codes."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    options = parser.parse_args(arguments)
    for name, least in (("eval_every", 1), ("workers", 0)):
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, not {getattr(options, name)}")
    try:
        recipes = [
            Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)} | {"seed": seed})
            for seed in dict.fromkeys(options.seed)
        ]
    except ValueError as error:
        parser.error(f"--{error}")

    def work() -> int:
        # PyTorch is imported only here, so that the help and argument errors appear at once
        import replknet.zoo  # noqa: F401  registers the networks
        from replknet.training.data import Folders
        from replknet.training.together import train_together
        from replknet.training.training import Training
        from runkit.compute.device import choose_device
        from runkit.compute.memory import keep_freed_memory

        device = choose_device(options.device)
        if device.type == "cpu":
            keep_freed_memory()
        folders = Folders(options.data, options.workers)
        trainings: list[Training] = []
        for recipe in recipes:
            tag = f"{options.tag}_seed{recipe.seed}" if recipe.seed else options.tag
            for name in dict.fromkeys(options.model):
                place = len(trainings)
                trainings.append(Training(name, folders, recipe, tag=tag, device=device, place=place))
        train_together(
            trainings,
            options.output,
            resume=options.resume,
            overwrite=options.overwrite,
            eval_every=options.eval_every,
            command=arguments,
        )
        return 0

    return run_main(work, program="replknet.train", arguments=arguments)


if __name__ == "__main__":
    raise SystemExit(main())
