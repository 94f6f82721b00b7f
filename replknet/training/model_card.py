"""Files of trained weights: float16 safetensors, with a record of how they were made and a model card."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from replknet.training.evaluation import accuracy_of
from replknet.training.taps import describe_taps, taps_in_words
from runkit import atomic_write, save_csv, save_json, sha256_of_file

__all__ = ["Trained", "model_card", "write_card", "write_trained"]


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        model: Name of the network in timm.
        tag: Tag of the weights.
        correct: Number of validation images that are classified correctly with the weights as stored in the file.
        recipe: Fields of `replknet.train.Recipe`.
        data: Classes, numbers of images, SHA-256 of the image names.
        log: One row per epoch; the accuracy is None where it was not measured.
        run: Result of `runkit.describe_run`, the device and the number of threads.
    """

    model: str
    tag: str
    correct: int
    recipe: dict[str, Any]
    data: dict[str, Any]
    log: Sequence[dict[str, float | None]]
    run: dict[str, Any]

    @property
    def top1(self) -> float:
        """Accuracy on the validation images, in percent."""
        return 100 * self.correct / self.data["val_images"]


def write_trained(folder: Path, trained: Trained, network: nn.Module) -> list[Path]:
    """Write `<model>.<tag>.safetensors`, `.csv` (the learning curve), `.json` and `.md` (the model card).

    Returns: The paths of the files.
    """
    stem = folder / f"{trained.model}.{trained.tag}"
    weights, curve = (stem.with_name(f"{stem.name}.{end}") for end in ("safetensors", "csv"))
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
        **accuracy_of(trained.correct, trained.data["val_images"]),
        "parameters": sum(p.numel() for p in network.parameters()),
        "file": {"name": weights.name, "sha256": sha256_of_file(weights), "size": weights.stat().st_size},
        "recipe": trained.recipe,
        "data": trained.data,
        "taps": describe_taps(network, trained.recipe["size"]),
        "training_seconds": round(sum(row["seconds"] or 0.0 for row in trained.log), 1),
        **trained.run,
    }
    return [weights, curve, *write_card(stem, about)]


def write_card(stem: Path, about: dict[str, Any]) -> list[Path]:
    """Write the record `<stem>.json` and the model card `<stem>.md`, and return the paths of both."""
    record, card = (stem.with_name(f"{stem.name}.{end}") for end in ("json", "md"))
    save_json(record, about)
    with atomic_write(card) as temporary:
        temporary.write_text(model_card(about), encoding="utf-8")
    return [record, card]


def model_card(about: dict[str, Any]) -> str:
    """Format the record as a Markdown model card."""
    data, recipe, versions, file = about["data"], about["recipe"], about["versions"], about["file"]
    evaluated = about.get("evaluation", {})
    side = evaluated.get("size_px", recipe["test_size"])
    low, high = about["top1_interval"]
    images = evaluated.get("val_images", data["val_images"])
    rows = {
        "network": f"`{about['model']}`, {about['parameters'] / 1e6:.2f} M parameters in training form",
        "top-1": f"{about['top1']:.2f}% [{low:.1f}, {high:.1f}] (95%, Wilson) of {images} validation images, "
        f"central {side}×{side} pixels",
        "file": f"`{file['name']}`, float16, {file['size'] / 1e6:.2f} MB, SHA-256 `{file['sha256']}`",
        "data": f"{data['train_images']} training images; {len(data['classes'])} classes: {', '.join(data['classes'])}",
        "images": _images_in_words(recipe, about.get("note")),
        "taps": taps_in_words(about["taps"]),
        "recipe": ", ".join(f"{key} {value}" for key, value in recipe.items()),
        "time": f"{about['training_seconds'] / 60:.0f} minutes; {_machine(about)}",
        "made": f"{about['started']}, commit {about['git_commit']}, torch {versions['torch']}, timm {versions['timm']}",
        "command": f"`{about['command']}`",
    }
    if evaluated:
        rows["evaluated"] = f"{evaluated['started']}, commit {evaluated['git_commit']}; {_machine(evaluated)}"
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items() if value)
    return f"""# {about["model"]}.{about["tag"]}

| | |
|---|---|
{table}

Made to show what a trained network of this form looks at, not to classify photographs: it knows the classes above
alone, and was trained at {recipe["size"]} pixels. Taps of its kernels that no training image reached are zero.
"""


def _images_in_words(recipe: dict[str, Any], note: str | None) -> str:
    """Describe how the photographs became training images, from the note and the recipe."""
    held = recipe.get("held_size")
    read = f"read as squares of {held}×{held} pixels; a photograph that was none was squashed" if held else ""
    return "; ".join(filter(None, (note, read)))


def _machine(run: dict[str, Any]) -> str:
    return f"{run['threads']} threads, {run['device']}, {run['machine']['processor']}"
