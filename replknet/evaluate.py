"""`python -m replknet.evaluate`: evaluate weights that were trained elsewhere, and write their model card.

Each file NAME.TAG.safetensors needs the record NAME.TAG.json and the learning curve NAME.TAG.csv that `replknet.train`
wrote next to it. The weights are not changed. The record and the card NAME.TAG.md are written anew, with the top-1
accuracy on all validation images, its interval, and the number of kernel taps that the training images reached. The
record keeps its information on the training: recipe, commit, machine and time.
"""

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from runkit import UserError, describe_run, load_json, run_main, sha256_of_file, sha256_of_lines
from runkit.parser import Parser

__all__ = ["build_parser", "main"]

_PROGRAM = "replknet.evaluate"
_ENDING = ".safetensors"
_logger = logging.getLogger(_PROGRAM)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = Parser(
        prog=f"python -m {_PROGRAM}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", nargs="+", type=Path, metavar="FILE", help="NAME.TAG.safetensors of replknet.train")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with val, a folder per class")
    parser.add_argument(
        "--test-size",
        type=int,
        metavar="S",
        help="side of the images in pixels (default: the one of the recipe that the record has)",
    )
    parser.add_argument(
        "--note",
        metavar="TEXT",
        help="what the card says about the images, such as 'photographs squashed to squares of 160 pixels'",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="copy the weights there with their card (default: leave them there)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that read images (default: 2)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `runkit.run_main` for the exit codes."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    options = parser.parse_args(arguments)
    for name, least in (("test_size", 1), ("workers", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, not {value}")

    def work() -> int:
        records = [_read_record(path) for path in options.weights]
        for path, record in zip(options.weights, records, strict=True):
            _evaluate(path, record, options, arguments)
        return 0

    return run_main(work, program=_PROGRAM, arguments=arguments)


def _read_record(path: Path) -> dict[str, Any]:
    """Read the record next to a weights file.

    Raises: UserError if the file, its record or its learning curve is missing, or the record belongs to other
        weights.
    """
    if not path.is_file() or path.suffix != _ENDING:
        raise UserError(f"{path} is not a file NAME.TAG{_ENDING}; name weights that replknet.train wrote")
    for beside in (path.with_suffix(".json"), path.with_suffix(".csv")):
        if not beside.is_file():
            raise UserError(f"{beside} is missing; replknet.train writes it next to {path.name}")
    record = load_json(path.with_suffix(".json"))
    if missing := [key for key in ("model", "tag", "recipe", "data", "file", "training_seconds") if key not in record]:
        raise UserError(f"{path.with_suffix('.json')} has no {missing[0]}; it is not a record of replknet.train")
    if sha256_of_file(path) != record["file"]["sha256"]:
        raise UserError(f"{path} is not the file of which {path.with_suffix('.json').name} tells: its SHA-256 differs")
    return record


def _evaluate(path: Path, record: dict[str, Any], options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Evaluate one file and write its card.

    Raises: UserError if the classes of the images are not those of the training.
    """
    # PyTorch is imported only here, so that the help and argument errors appear at once
    import torch

    from replknet.training.data import open_folder
    from replknet.training.evaluation import accuracy_of, count_correct, read_whole
    from replknet.training.model_card import write_card
    from replknet.training.taps import describe_taps
    from replknet.zoo import load_model
    from runkit.compute.device import choose_device, device_label
    from runkit.compute.memory import keep_freed_memory

    device = choose_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    images = open_folder(options.data, "val")
    if images.classes != record["data"]["classes"]:
        raise UserError(f"{options.data / 'val'} has other class folders than those that {path.name} was trained on")
    size = options.test_size or record["recipe"]["test_size"]
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    model = load_model(record["model"], str(path)).model
    taps = describe_taps(model, record["recipe"]["size"])
    model = model.to(device).to(memory_format=torch.channels_last)
    correct = count_correct(model, read_whole(images, size, options.workers), device)
    run = describe_run(program=_PROGRAM, arguments=arguments, started=started, seconds=time.perf_counter() - clock)
    names = [Path(image).name for image, _ in images.samples]
    about = {
        **record,
        **accuracy_of(correct, len(images)),
        "file": {"name": path.name, "sha256": record["file"]["sha256"], "size": path.stat().st_size},
        "taps": taps,
        "evaluation": {
            "size_px": size,
            "correct": correct,
            "val_images": len(images),
            "sha256_of_names": sha256_of_lines(names),
            **run,
            "device": device_label(device),
            "threads": torch.get_num_threads(),
        },
    }
    if options.note:
        about["note"] = options.note
    folder = path.parent if options.output is None else options.output
    if folder.resolve() != path.parent.resolve():
        folder.mkdir(parents=True, exist_ok=True)
        for one in (path, path.with_suffix(".csv")):
            shutil.copy2(one, folder / one.name)
    written = write_card(folder / path.stem, about)
    low, high = about["top1_interval"]
    _logger.info(
        "%s: top-1 %.2f%% [%.1f, %.1f] of %d images; wrote %s",
        path.stem,
        about["top1"],
        low,
        high,
        len(images),
        ", ".join(map(str, written)),
    )


if __name__ == "__main__":
    raise SystemExit(main())
