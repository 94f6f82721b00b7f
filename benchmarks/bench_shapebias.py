"""Throughput on the cue-conflict images: this tool against the loop of the model-vs-human toolbox.

Both are given the same network, images and thread count, and take turns. The toolbox's loop is written here after
`modelvshuman/model_evaluator.py`, `datasets/dataloaders.py` and `evaluation/evaluate.py`: batches of 16 from a
DataLoader with 4 workers, its fixed transforms, the network as loaded (contiguous, kernels not merged) under `no_grad`,
softmax, the 16-category mapping over all classes for each batch, and rows appended to a CSV batch by batch.

    python -m benchmarks.bench_shapebias --stimuli cue-conflict --model replknet31b --images 64 --out shapebias.csv
"""

import argparse
import csv
import platform
import statistics
import tempfile
import time
import warnings
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from replknet import load_model, optimize
from replknet.device import choose_device
from replknet.memory import keep_freed_memory
from runkit import atomic_write
from shapebias.categories import CATEGORIES, IMAGENET_INDICES, decide
from shapebias.inference import TOOLBOX_PREPROCESSING, StimulusReader, default_batch_size, predict
from shapebias.observers import write_raw_data
from shapebias.stimuli import Stimuli, read_stimuli

FIELDS = ("model", "provider", "images", "metric", "unit", "median", "p20", "p80", "rounds", "threads", "device")
VERSIONS = ("torch", "timm", "time")


class ToolboxImages(Dataset):
    """Images with their path, decoded and transformed one by one as `ImageFolder` does."""

    def __init__(self, stimuli: Stimuli):
        self.stimuli = stimuli
        self.transform = transforms.Compose(
            [
                transforms.ToTensor(),
                transforms.Normalize(TOOLBOX_PREPROCESSING.mean, TOOLBOX_PREPROCESSING.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.stimuli)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        path = str(self.stimuli[index].path)
        return self.transform(default_loader(path)), path


def run_toolbox_loop(model: nn.Module, stimuli: Stimuli, device: torch.device, folder: Path) -> list[str]:
    """The toolbox's loop; returns the answers."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # four workers, whatever the machine has
    loader = DataLoader(
        ToolboxImages(stimuli), batch_size=16, shuffle=False, num_workers=4, pin_memory=device.type == "cuda"
    )
    answers: list[str] = []
    path = folder / "toolbox.csv"
    with torch.no_grad():
        for images, paths in loader:
            logits = model(images.to(device)).detach().cpu().numpy()
            probabilities = torch.nn.Softmax(dim=1)(torch.Tensor(logits)).numpy()
            scores = np.transpose(
                [np.mean(np.take(probabilities, IMAGENET_INDICES[name], axis=-1), axis=-1) for name in CATEGORIES]
            )
            ranked = np.take(CATEGORIES, np.flip(np.argsort(scores, axis=-1), axis=-1), axis=-1)
            for row, image in zip(ranked, paths, strict=True):
                with path.open("a", encoding="utf-8") as file:
                    parts = image.split("/")
                    csv.writer(file).writerow(
                        ["net", "1", len(answers) + 1, "NaN", row[0], parts[-2], "NaN", parts[-1]]
                    )
                answers.append(str(row[0]))
    path.unlink()
    return answers


def run_this_tool(model: nn.Module, stimuli: Stimuli, device: torch.device, folder: Path) -> list[str]:
    """What `shapebias.run` does between the loaded network and the CSV."""
    probabilities = predict(model, stimuli, device=device, batch_size=default_batch_size(device))
    answers = decide(probabilities)
    write_raw_data(folder / "ours.csv", "net", stimuli, answers)
    return answers


def main() -> int:
    """Measure, print, and write one row a provider."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stimuli", type=Path, required=True, help="the 16 category folders")
    parser.add_argument("--model", default="replknet31b")
    parser.add_argument("--weights", default="random", help="speed does not depend on them (default: random)")
    parser.add_argument("--images", type=int, default=64, help="evenly spaced over the benchmark (default: 64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), nargs="+", default=["float32"])
    parser.add_argument("--out", type=Path, help="CSV; a row with the same key is replaced")
    options = parser.parse_args()

    device = choose_device(options.device)
    everything = read_stimuli(options.stimuli)
    stimuli = everything[:: max(1, len(everything) // options.images)][: options.images]
    if device.type == "cpu":
        keep_freed_memory()  # as the tool does; the toolbox's loop gains by it too
    plain = load_model(options.model, options.weights, input_size=224).model.to(device)
    providers = {"toolbox loop": (run_toolbox_loop, plain)}
    for precision in options.precision:
        fast = optimize(load_model(options.model, options.weights, input_size=224).model)
        providers[f"shapebias {precision}"] = (run_this_tool, fast.to(device, getattr(torch, precision)))
    rates: dict[str, list[float]] = {name: [] for name in providers}
    answers: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for work, model in providers.values():  # warm up, untimed
            work(model, stimuli[:16], device, Path(scratch))
        for number in range(options.rounds):
            for name, (work, model) in providers.items():
                started = time.perf_counter()
                answers[name] = work(model, stimuli, device, Path(scratch))
                rates[name].append(len(stimuli) / (time.perf_counter() - started))
                print(f"round {number + 1}  {name:18s} {rates[name][-1]:8.2f} images/s", flush=True)
    started = time.perf_counter()
    decoded = [StimulusReader().read(stimulus, TOOLBOX_PREPROCESSING) for stimulus in stimuli]
    print(f"decoding alone, one thread: {len(decoded) / (time.perf_counter() - started):.0f} images/s")
    for name in list(providers)[1:]:
        # neighbours in time are compared, so that a machine that is busy now and then does not decide
        ratios = [ours / theirs for ours, theirs in zip(rates[name], rates["toolbox loop"], strict=True)]
        same = sum(a == b for a, b in zip(answers[name], answers["toolbox loop"], strict=True))
        print(
            f"{options.model}, {name}: {statistics.median(ratios):.2f} times the toolbox's loop "
            f"({min(ratios):.2f} to {max(ratios):.2f}); {same} of {len(stimuli)} decisions equal"
        )
    if options.out:
        _write(options, rates, len(stimuli), device)
    return 0


def _write(options: argparse.Namespace, rates: dict[str, list[float]], images: int, device: torch.device) -> None:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    fresh = []
    for provider, values in rates.items():
        low, middle, high = np.percentile(values, [20, 50, 80]).round(3).tolist()
        numbers = (middle, low, high, options.rounds, torch.get_num_threads(), f"{device} {where}")
        versions = (torch.__version__, timm.__version__, datetime.now(timezone.utc).isoformat(timespec="seconds"))
        row = (options.model, provider, images, "throughput", "images/s", *numbers, *versions)
        fresh.append([str(value) for value in row])
    kept: list[list[str]] = []
    if options.out.exists():
        with options.out.open(newline="", encoding="utf-8") as file:
            keys = {(*row[:3], row[10]) for row in fresh}
            kept = [row for row in list(csv.reader(file))[1:] if (*row[:3], row[10]) not in keys]
    with atomic_write(options.out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*FIELDS, *VERSIONS], *kept, *fresh])


if __name__ == "__main__":
    raise SystemExit(main())
