"""A provider of contribution maps, in a process that `bench_erf` starts and that computes a map for each line on stdin.

Each provider has its own process, so that its peak memory can be measured, and one line per map lets providers take
turns.

- `plain`: the steps of the RepLKNet authors' ERF script (`erf/visualize_erf.py`, `get_input_grad`): the network as
  published, neither merged nor folded, in contiguous memory format, with PyTorch's own convolutions and autograd, up to
  the layer that this tool uses.
- `ours`: the steps of `erf.visualize` from the batch to the maps.
- `graphs`: the same with `--cuda-graphs`, on a GPU.
- `released`: the authors' own RepLKNet-31B and function, from a checkout of their repository.
- `openerf`: the package of this name on PyPI, on the network as published. Its map is defined differently: it averages
  the gradient over colours before rectifying it, and normalises.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.turns import serve
from erf.gradient.layers.layer import Layer
from erf.gradient.precision import arithmetic, number_type
from runkit.compute.device import exact_float32

Maps = Callable[[Tensor], np.ndarray]


def plain(model: str, size: int, precision: str, device: str) -> Maps:
    """The steps of the released script on the zoo's network. Maps are summed over the batch, as in the script.

    The feature map is the same as in this tool, so that both solve the same task.
    """
    from erf.gradient.layers.find import is_module_name, resolve
    from replknet import load_model
    from replknet.optimize import use_stock_convolutions

    network = use_stock_convolutions(load_model(model, "random", input_size=size).model)
    network = network.to(device, number_type(precision))
    layer = resolve(network, "last")
    if is_module_name(network, layer):
        features = hooked(network, layer, size)
    else:
        features = lambda x: network.forward_intermediates(x, indices=[-1], intermediates_only=True)[0]  # noqa: E731
    return lambda images: input_gradient(features, images)


class _Reached(BaseException):
    """The hooked layer has run, so that the rest of the network can be skipped."""


def hooked(network: nn.Module, layer: Layer, size: int) -> Callable[[Tensor], Tensor]:
    """Get the output or the input of a submodule as a map (N, C, h, w), by a plain hook.

    Its layout is detected in advance and therefore not included in the time.
    """
    from erf.gradient.layers.find import find_feature_map
    from erf.gradient.layers.layout import Layout

    module = network.get_submodule(layer.module)
    weight = next(network.parameters())
    with torch.no_grad():
        found = find_feature_map(network, torch.zeros(1, 3, size, size).to(weight), layer)
    letters = found.taken.layout or "NCHW"
    grid = tuple(found.values.shape[-2:]) if "L" in letters else None
    layout = Layout(letters, grid, found.taken.prefix_tokens)
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        kept.append(args[0] if output is None else output)
        raise _Reached

    if layer.keys == ("in",):
        module.register_forward_pre_hook(keep)
    else:
        module.register_forward_hook(keep)

    def features(x: Tensor) -> Tensor:
        with suppress(_Reached):
            network(x)
        return layout.to_map(kept.pop())

    return features


def input_gradient(features: Callable[[Tensor], Tensor], images: Tensor) -> np.ndarray:
    """The rectified gradient of the rectified central unit, summed over the batch and the colours."""
    x = images.clone().requires_grad_()
    feat = features(x)
    central = feat[:, :, feat.shape[2] // 2, feat.shape[3] // 2].relu().sum()
    (gradient,) = torch.autograd.grad(central, x)
    return gradient.relu().sum((0, 1)).float().cpu().numpy()


def ours(model: str, size: int, precision: str, device: str, *, cuda_graphs: bool = False) -> Maps:
    """The steps of this tool."""
    from erf.gradient.contribution import contribution_maps
    from erf.gradient.lean.prepare import prepare
    from replknet import load_model

    network = load_model(model, "random", input_size=size).model.to(device, number_type(precision))
    prepared, memory_format = prepare(network, cuda_graphs=cuda_graphs)

    def maps(images: Tensor) -> np.ndarray:
        with arithmetic(precision):
            return contribution_maps(prepared, images.contiguous(memory_format=memory_format)).sum(0).numpy()

    return maps


def released(checkout: Path) -> Maps:
    """The authors' RepLKNet-31B from a checkout of their repository, with the weights that its constructor draws.

    The ResNets of the repository are not included, because they need a torchvision of 2022.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "replknet"]:
        del sys.modules[name]  # their module has the same name as ours
    sys.path.insert(0, str(checkout))
    theirs = ModuleType("erf")  # a folder without __init__, which our package of the same name would hide
    theirs.__path__ = [str(checkout / "erf")]
    sys.modules["erf"] = theirs
    sys.modules["timm.models.layers"] = timm.layers  # the module's name in the timm of 2022
    from erf.replknet_for_erf import RepLKNetForERF

    sizes = dict(large_kernel_sizes=[31, 29, 27, 13], layers=[2, 2, 18, 2], channels=[128, 256, 512, 1024])
    network = RepLKNetForERF(**sizes, small_kernel=5, small_kernel_merged=False)
    network.eval()
    return lambda images: input_gradient(network, images)


def openerf(model: str, size: int, precision: str, device: str) -> Maps:
    """OpenERF's `compute_erf`, which reads its images from a folder; only the first image of a batch is used."""
    from openerf import compute_erf

    from replknet import load_model
    from replknet.optimize import use_stock_convolutions

    network = use_stock_convolutions(load_model(model, "random", input_size=size).model).to(number_type(precision))
    network.pretrained_cfg = {**network.pretrained_cfg, "input_size": (3, size, size), "crop_pct": 1.0}

    def maps(images: Tensor) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            pixels = (images[0].permute(1, 2, 0).sigmoid() * 255).byte().cpu().numpy()
            Image.fromarray(pixels).save(Path(folder) / "image.png")
            return compute_erf(network, image_dir=folder, device=device, show_progress=False).erf_map

    return maps


def main() -> int:
    """For each line on stdin, which names a file, save a map in this file (see `benchmarks.turns.serve`)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("provider", choices=("plain", "ours", "graphs", "released", "openerf"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--released", type=Path)
    options = parser.parse_args()
    if options.provider == "released":
        with redirect_stdout(sys.stderr):  # it prints
            maps = released(options.released)
    else:
        graphs = partial(ours, cuda_graphs=True)
        make = {"plain": plain, "ours": ours, "graphs": graphs, "openerf": openerf}[options.provider]
        maps = make(options.model, options.size, options.precision, options.device)
    shape = (options.batch, 3, options.size, options.size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    images = images.to(options.device, number_type(options.precision))

    with exact_float32():  # also for the others: on a GPU, cuDNN's convolutions use TF32 unless told otherwise
        return serve(lambda file: np.save(file, maps(images)), options.device)


if __name__ == "__main__":
    raise SystemExit(main())
