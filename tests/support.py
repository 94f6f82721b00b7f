"""Helpers that test files import."""

from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


def randomize_norms(model: torch.nn.Module) -> torch.nn.Module:
    """Give every batch normalisation statistics and weights as after training, so that folding has something to do."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return model
