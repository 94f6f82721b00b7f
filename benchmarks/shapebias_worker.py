"""A provider of a network's decisions, in a process that `bench_shapebias` starts (see `benchmarks.turns`).

- `toolbox`: the loop of the toolbox model-vs-human, written after its `modelvshuman/model_evaluator.py`,
  `datasets/dataloaders.py` and `evaluation/evaluate.py`. It uses batches of 16 from a DataLoader with 4 workers, the
  toolbox's fixed transforms, and the network as published (contiguous, kernels not merged, PyTorch's own convolutions)
  under `no_grad`. Then follow softmax, the mapping of each batch to 16 categories, and rows appended to a CSV file.
- `ours`: the steps of `shapebias.run` from the loaded network to the CSV file.
"""

import argparse
import csv
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from benchmarks.turns import serve
from replknet import load_model, optimize
from replknet.optimize import use_stock_convolutions
from runkit.compute.device import choose_device
from runkit.compute.memory import keep_freed_memory
from shapebias.answers.decisions import decide
from shapebias.answers.observers import write_raw_data
from shapebias.network.inference import TOOLBOX_PREPROCESSING, StimulusReader, default_batch_size, predict
from shapebias.stimuli.categories import CATEGORIES, IMAGENET_INDICES
from shapebias.stimuli.images import Stimuli, read_stimuli

Decide = Callable[[Stimuli, Path], list[str]]


class ToolboxImages(Dataset):
    """Images with their paths, decoded and transformed one by one as in `ImageFolder`."""

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


def toolbox_loop(model: nn.Module, device: torch.device) -> Decide:
    """The loop of the toolbox."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # four workers on any machine
    model = use_stock_convolutions(model).to(device)

    def answer(stimuli: Stimuli, folder: Path) -> list[str]:
        loader = DataLoader(
            ToolboxImages(stimuli), batch_size=16, shuffle=False, num_workers=4, pin_memory=device.type == "cuda"
        )
        answers: list[str] = []
        for images, paths in loader:
            with torch.no_grad():
                logits = model(images.to(device)).detach().cpu().numpy()
            probabilities = torch.nn.Softmax(dim=1)(torch.Tensor(logits)).numpy()
            scores = np.transpose(
                [np.mean(np.take(probabilities, IMAGENET_INDICES[name], axis=-1), axis=-1) for name in CATEGORIES]
            )
            ranked = np.take(CATEGORIES, np.flip(np.argsort(scores, axis=-1), axis=-1), axis=-1)
            for row, image in zip(ranked, paths, strict=True):
                with (folder / "toolbox.csv").open("a", encoding="utf-8") as file:
                    parts = image.split("/")
                    csv.writer(file).writerow(
                        ["net", "1", len(answers) + 1, "NaN", row[0], parts[-2], "NaN", parts[-1]]
                    )
                answers.append(str(row[0]))
        return answers

    return answer


def this_tool(model: nn.Module, device: torch.device, dtype: torch.dtype) -> Decide:
    """The steps of this tool."""
    if device.type == "cpu":
        keep_freed_memory()
    model = optimize(model).to(device, dtype)

    def answer(stimuli: Stimuli, folder: Path) -> list[str]:
        answers = decide(predict(model, stimuli, device=device, batch_size=default_batch_size(device)))
        write_raw_data(folder / "ours.csv", "net", stimuli, answers)
        return answers

    return answer


def main() -> int:
    """Answer the line 'decide' with the decisions, and 'decode' with the number of images decoded on one thread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("provider", choices=("toolbox", "ours"))
    parser.add_argument("--stimuli", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = choose_device(options.device)
    everything = read_stimuli(options.stimuli)
    stimuli = everything[:: max(1, len(everything) // options.images)][: options.images]
    model = load_model(options.model, options.weights, input_size=224).model
    if options.provider == "toolbox":
        provider = toolbox_loop(model, device)
    else:
        provider = this_tool(model, device, getattr(torch, options.precision))

    def work(line: str) -> int | list[str]:
        if line == "decode":
            return len([StimulusReader().read(stimulus, TOOLBOX_PREPROCESSING) for stimulus in stimuli])
        with tempfile.TemporaryDirectory() as folder:
            return provider(stimuli, Path(folder))

    return serve(work, options.device)


if __name__ == "__main__":
    raise SystemExit(main())
