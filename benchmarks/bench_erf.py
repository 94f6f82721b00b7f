"""Measure time and memory of contribution maps, as keyed CSV rows: comparison with other implementations, and growth.

Experiments: `compare` runs each network by every provider, as described in `benchmarks.erf_worker`. `growth` measures
this tool against image size, batch size, number of images and network size.

Method: each provider is a separate process. After an untimed map, they take turns, one measurement per round. A row
holds the median and the 20th and 80th percentile of the seconds, and of the speed-up over `plain` in the same round. It
also holds the peak memory (resident memory of the process, or PyTorch's memory on CUDA) and the relative L2 difference
from the plain map. A rerun replaces the rows of the same key.

    python -m benchmarks.bench_erf --out benchmarks/results/erf.csv
    python -m benchmarks.bench_erf --out erf.csv --experiment compare --model replknet31b --released RepLKNet-pytorch
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from timm import create_model
from timm.models import resolve_model_input_args
from torch.utils.flop_counter import FlopCounterMode

import replknet  # noqa: F401  registers the networks
from benchmarks.table import SHARES, VERSIONS, describe_versions, device_name, merge_rows, percentile
from benchmarks.turns import Worker, take_turns

MODELS = ("replknet31b", "resnet101.tv_in1k", "resnet152.tv_in1k")
TRANSFORMERS = ("swin_base_patch4_window7_224.ms_in1k", "vit_base_patch16_224.augreg_in1k")
KEY = ("experiment", "model", "provider", "precision", "size_px", "batch", "images", "device")
TIMES = ("time_s", "low_s", "high_s", "ratio", "ratio_low", "ratio_high")
FIELDS = (*KEY, *TIMES, "peak_gb", "difference", "gflop", "rounds", *VERSIONS)


_OURS = ("ours", "graphs")
"""Providers that are this tool, in the requested precision."""


@dataclass(frozen=True)
class Case:
    """A network, the side of the images in pixels, the batch size, the number of images, and the providers."""

    experiment: str
    model: str
    size_px: int
    batch: int = 1
    images: int = 1
    precision: str = "float32"
    providers: tuple[str, ...] = ("ours",)


def provider_command(provider: str, case: Case, options: argparse.Namespace) -> list[str]:
    """The arguments of Python that start a provider for a case."""
    precision = case.precision if provider in _OURS else "float32"
    command = ["-m", "benchmarks.erf_worker", provider, "--model", case.model, "--size", str(case.size_px)]
    command += ["--batch", str(case.batch), "--precision", precision, "--device", options.device]
    return command + (["--released", str(options.released)] if provider == "released" else [])


def cases(experiment: str, options: argparse.Namespace) -> Iterator[Case]:
    """The cases of an experiment."""
    if experiment == "compare":
        for model in options.model or (*MODELS, *TRANSFORMERS):
            providers = ["plain", "ours", *(["graphs"] if options.device.startswith("cuda") else [])]
            if options.released and model == "replknet31b":
                providers.append("released")
            if options.openerf:
                providers.append("openerf")
            yield Case(experiment, model, options.size, precision=options.precision, providers=tuple(providers))
        return
    for side in (256, 512, 1024, 2048):
        for model in ("replknet31b", "resnet101.tv_in1k"):
            yield Case("growth-size", model, side)
    for batch in (1, 2, 4, 8):
        yield Case("growth-batch", "replknet31b", 256, batch=batch, images=batch)
    for images in (1, 2, 4, 8):
        yield Case("growth-images", "replknet31b", 256, images=images)
    for model in ("replknet3", "replknet13", "replknet31b", "replknet31l", "replknetxl"):
        yield Case("growth-network", model, 512)


def measure(case: Case, options: argparse.Namespace) -> list[dict[str, str]]:
    """Measure the rows of a case, one for each provider."""
    with tempfile.TemporaryDirectory() as scratch:
        files = {provider: Path(scratch) / f"{provider}.npy" for provider in case.providers}
        workers = {provider: Worker(provider_command(provider, case, options)) for provider in case.providers}
        for provider, worker in workers.items():
            for _ in range(2 if provider == "graphs" else 1):  # the second map is recorded, and all others are replayed
                worker.ask(str(files[provider]), timed=False)

        def all_images(provider: str, worker: Worker) -> None:
            before = len(worker.seconds)
            for _ in range(case.images // case.batch):
                worker.ask(str(files[provider]))
            worker.seconds[before:] = [sum(worker.seconds[before:])]

        take_turns(workers, all_images, rounds=options.rounds, limit_s=options.seconds)
        for worker in workers.values():
            worker.close()
        maps = {provider: np.load(file).astype(float) for provider, file in files.items()}
    seconds = {provider: worker.seconds for provider, worker in workers.items()}
    peaks = {provider: f"{worker.peak_bytes / 1e9:.3g}" for provider, worker in workers.items()}
    return [as_row(case, name, seconds, maps, options.device) | {"peak_gb": peaks[name]} for name in workers]


def as_row(
    case: Case, provider: str, times: Mapping[str, Sequence[float]], maps: Mapping[str, np.ndarray], device: str
) -> dict[str, str]:
    """Build the row of one provider, without its memory, from the seconds and the maps of all providers."""
    seconds = times[provider]
    ratios: Sequence[float] = ()
    if "plain" in times:
        ratios = [a / b for a, b in zip(times["plain"], seconds, strict=True)]
    difference = ""
    if "plain" in maps and provider in _OURS:  # the released network has other weights
        difference = f"{np.linalg.norm(maps[provider] - maps['plain']) / np.linalg.norm(maps['plain']):.2e}"
    numbers = [f"{percentile(values, share):.4g}" if values else "" for values in (seconds, ratios) for share in SHARES]
    return {
        "experiment": case.experiment,
        "model": case.model,
        "provider": provider,
        "precision": case.precision if provider in _OURS else "float32",
        "size_px": str(case.size_px),
        "batch": str(case.batch),
        "images": str(case.images),
        "device": device_name(device),
        **dict(zip(TIMES, numbers, strict=True)),
        "difference": difference,
        "gflop": f"{gflop(case):.4g}",
        "rounds": str(len(seconds)),
        **describe_versions(device),
    }


def gflop(case: Case) -> float:
    """Nominal GFLOP of complete forward passes for all images, counted on a network without data."""
    with torch.device("meta"):
        model = create_model(**resolve_model_input_args(case.model.partition(".")[0], dict(img_size=case.size_px)))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(torch.empty(1, 3, case.size_px, case.size_px))
    return 1e-9 * case.images * counter.get_total_flops()


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV file; rows of the same key are replaced")
    parser.add_argument("--experiment", choices=("compare", "growth"), nargs="+", default=["compare", "growth"])
    parser.add_argument("--model", nargs="+", help="networks of `compare` (default: five)")
    parser.add_argument("--size", type=int, default=1024, help="side of the images of `compare`, in pixels")
    parser.add_argument("--precision", default="float32", help="of this tool in `compare`; the others stay at float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--released", type=Path, help="checkout of DingXiaoH/RepLKNet-pytorch, for rows of its script")
    parser.add_argument("--openerf", action="store_true", help="rows for OpenERF: pip install openerf")
    parser.add_argument("--only", nargs="+", help="growth: only these kinds, such as growth-size")
    parser.add_argument("--rounds", type=int, default=5, help="maps a row")
    parser.add_argument("--seconds", type=float, default=120.0, help="time a case at most, after three rounds")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the rows, with a line on stderr for each."""
    options = build_parser().parse_args(argv)
    for experiment in options.experiment:
        for case in cases(experiment, options):
            if options.only and case.experiment not in options.only:
                continue
            rows = measure(case, options)
            merge_rows(options.out, rows, key=KEY, fields=FIELDS)
            for row in rows:
                shown = {name: row[name] for name in ("time_s", "ratio", "peak_gb", "difference") if row[name]}
                sys.stderr.write(f"{case.experiment} {case.model} {case.size_px} px, {row['provider']}: {shown}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
