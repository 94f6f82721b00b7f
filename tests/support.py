"""Helpers that test files import."""

import importlib.util
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch

from shapebias.stimuli.experiments import EXPERIMENTS

ROOT = Path(__file__).resolve().parent.parent


def load_script(name: str) -> ModuleType:
    """Import a file in `scripts/`, which is not a package, and return the module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Function(torch.nn.Module):
    """A module that applies a function."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def randomize_norms(model: torch.nn.Module) -> torch.nn.Module:
    """Give every batch normalisation statistics and weights as after training, so that folding has an effect."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            if module.track_running_stats:
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
            if not module.affine:
                continue
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return model


@contextmanager
def tenth_of_the_images() -> Iterator[None]:
    """Reduce experiments with 80 images of each category to eight in this context, to shorten runs."""
    large = [experiment for experiment in EXPERIMENTS.values() if experiment.images_per_category == 80]
    for experiment in large:
        object.__setattr__(experiment, "images_per_category", 8)
    try:
        yield
    finally:
        for experiment in large:
            object.__setattr__(experiment, "images_per_category", 80)


def fits(expected: str, text: str) -> bool:
    """Whether `text` matches `expected`, where "…" stands for anything within a line."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), text) is not None


def spoil(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Damage `content` in `count` ways: truncate it, flip bits, replace bytes, or remove, insert or zero a part."""
    rng = random.Random(seed)
    for _ in range(count):
        spoilt = bytearray(content)
        start = rng.randrange(len(spoilt))
        end = min(len(spoilt), start + rng.randrange(1, 40))
        way = rng.choice(["cut", "flip", "flip", "replace", "replace", "remove", "insert", "zero"])
        if way == "cut":
            del spoilt[start:]
        elif way == "flip":
            spoilt[start] ^= 1 << rng.randrange(8)
        elif way == "replace":
            for _ in range(rng.randrange(1, 4)):
                spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        elif way == "remove":
            del spoilt[start:end]
        elif way == "insert":
            spoilt[start:start] = rng.randbytes(end - start)
        else:
            spoilt[start:end] = bytes(end - start)
        yield bytes(spoilt)
