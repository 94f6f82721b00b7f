"""Run all checks and measurements on a GPU, one step after the other.

The checks come first: tests, a memory checker, runs under torchrun and with kill and resume compared with a plain run,
and a run without enough memory. The measurements follow.
Each step is a process with a time limit. Its output goes to a file of its name, and `steps.csv` records how it ended. A
step that fails or runs out of time does not stop the others. Rows are added to copies of the tables in
`benchmarks/results`, so an interrupted command leaves complete tables, and repeating it replaces its own rows.

    python -m benchmarks.on_gpu --out /tmp/gpu --stimuli cue-conflict --images photographs
    python -m benchmarks.on_gpu --out /tmp/trial --stimuli cue-conflict --images photographs --trial   # small, on a CPU
"""

import argparse
import csv
import logging
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
TABLES = ("depthwise.csv", "erf.csv", "shapebias.csv", "share.csv")
FAMILIES = ("resnet152.tv_in1k", "swin_base_patch4_window7_224.ms_in1k", "convnext_base.fb_in1k")


@dataclass(frozen=True)
class Step:
    """One process: its name, its arguments of Python, and its time limit in seconds."""

    name: str
    arguments: tuple[str, ...]
    limit_s: float


def checks(options: argparse.Namespace) -> Iterator[Step]:
    """The checks that precede the measurements."""
    device = "cpu" if options.trial else "cuda"
    tests = (
        "tests/replknet/ops/test_on_a_gpu.py",
        "tests/runkit/compute/test_precision_choice.py",
        "tests/erf/gradient/test_graphs.py",
    )
    yield Step("tests", ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not sweep", *tests), 240)
    if not options.trial:
        one = "tests/replknet/ops/test_on_a_gpu.py::test_views_that_are_not_contiguous"
        under = (
            "-m",
            "benchmarks.on_gpu",
            "sanitize",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "gpu",
            one,
        )
        yield Step("sanitizer", under, 120)
    run = ("-m", "erf.visualize", "--model", "replknet31n", "--size", "96" if options.trial else "1024")
    run += ("--images", str(options.images), "--num-images", "50", "--batch-size", "1", "--device", device)
    yield Step("alone", (*run, "--overwrite", "--output", str(options.out / "alone")), 90)
    ranks = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")
    yield Step("torchrun", (*ranks, *run, "--overwrite", "--output", str(options.out / "torchrun")), 90)
    this = ("-m", "benchmarks.on_gpu")
    yield Step("killed", (*this, "killed", *run, "--output", str(options.out / "killed")), 120)
    for other in ("torchrun", "killed"):
        yield Step(f"compare-{other}", (*this, "same", *(str(options.out / name) for name in ("alone", other))), 30)
    if not options.trial:
        many = ("--model", "replknet31b", "--weights", "random", "--num-images", "8", "--batch-size", "8")
        many += ("--images", str(options.images), "--overwrite", "--output", str(options.out / "crowded"))
        yield Step("out-of-memory", (*this, "crowded", "5", *many), 90)


def measurements(options: argparse.Namespace) -> Iterator[Step]:
    """The measurements, the most important ones first."""
    device = "cpu" if options.trial else "cuda"
    tables = {name: ("--out", str(options.out / name), "--device", device) for name in TABLES}
    yield from _maps(options, tables["erf.csv"], device)
    share = ("-m", "benchmarks.share", *tables["share.csv"])
    if options.trial:
        yield Step("share", (*share, "--model", "replknet31n", "--batch", "2", "--size", "64", "--rounds", "2"), 60)
    else:
        yield Step("share", (*share, "--precision", "float32", "bfloat16", "float16"), 60)
    shapes = ("-m", "benchmarks.bench_shapebias", *tables["shapebias.csv"], "--stimuli", str(options.stimuli))
    many = ("--images", "1280", "--precision", "float32", "bfloat16", "float16")
    small = ("--model", "mobilenetv3_small_050", "--images", "16", "--rounds", "2", "--precision", "float32")
    yield Step("shapebias", (*shapes, *(small if options.trial else many)), 150)
    yield from _depthwise(options, tables["depthwise.csv"])
    if options.imagenette:
        yield _training(options, device)


def _training(options: argparse.Namespace, device: str) -> Step:
    """Further trainings of the networks with the largest and the smallest kernels, all in one process.

    Several processes would share the GPU in turns, which is slower for each of them.
    """
    train = ("-m", "replknet.train", "--data", str(options.imagenette), "--output", str(options.out / "training"))
    train += ("--device", device, "--precision", "float32", "--resume")
    if options.trial:
        sizes = ("--start-size", "32", "--size", "32", "--test-size", "32")
        return Step("training", (*train, "--model", "replknet3n", "--epochs", "1", *sizes), 300)
    return Step("training", (*train, "--model", "replknet31n", "replknet3n", "--seed", "1", "2"), 400)


def _maps(options: argparse.Namespace, table: tuple[str, ...], device: str) -> Iterator[Step]:
    visualize = ("-m", "erf.visualize", "--device", device, "--images", str(options.images), "--overwrite")
    compare = ("-m", "benchmarks.bench_erf", *table, "--experiment", "compare")
    if options.trial:
        small = ("--model", "replknet31n", "--size", "96", "--output", str(options.out / "fifty"), "--num-images", "4")
        yield Step("fifty-maps", (*visualize, *small), 90)
        yield Step("erf-float32", (*compare, "--model", "replknet31n", "--size", "96", "--rounds", "3"), 90)
        return
    large = (
        "--model",
        "replknet31b",
        "--weights",
        "random",
        "--num-images",
        "50",
        "--output",
        str(options.out / "fifty"),
    )
    yield Step("fifty-maps", (*visualize, *large), 90)
    for precision in ("float32", "tf32", "bfloat16", "float16"):
        yield Step(f"erf-{precision}", (*compare, "--model", "replknet31b", "--precision", precision), 60)
    yield Step("erf-families", (*compare, "--openerf", "--model", *FAMILIES, "--seconds", "20"), 120)
    vit = ("--openerf", "--model", "vit_base_patch16_224.augreg_in1k", "--size", "512")
    yield Step("erf-vit", (*compare, *vit, "--seconds", "20"), 60)


def _depthwise(options: argparse.Namespace, table: tuple[str, ...]) -> Iterator[Step]:
    bench = ("-m", "benchmarks.bench_depthwise", *table)
    if options.trial:
        yield Step("depthwise", (*bench, "--experiment", "training", "--side", "3", "--rounds", "2"), 60)
        return
    bench += ("--rounds", "12", "--seconds", "0.03", "--patience", "0.2")
    for dtype in ("float32", "bfloat16", "float16"):
        yield Step(f"depthwise-{dtype}", (*bench, "--dtype", dtype, "--experiment", "peak", "stages"), 60)
    yield Step("depthwise-tf32", (*bench, "--tf32", "--experiment", "peak", "stages"), 60)
    yield Step("depthwise-training", (*bench, "--experiment", "training"), 30)
    yield Step("depthwise-table1", (*bench, "--experiment", "table1", "--mode", "forward"), 120)


def run(step: Step, folder: Path, limit_s: float) -> dict[str, str]:
    """Run a step with its output in a file, and return its row of `steps.csv`."""
    begin = time.monotonic()
    with (folder / f"{step.name}.txt").open("w", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                [sys.executable, *step.arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=min(step.limit_s, limit_s),
            )
            ended = "done" if done.returncode == 0 else f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            ended = "out of time"
    return {"step": step.name, "ended": ended, "seconds": f"{time.monotonic() - begin:.1f}"}


def same_maps(one: Path, other: Path) -> int:
    """Compare the maps of two folders of results. Returns exit code 0 if they are bit-identical, else 1."""
    import numpy as np

    files = sorted(path.relative_to(one) for path in one.rglob("*.npz"))
    for file in files:
        with np.load(one / file) as first, np.load(other / file) as second:
            if not np.array_equal(first["contribution"], second["contribution"]):
                sys.stdout.write(f"{file}: the maps differ\n")
                return 1
    sys.stdout.write(f"{len(files)} maps are equal to the bit\n")
    return 0 if files else 1


def sanitize(arguments: Sequence[str]) -> int:
    """Run Python with these arguments under NVIDIA's memory checker, and return the exit code."""
    checker = shutil.which("compute-sanitizer")
    if checker is None:
        raise SystemExit("compute-sanitizer is not installed; it comes with the CUDA toolkit")
    return subprocess.run([checker, "--error-exitcode", "9", sys.executable, *arguments], check=False).returncode


def killed(arguments: Sequence[str]) -> int:
    """Run Python with these arguments, kill it once it has saved its progress, and run it again with --resume."""
    folder = Path(arguments[arguments.index("--output") + 1])
    shutil.rmtree(folder, ignore_errors=True)
    first = subprocess.Popen([sys.executable, *arguments])
    while first.poll() is None and not any(folder.rglob("*.partial.npz")):
        time.sleep(0.005)
    first.kill()
    if first.wait() != -signal.SIGKILL:
        sys.stdout.write("the run ended before its progress was seen\n")
        return 1
    return subprocess.run([sys.executable, *arguments, "--resume"], check=False).returncode


def crowded(left_gb: float, arguments: Sequence[str]) -> int:
    """Run `erf.visualize` on a GPU on which other tensors leave only `left_gb` GB of memory.

    Returns: Its exit code, or 1 if it succeeded without ever running out of memory.
    """
    import torch

    import erf.visualize

    halved: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            halved.append(record.getMessage())

    logging.getLogger("runkit.compute.memory").addHandler(Listener())
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(free - round(1e9 * left_gb), dtype=torch.uint8, device="cuda")
    code = erf.visualize.main(list(arguments))
    sys.stdout.write("\n".join([f"{held.numel() / 1e9:.1f} GB were held by others", *halved, ""]))
    return code or (0 if any("out of memory" in one for one in halved) else 1)


_SUBCOMMANDS: dict[str, Callable[[list[str]], int]] = {
    "same": lambda arguments: same_maps(*map(Path, arguments)),
    "sanitize": sanitize,
    "killed": killed,
    "crowded": lambda arguments: crowded(float(arguments[0]), arguments[1:]),
}
"""Parts of some steps, each of which is a process of its own."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for tables, results and what the steps print")
    parser.add_argument(
        "--stimuli", type=Path, required=True, help="the 16 category folders of the cue-conflict images"
    )
    parser.add_argument("--images", type=Path, required=True, help="photographs for the maps, at least 50")
    parser.add_argument("--imagenette", type=Path, help="its folder with train and val, for trainings; else left out")
    parser.add_argument("--only", nargs="+", help="names of steps, as in steps.csv")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time in all")
    parser.add_argument("--trial", action="store_true", help="run every kind of step on a CPU, as small as possible")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps, or the subcommand that a step calls. Returns exit code 0 if all of them succeeded."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in _SUBCOMMANDS:
        return _SUBCOMMANDS[argv[0]](argv[1:])
    options = build_parser().parse_args(argv)
    options.out, options.stimuli, options.images = (
        path.resolve() for path in (options.out, options.stimuli, options.images)
    )
    options.imagenette = options.imagenette and options.imagenette.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        if (RESULTS / name).exists() and not (options.out / name).exists():
            shutil.copy(RESULTS / name, options.out / name)
    begin = time.monotonic()
    rows = []
    for step in (*checks(options), *measurements(options)):
        if options.only and step.name not in options.only:
            continue
        left = options.seconds - (time.monotonic() - begin)
        rows.append(
            run(step, options.out, left) if left > 0 else {"step": step.name, "ended": "no time", "seconds": "0"}
        )
        sys.stderr.write(f"{rows[-1]['step']}: {rows[-1]['ended']} after {rows[-1]['seconds']} s\n")
        with (options.out / "steps.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ("step", "ended", "seconds"), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0 if all(row["ended"] == "done" for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
