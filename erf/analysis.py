"""Measure a receptive field from Python, in the same steps as on the command line and with bit-identical results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erf.gradient.layers.layer import Layer, as_layer
from erf.options import Config, read_position
from erf.results.files import ErfResult
from erf.sweep import FieldTool
from erf.until import MIN_IMAGES
from runkit import UserError
from runkit.sizes import Size, as_size

if TYPE_CHECKING:  # loads torch
    from torch import nn

__all__ = ["analyze"]


def analyze(
    model: "nn.Module | str",
    images: str | Path | Sequence[str | Path] | None = None,
    *,
    size: Size = 1024,
    layer: str | int | Layer = "last",
    position: str | Sequence[float] = "centre",
    weights: str | Path = "auto",
    num_images: int = 50,
    until: float | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    precision: str = "float32",
    plain: bool = False,
    seed: int = 0,
    keep_maps: bool = False,
    name: str | None = None,
    progress: bool = False,
) -> ErfResult:
    """Measure the effective receptive field of a network, as `python -m erf.visualize` does.

    The defaults are those of the command line, and the results are bit-identical to its results.

    Args:
        model: Any module, or a name as on the command line: a timm name, `torchvision/NAME`, `FILE.py:FACTORY`, ... A
            module is not changed: a copy of it runs in eval mode. Images are normalised by its `pretrained_cfg` or its
            attributes `mean` and `std`, or else by ImageNet's mean and standard deviation.
        images: Folder of images (searched at any depth), text file that lists images, or a list of folders, text files
            and images; None for the photographs that scikit-image ships.
        size: Size in pixels to which the images are resized: a side, or (height, width).
        layer: Feature map: "last", the index of a stage, the name of a module, or a `Layer` with further options.
        position: Position of the unit: "centre", "average", or two fractions of the image (down, across).
        weights: For a name: "auto", "pretrained", "random", or the path of a checkpoint. A module keeps its own.
        num_images: Maximum number of images, spread evenly over the sorted files.
        until: Stop at the first image, from the tenth on, after which the 95% interval of `result.side(0.5)` is
            narrower than this share of the side. Images are then taken in a shuffled order. None measures all images.
        mean, std: Mean and standard deviation for normalising images with values between 0 and 1: one number, or one
            per channel; None for the network's own.
        device: "auto", "cpu", "cuda", ...
        batch_size: Number of images per batch; None for as many as keep the device busy and fit into memory.
        precision: "float32", "float64", "bfloat16"; on CUDA also "float16" and "tf32"; "auto" for bfloat16 where the
            device multiplies faster in it, else float32.
        plain: Whether to run the network unmodified, with no layers merged or reordered.
        seed: Seed of random weights.
        keep_maps: Whether the result keeps the map of every single image in float16, for `erf.draw_sheet`.
        name: Name of the result and its files; None for the name of the model, or of the class of a module.
        progress: Whether to show a progress bar on stderr.

    Returns: The mean map, its measures with their intervals over images, and its provenance. `result.save(path)` saves
        the result, and `result.plot()` draws it.
    Raises: UserError for an input or environment error, which would end the command line with exit code 2; LayerError
        if `layer` does not name a layer.
    """
    options = {key: value for key, value in locals().items() if key in _DEFAULTS}
    from replknet.foreign import resolve_module
    from replknet.zoo import resolve_weights
    from runkit.compute.device import choose_device
    from runkit.compute.rounds import Loop

    if until is not None and not (0 < until < 1 and num_images >= MIN_IMAGES):
        raise UserError(f"until={until}: take a share between 0 and 1, and num_images of {MIN_IMAGES} or more")
    asked = as_layer(layer)
    if asked.name == "all":
        raise UserError("layer 'all' means several maps; analyze each layer separately")
    said = _call_in_words(model, images, options)
    if isinstance(model, str):
        resolved = resolve_weights(model, str(weights), seed=seed)
    else:
        resolved = resolve_module(model, name)
    try:
        where = read_position(position)
    except ValueError as error:
        raise UserError(str(error)) from error
    config = Config(
        model=(resolved.name,),
        weights=(str(weights),),
        images=_paths(images),
        num_images=num_images,
        until=until,
        mean=_per_channel(mean),
        std=_per_channel(std),
        size=(as_size(size),),
        layer=(asked.name,),
        layout=asked.layout,
        call=asked.call,
        prefix_tokens=asked.prefix_tokens,
        position=where,
        device=device,
        batch_size=batch_size,
        precision=precision,
        plain=plain,
        seed=seed,
        keep_maps=keep_maps,
    )
    tool = FieldTool(config, config.folder, command=said)
    chosen = choose_device(device)
    tool.begin(chosen)
    tool.settle_precision(chosen)
    (job,) = tool.jobs_of(str(weights), resolved, name=name)
    network = tool.load_network(job)
    loop = Loop(job.name, batch_size=batch_size, show=progress)
    return tool.conclude(job, network, tool.compute(job, network, loop), loop)


def _paths(images: str | Path | Sequence[str | Path] | None) -> Path | tuple[Path, ...] | None:
    if images is None or isinstance(images, str | Path):
        return None if images is None else Path(images)
    return tuple(map(Path, images))


def _per_channel(values: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    return (float(values),) if isinstance(values, int | float) else tuple(map(float, values))


def _call_in_words(model: "nn.Module | str", images: Any, options: Mapping[str, Any]) -> str:
    """The call as text, for the provenance of its result; options at their defaults are left out."""
    first = repr(model) if isinstance(model, str) else f"<{type(model).__name__}>"
    shown = [f"{key}={options[key]!r}" for key, default in _DEFAULTS.items() if options[key] != default]
    return f"erf.analyze({', '.join([first, *([_images_in_words(images)] if images is not None else []), *shown])})"


def _images_in_words(images: Any) -> str:
    return repr(str(images)) if isinstance(images, str | Path) else repr([str(image) for image in images])


_DEFAULTS: Mapping[str, Any] = analyze.__kwdefaults__ or {}
