"""Weights that the project trained, as files: float16 safetensors, and beside them what made them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from runkit import atomic_write, save_csv, save_json, sha256_of_file

__all__ = ["Trained", "write_trained"]


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        model: timm name.
        tag: Of the weights.
        top1: Accuracy of the weights as they are in the file, on the validation images, in percent.
        recipe: Fields of `replknet.train.Recipe`.
        data: Classes, numbers of images, SHA-256 of their names.
        log: A row an epoch; accuracy is None where it was not measured.
        run: `runkit.describe_run`, device and threads.
    """

    model: str
    tag: str
    top1: float
    recipe: dict[str, Any]
    data: dict[str, Any]
    log: Sequence[dict[str, float | None]]
    run: dict[str, Any]


def write_trained(folder: Path, trained: Trained, network: nn.Module) -> list[Path]:
    """Write `<model>.<tag>.safetensors`, `.csv` (the learning curve), `.json` and `.md` (the model card).

    Returns: The files.
    """
    stem = folder / f"{trained.model}.{trained.tag}"
    weights, curve, record, card = (
        stem.with_name(f"{stem.name}.{end}") for end in ("safetensors", "csv", "json", "md")
    )
    tensors = {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }
    with atomic_write(weights) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    save_csv(curve, trained.log)
    about = {
        "model": trained.model,
        "tag": trained.tag,
        "top1": round(trained.top1, 2),
        "parameters": sum(p.numel() for p in network.parameters()),
        "file": {"name": weights.name, "sha256": sha256_of_file(weights), "size": weights.stat().st_size},
        "recipe": trained.recipe,
        "data": trained.data,
        "training_seconds": round(sum(row["seconds"] or 0.0 for row in trained.log), 1),
        **trained.run,
    }
    save_json(record, about)
    with atomic_write(card) as temporary:
        temporary.write_text(model_card(about), encoding="utf-8")
    return [weights, curve, record, card]


def model_card(about: dict[str, Any]) -> str:
    """The record for people, as Markdown."""
    data, recipe, versions, file = about["data"], about["recipe"], about["versions"], about["file"]
    side = recipe["test_size"]
    machine = f"{about['threads']} threads, {about['device']}, {about['machine']['processor']}"
    rows = {
        "network": f"`{about['model']}`, {about['parameters'] / 1e6:.2f} M parameters in training form",
        "top-1": f"{about['top1']:.2f}% of {data['val_images']} validation images, central {side}×{side} pixels",
        "file": f"`{file['name']}`, float16, {file['size'] / 1e6:.2f} MB, SHA-256 `{file['sha256']}`",
        "data": f"{data['train_images']} training images; {len(data['classes'])} classes: {', '.join(data['classes'])}",
        "recipe": ", ".join(f"{key} {value}" for key, value in recipe.items()),
        "time": f"{about['training_seconds'] / 60:.0f} minutes; {machine}",
        "made": f"{about['started']}, commit {about['git_commit']}, torch {versions['torch']}, timm {versions['timm']}",
        "command": f"`{about['command']}`",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""# {about["model"]}.{about["tag"]}

| | |
|---|---|
{table}

Made to show what a trained network of this form looks at, not to classify photographs: it knows ten classes, and was
trained at {recipe["size"]} pixels. Taps of its kernels that no training image reached are zero.
"""
