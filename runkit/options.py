"""Options that all command lines share, defined in one place: as arguments and as fields."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from runkit.console import auto_or_int
from runkit.groups import expand_groups

__all__ = [
    "NOT_RECORDED",
    "PICTURE_FORMATS",
    "REPORT",
    "Console",
    "RunOptions",
    "add_batch_size",
    "add_console",
    "add_device",
    "add_formats",
    "add_no_caption",
    "add_normalisation",
    "add_output",
    "add_report",
    "add_resume",
    "add_seed",
    "add_weights",
    "meant_device",
    "program_name",
    "read_options",
]

PICTURE_FORMATS = ("png", "pdf", "svg")
NOT_RECORDED = {"recorded": False}
"""Metadata of a field of `RunOptions` that `as_dict` leaves out, since it does not determine the results."""
REPORT = "report.html"
"""Name of the page that `--report` writes."""
_Group = argparse.ArgumentParser | argparse._ArgumentGroup


@dataclass(frozen=True)
class Console:
    """What a command prints.

    Attributes:
        json: Whether stdout gets only the summary as JSON, instead of a table.
        quiet: Whether stderr gets only warnings and errors, without progress.
        verbose: Whether stderr gets every step.
        dry_run: Whether to describe the run instead of carrying it out.
        list_models: Pattern of networks to list instead of a run.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    dry_run: bool = False
    list_models: str | None = None

    @classmethod
    def pop_from(cls, options: dict[str, Any]) -> "Console":
        """Remove the options that `add_console` added from parsed options, and return them."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls) if field.name in options})

    @property
    def level(self) -> int:
        """Level of the packages' loggers."""
        return logging.WARNING if self.quiet else logging.DEBUG if self.verbose else logging.INFO


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options that all tools share. The fields are named after the options.

    Attributes:
        model: Names of networks.
        weights: 'auto', 'pretrained', 'random' or a checkpoint's path. Each network is measured with each of them.
        device: 'auto', 'cpu', 'cuda', ...
        batch_size: Images at a time; None for as many as keep the device busy and fit.
        precision: Precision of the network; 'auto' for the faster of float32 and bfloat16 on the device.
        seed: Seed of random weights, at least 0.
        mean, std: Mean and standard deviation of each channel for the normalisation of images; None for those that the
            network states.
        output: Folder. The files of a tool go to a subfolder with its name.
        formats: File formats of the pictures.
        no_caption: Whether to omit the caption that says how a picture was made.
        report: Whether to write the HTML page as well.
        resume: Whether to continue an unfinished run.
        overwrite: Whether to replace existing results.
        arguments: The arguments of the command line, for the provenance.
        console: What the command prints.
    """

    model: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("auto",)
    device: str = "auto"
    batch_size: int | None = None
    precision: str = "float32"
    seed: int = 0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    output: Path = Path("figures")
    formats: tuple[str, ...] = ("png",)
    no_caption: bool = False
    report: bool = False
    resume: bool = False
    overwrite: bool = False
    arguments: tuple[str, ...] = field(default=(), metadata=NOT_RECORDED)
    console: Console = field(default_factory=Console, metadata=NOT_RECORDED)

    @property
    def asked(self) -> list[tuple[str, str]]:
        """All pairs of a network and weights that were requested."""
        return [(name, weights) for name in self.model for weights in self.weights]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the options that determine results and their files, not how the command was called or prints."""
        options = asdict(self)
        return {one.name: _plain(options[one.name]) for one in fields(self) if one.metadata.get("recorded", True)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def read_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """Parse a command line into the fields of a tool's configuration, with lists as tuples.

    An `@GROUP` among the networks is replaced by the networks of the group (`runkit.groups`).

    argparse itself ends the program with exit code 2 on a wrong argument, a negative seed or an unknown group.
    """
    parsed = vars(parser.parse_args(arguments))
    console = Console.pop_from(parsed)
    options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in parsed.items()}
    if options["seed"] < 0:
        parser.error(f"--seed must be at least 0, not {options['seed']}")
    if any(value <= 0 for value in options.get("std") or ()):
        parser.error(f"--std {' '.join(f'{value:g}' for value in options['std'])}: deviations are above 0")
    options["formats"] = tuple(dict.fromkeys(options["formats"]))
    if "model" in options:
        try:
            options["model"] = tuple(expand_groups(options["model"]))
        except ValueError as error:
            parser.error(str(error))
    return {**options, "arguments": tuple(arguments), "console": console}


def program_name(module: str, script: str) -> str:
    """The program as the user called it: a console script, or `python -m module`."""
    return script if Path(sys.argv[0]).stem == script else f"python -m {module}"


def add_weights(group: _Group, *, auto: str, several: bool = False) -> None:
    """`--weights`; `auto` says what the tool does without trained weights, `several` makes the option take a list."""
    group.add_argument(
        "--weights",
        nargs="+" if several else None,
        default=["auto"] if several else "auto",
        metavar="auto|pretrained|random|PATH",
        help=f"auto, pretrained, random or the path of a checkpoint. auto: trained weights; {auto}. random: drawn "
        "from --seed (default: auto)",
    )


def add_seed(group: _Group) -> None:
    """`--seed`."""
    group.add_argument("--seed", type=int, default=0, metavar="N", help="seed of random weights (default: 0)")


def add_normalisation(group: _Group) -> None:
    """`--mean` and `--std`."""
    for name, what in (("mean", "mean"), ("std", "standard deviation")):
        group.add_argument(
            f"--{name}",
            nargs="+",
            type=float,
            metavar="X",
            help=f"{what} for normalising images whose values lie between 0 and 1: one number, or one per channel "
            "(default: the network's own, otherwise ImageNet's)",
        )


def add_device(group: _Group) -> None:
    """`--device`."""
    group.add_argument(
        "--device",
        type=_device,
        default="auto",
        help="auto, cpu, cuda, cuda:1, ... (default: auto, which is cuda if available)",
    )


def _device(text: str) -> str:
    """Check the name of a device as far as possible without torch, and return it.

    Raises: ArgumentTypeError for a common mistake.
    """
    if meant := meant_device(text):
        raise argparse.ArgumentTypeError(f"there is no device {text!r}; did you mean {meant}?")
    return text


def meant_device(name: str) -> str:
    """The intended device for a name that PyTorch does not know: `gpu` is cuda, `GPU:1` is cuda:1; else ""."""
    kind, colon, number = name.strip().lower().partition(":")
    kind = "cuda" if kind in ("gpu", "nvidia") else kind
    meant = f"{kind}{colon}{number}"
    return meant if kind in ("auto", "cpu", "cuda", "mps", "xpu") and meant != name else ""


def add_batch_size(group: _Group, *, auto: str) -> None:
    """`--batch-size`; `auto` says how it is chosen by default."""
    group.add_argument(
        "--batch-size",
        type=auto_or_int,
        metavar="N",
        help=f"number of images processed together, or auto: {auto} (default: auto)",
    )


def add_output(group: _Group, *, folder: str) -> None:
    """`--output`; `folder` is the tool's subfolder."""
    group.add_argument(
        "--output", type=Path, default=Path("figures"), metavar="DIR", help=f"write to DIR/{folder} (default: figures)"
    )


def add_formats(group: _Group) -> None:
    """`--formats`."""
    group.add_argument(
        "--formats",
        nargs="+",
        choices=PICTURE_FORMATS,
        default=["png"],
        help="file formats of the pictures (default: png)",
    )


def add_no_caption(group: _Group) -> None:
    """`--no-caption`."""
    group.add_argument(
        "--no-caption",
        action="store_true",
        help="draw no caption; the JSON file still records how the picture was made",
    )


def add_report(group: _Group) -> None:
    """`--report`."""
    group.add_argument(
        "--report",
        action="store_true",
        help=f"also write {REPORT}, one self-contained page with pictures, tables and how they were made",
    )


def add_resume(group: _Group) -> None:
    """`--resume` and `--overwrite`."""
    group.add_argument("--resume", action="store_true", help="continue an unfinished run")
    group.add_argument("--overwrite", action="store_true", help="replace existing results")


def add_console(parser: argparse.ArgumentParser, *, script: str | None = None) -> None:
    """The options that `Console` holds.

    Args:
        script: Name of the console script of a command that runs networks. Such a command also has `--list-models`,
            `--dry-run` and `--print-completion`.
    """
    group = parser.add_argument_group("console", "Results are printed to stdout, messages and progress to stderr.")
    if script is not None:
        group.add_argument(
            "--list-models",
            nargs="?",
            const="*",
            metavar="PATTERN",
            help="list networks, all or those that match PATTERN (such as 'resnet*'), and where their trained weights "
            "come from, then exit",
        )
        group.add_argument(
            "--dry-run",
            action="store_true",
            help="show what would be computed, from which weights and into which files, with estimates of time and "
            "memory; downloads and writes nothing",
        )
    group.add_argument("--json", action="store_true", help="print the summary as JSON, for scripts")
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="show only warnings and errors, no progress")
    loudness.add_argument("-v", "--verbose", action="store_true", help="show every step")
    if script is not None:
        group.add_argument(
            "--print-completion",
            action=_PrintCompletion,
            nargs=1,
            choices=_SHELLS,
            dest=argparse.SUPPRESS,
            const=script,
            help=f"print the shell completion script of {script!r} and exit; needs the extra 'completion'",
        )


_SHELLS = ("bash", "zsh", "tcsh")


class _PrintCompletion(argparse.Action):
    """Prints a completion script for the named shell, generated by shtab, and ends the program."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            import shtab
        except ImportError:
            parser.error("--print-completion needs shtab: pip install 'replknet-analysis[completion]'")
        completed: Sequence[Any] = parser._actions
        for action in completed:
            if action.metavar == "DIR":
                action.complete = shtab.DIRECTORY
            elif action.metavar in ("FILE", "CSV", "NPZ", "auto|pretrained|random|PATH"):
                action.complete = shtab.FILE
        parser.prog = str(self.const)
        sys.stdout.write(shtab.complete(parser, shell=values[0]) + "\n")
        parser.exit()
