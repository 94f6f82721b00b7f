"""Find the feature map that a layer names."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from erf.gradient.fields.calls import PRODUCT
from erf.gradient.fields.field import NO_BOUND, UNKNOWN
from erf.gradient.fields.follow import DataDependent, field_of, follow, is_following
from erf.gradient.layers.capture import capture, eager, find_module, select, some_names, unwrapped
from erf.gradient.layers.known import known_of
from erf.gradient.layers.last import last_layer, last_note
from erf.gradient.layers.layer import (
    ForwardError,
    Layer,
    LayerError,
    LayoutError,
    NotDifferentiable,
    TakenLayer,
    as_layer,
)
from erf.gradient.layers.layout import (
    SPATIAL_MODULES,
    Layout,
    agrees,
    how_to_say,
    layout_asked_for,
    layout_of_axes,
    layout_of_one_unit,
)
from erf.gradient.layers.probe import growing_dimensions, layout_by_resizing, probed_layouts
from runkit.compute.memory import is_out_of_memory
from runkit.plugins import OWN_CODE_ERRORS, words_of

__all__ = [
    "FeatureMap",
    "feature_map",
    "find_feature_map",
    "image_channels",
    "is_module_name",
    "output_of_layer",
    "resolve",
    "tell_layout",
]

_OF_TIMM = ("timm.", "replknet.")  # modules whose `forward_intermediates` returns exactly the maps requested


class FeatureMap(NamedTuple):
    """A feature map (N, C, h, w), and a description of where it was taken."""

    values: torch.Tensor
    taken: TakenLayer


def feature_map(model: nn.Module, x: torch.Tensor, *, layer: str | int | Layer = "last") -> torch.Tensor:
    """One feature map of a network.

    Args:
        model: A network of timm, or any module. Wrappers of `torch.compile` and DataParallel are removed first.
        x: Normalised images (N, C, H, W).
        layer: 'last' for the last feature map before any final normalisation and pooling (for a module that is not a
            timm network: its output); an index, as in timm's `forward_intermediates`, where negative ones count from
            the end; the name of a submodule, such as 'stages.2'; or a `Layer` with further options.

    Returns: (N, C, h, w). The layout of a submodule's output is detected: tokens are arranged as a map, without class
        tokens and the like.
    Raises: LayerError if there is no such layer, its output is not a map, or its layout cannot be detected;
        ForwardError if the network's own forward pass fails.
    """
    return find_feature_map(model, x, as_layer(layer)).values


def is_module_name(model: nn.Module, layer: str | int | Layer) -> bool:
    """Whether `layer` names a submodule (which may not exist), rather than a position among the feature maps."""
    layer = as_layer(layer)
    if layer.name == "last":
        return False
    network = unwrapped(model)
    if layer.position is None:
        return True
    return not hasattr(network, "forward_intermediates") and find_module(network, layer.name) is not None


def image_channels(model: nn.Module) -> int:
    """Number of channels of the images that a network takes: that of its first convolution, or 3 if it has none."""
    convolutions = (m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd))
    return next((m.in_channels for m in convolutions), 3)


def resolve(model: nn.Module, layer: str | int | Layer) -> Layer:
    """The submodule that 'last' stands for, if it is not the last map that timm names; otherwise the layer itself."""
    layer = as_layer(layer)
    return (last_layer(unwrapped(model)) or layer) if layer.name == "last" else layer


def find_feature_map(model: nn.Module, x: torch.Tensor, layer: Layer, *, known_eager: bool = False) -> FeatureMap:
    """As `feature_map`, but also returns where the map was taken.

    Args:
        known_eager: Whether it is known that no module of the network is compiled. This saves a traversal.
    """
    model = unwrapped(model)
    note = last_note(model) if layer.name == "last" else ""
    if is_module_name(model, layer):
        found = layer
    elif layer.call is not None or (hasattr(model, "forward_intermediates") and _says_more(layer)):
        raise LayerError(f"layer {layer.name!r} is a map that the network names; say more only of a submodule's output")
    else:
        found = resolve(model, layer)
    with nullcontext() if known_eager else eager(model):
        feat, taken = (_of_module if is_module_name(model, found) else _of_network)(model, x, found)
    return FeatureMap(feat, replace(taken, note=note, call=layer.call))


def output_of_layer(model: nn.Module, x: torch.Tensor, layer: str | int | Layer) -> torch.Tensor:
    """The output of a layer with the images as its first dimension. It is not brought into the layout of a map.

    Raises: As `feature_map`; LayerError if the output is not a tensor.
    """
    model, layer = unwrapped(model), resolve(model, layer)
    network: Any = model
    with eager(model), own_words(model, x):
        if is_module_name(model, layer):
            output = select(capture(model, lambda: model(x), layer), layer)
        elif layer.name != "last" or hasattr(model, "forward_intermediates"):
            output = _of_network(model, x, layer).values
        elif hasattr(model, "forward_features"):
            output = network.forward_features(x)
        else:
            output = model(x)
    output = _only(output)
    if not isinstance(output, torch.Tensor) or not output.ndim:
        raise LayerError(f"layer {layer.name!r} gives {type(output).__name__}, not a feature map of 3 or 4 dimensions")
    _refuse_complex(output, layer.name)
    return _with_images_first(output, layer)


def _says_more(layer: Layer) -> bool:
    return layer.layout is not None or layer.prefix_tokens is not None


def _of_network(model: nn.Module, x: torch.Tensor, layer: Layer) -> FeatureMap:
    """A feature map that the network itself names."""
    network: Any = model  # its methods beyond nn.Module's are timm's
    position = -1 if layer.name == "last" else layer.position
    if position is not None and hasattr(model, "forward_intermediates"):
        infos = list(getattr(model, "feature_info", ()))
        if infos and not -len(infos) <= position < len(infos):
            raise LayerError(f"layer {layer}: the network has feature maps 0 to {len(infos) - 1}")
        stage = _name_of_stage(model, infos, position)

        def run(image: torch.Tensor) -> Any:
            with own_words(model, image):
                return network.forward_intermediates(
                    image, indices=[position], norm=False, output_fmt="NCHW", intermediates_only=True, stop_early=True
                )

        if not str(network.forward_intermediates.__module__).startswith(_OF_TIMM):
            return _found(model, x, layer, lambda image: _only_map(run(image), model, layer), stage)
        with _layout_of_stage(model, stage) as layouts:
            maps = run(x)
        own = layouts[-1] if layouts else None
        taken = TakenLayer(stage, own.letters, prefix_tokens=own.prefix) if own else TakenLayer(stage, None)
        return FeatureMap(_checked(maps[0], x, stage), taken)
    if layer.name == "last":
        if hasattr(model, "forward_features"):
            return _found(model, x, layer, lambda image: network.forward_features(image), "forward_features")
        with own_words(model, x):
            output = _only(model(x))
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            return _found(model, x, layer, model, "output", output)
        raise LayerError(
            f"layer {layer}: {type(model).__name__} gives {_in_words(output)}, not a map; name a submodule instead "
            f"(--layer), such as {some_names(model)}"
        )
    raise LayerError(
        f"layer {layer}: {type(model).__name__} has no forward_intermediates; name a submodule instead (--layer), "
        f"such as {some_names(model)}"
    )


def _in_words(output: Any) -> str:
    """Describe the output of a network for a message."""
    if isinstance(output, torch.Tensor):
        return f"an output of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a dictionary of {', '.join(map(str, output))}"
    return f"an object of type {type(output).__name__}"


def _only_map(maps: Any, model: nn.Module, layer: Layer) -> torch.Tensor:
    """The only map that one of the network's own methods returned.

    Raises: LayerError if it returned anything but a list of one map.
    """
    if isinstance(maps, (list, tuple)) and len(maps) == 1 and isinstance(maps[0], torch.Tensor):
        return maps[0]
    raise LayerError(
        f"layer {layer}: forward_intermediates of {type(model).__name__} does not give a list of one map for one "
        f"index, as timm's does; name a submodule instead, such as {some_names(model)}"
    )


def _name_of_stage(model: nn.Module, infos: list[Any], position: int) -> str:
    info = infos[position] if infos else None
    name = str(info.get("module")) if isinstance(info, dict) else ""
    if name and find_module(model, name) is not None:
        return name
    return f"feature map {position % len(infos) if infos else position}"


@contextmanager
def _layout_of_stage(model: nn.Module, name: str) -> Iterator[list[Layout]]:
    """Inside this context, collects the layouts of a submodule's outputs, as far as `follow` knows them."""
    layouts: list[Layout] = []

    def look(module: nn.Module, args: Any, output: Any) -> None:
        field = field_of(output) if isinstance(output, torch.Tensor) else None
        layout = layout_of_axes(field.axes, output.ndim) if field and field.axes else None
        if layout is not None:
            layouts.append(layout)

    module = find_module(model, name) if is_following() else None
    handle = module.register_forward_hook(look) if module is not None else None
    try:
        yield layouts
    finally:
        if handle is not None:
            handle.remove()


def _of_module(model: nn.Module, x: torch.Tensor, layer: Layer) -> FeatureMap:
    """A feature map that is the output or the input of a submodule."""

    def run(image: torch.Tensor) -> Any:
        with own_words(model, image):
            return capture(model, lambda: model(image), layer)

    stopped = Layer(layer.name, layer.layout, 0 if layer.call is None else layer.call, layer.prefix_tokens)

    def run_up_to(image: torch.Tensor) -> Any:
        with own_words(model, image):
            return capture(model, lambda: model(image), stopped)

    return _found(model, x, layer, run_up_to, layer.name, run(x))


def _checked(output: Any, x: torch.Tensor, name: str) -> torch.Tensor:
    """Check that an output is a map (N, C, h, w) of all images, and return it.

    Raises: LayerError if it is not; NotDifferentiable if it does not depend on the images.
    """
    if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[0] != x.shape[0]:
        raise LayerError(_other_batch(name, output, x))
    _refuse_constant(output, x, name)
    return output


def _refuse_complex(output: Any, name: str) -> None:
    """Raises: LayerError for complex numbers."""
    if isinstance(output, torch.Tensor) and output.is_complex():
        raise LayerError(
            f"layer {name!r} gives complex numbers, which cannot be rectified; name a layer that gives real ones"
        )


def _refuse_constant(output: Any, x: torch.Tensor, name: str) -> None:
    """Raises: LayerError for complex numbers; NotDifferentiable if a gradient is wanted and autograd sees none."""
    _refuse_complex(output, name)
    if isinstance(output, torch.Tensor) and x.requires_grad and torch.is_grad_enabled() and not output.requires_grad:
        raise NotDifferentiable(
            f"layer {name!r} does not depend on the images as far as autograd can see: it does not at all, or the "
            "network runs under torch.no_grad(), torch.inference_mode() or detaches what it computes"
        )


def _other_batch(name: str, output: torch.Tensor, x: torch.Tensor) -> str:
    return (
        f"layer {name!r} gives {tuple(output.shape)} for {x.shape[0]} images: its first dimension is not theirs "
        "(windows or parts of the image, perhaps); name a layer round it, or say what its dimensions are by layout= "
        "(--layout)"
    )


def _found(
    model: nn.Module,
    x: torch.Tensor,
    layer: Layer,
    run: Callable[[torch.Tensor], Any],
    name: str,
    output: Any = None,
) -> FeatureMap:
    """Turn an output into a map, after finding out its layout."""
    asked = layer
    if output is None:
        with own_words(model, x):
            output = run(x)
    output = _selected(output, layer)
    if not isinstance(output, torch.Tensor) or output.ndim not in (3, 4):
        given = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise LayerError(f"layer {name!r} gives {given}, not a feature map of 3 or 4 dimensions")
    _refuse_constant(output, x, name)
    shape, size, layout = tuple(output.shape), (x.shape[-2], x.shape[-1]), None
    if layer.letters is not None:
        layout = layout_asked_for(layer, shape, x.shape[0])
    elif output.shape[0] != x.shape[0]:
        raise LayerError(_other_batch(name, output, x))
    reason = ""
    if layout is None:
        output, layer = _with_images_first(output, layer), _images_first(layer)
        field = field_of(output)
        if is_following():
            layout = layout_of_axes(field.axes, output.ndim) if field and field.axes else None
        else:

            def run_again(image: torch.Tensor) -> Any:
                with own_words(model, image):  # the network may not take images of another size or number
                    return _with_images_first(_selected(run(image), asked), asked)

            layout = _layout_of(model, x, output, layer, run_again)
        layout = layout if agrees(layout, layer) else None
        known = field.reason if field else UNKNOWN + "the map does not depend on the image"
        reason = known or UNKNOWN + "the map is laid out otherwise"
    if layout is None:
        raise LayoutError(f"layer {name!r} gives {shape}, and {how_to_say(asked, shape, size)}", reason=reason)
    letters = asked.letters or layout.letters
    return FeatureMap(layout.to_map(output), TakenLayer(name, letters, prefix_tokens=layout.prefix))


def _images_first(layer: Layer) -> Layer:
    """The layer as it is after its output has been permuted to have the images first."""
    letters = layer.letters
    return layer if letters is None else replace(layer, layout="N" + letters.replace("N", ""))


def _with_images_first(output: Any, layer: Layer) -> Any:
    """Permute an output so that the images are its first dimension, as its stated layout says."""
    at = (layer.letters or "N").index("N")
    return output.movedim(at, 0) if at and isinstance(output, torch.Tensor) and at < output.ndim else output


def _selected(output: Any, layer: Layer) -> Any:
    return select(output, layer) if layer.name != "last" else _only(output)


def _only(output: Any) -> Any:
    """The single entry of a list or tuple of length one, such as the output of a network with several maps."""
    while isinstance(output, (list, tuple)) and len(output) == 1:
        output = output[0]
    return output


def tell_layout(model: nn.Module, layer: Layer, image: Sequence[int], output: Sequence[int], layout: Layout) -> None:
    """Record how a layer's output is laid out, so that the layout need not be detected.

    Args:
        model: The network, unwrapped.
        layer: As `resolve` returns it.
        image: Shape of the images.
        output: Shape of the output.
        layout: Layout of the output.
    """
    known_of(model).setdefault(_key_of_layout(layer, image, output), layout)


def _key_of_layout(layer: Layer, image: Sequence[int], output: Sequence[int]) -> Hashable:
    return ("layout", layer, tuple(image[1:]), tuple(output[1:]))


def _has_aspect(size: Sequence[int], image: Sequence[int]) -> bool:
    """Whether the ratio of rows to columns is that of the image, to within one unit."""
    return abs(size[0] * image[1] - size[1] * image[0]) <= max(image)


def _layout_of(
    model: nn.Module, x: torch.Tensor, output: torch.Tensor, layer: Layer, run: Callable[[torch.Tensor], Any]
) -> Layout | None:
    """The layout of an output, determined once for each network, layer and image size."""
    known, key = known_of(model), _key_of_layout(layer, x.shape, output.shape)
    if key not in known:
        known[key] = _found_out(model, x, output, layer, run)
    return known[key]


def _found_out(
    model: nn.Module, x: torch.Tensor, output: torch.Tensor, layer: Layer, run: Callable[[torch.Tensor], Any]
) -> Layout | None:
    """Determine the layout of an output by the most reliable method that succeeds."""
    followed, reason = _followed_layout(model, x, run)
    if agrees(followed, layer):
        return followed
    if layer.letters is not None:  # merged positions, with unknown numbers of rows and columns
        probed = probed_layouts(run, x, layer.prefix_tokens, layer.letters)
        return probed[0] if len(probed) == 1 else None
    grown = growing_dimensions(_or_none(run), x)
    layout = layout_by_resizing(grown) or layout_of_one_unit(tuple(output.shape))
    # a single unit is considered last, since a map may have one channel and one column
    if layout is not None:
        return layout
    probed = probed_layouts(run, x, layer.prefix_tokens)
    if len(probed) == 1:
        return probed[0]
    by_type = Layout("NCHW")
    if output.ndim != 4 or not isinstance(find_module(model, layer.module), SPATIAL_MODULES):
        return None
    # a convolution may also run over an attention matrix, whose sides are not those of the image
    if reason == NO_BOUND + PRODUCT or (grown is not None and grown != ([], [])):
        return by_type if by_type in probed else None
    return by_type if by_type in probed or (not probed and _has_aspect(output.shape[2:], x.shape[2:])) else None


def _or_none(run: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    """The same function, but it returns None for images that the network does not take."""

    def run_or_none(image: torch.Tensor) -> Any:
        try:
            return run(image)
        except (LayerError, ForwardError):
            return None

    return run_or_none


def _followed_layout(
    model: nn.Module, x: torch.Tensor, run: Callable[[torch.Tensor], Any]
) -> tuple[Layout | None, str]:
    """The layout found by following the image's positions through the network, or the reason why it stays unknown.

    A batch of two images is followed, so that the batch dimension is recognised as well.
    """

    def read(image: torch.Tensor) -> tuple[Layout | None, str]:
        output = run(image)
        field = field_of(output)
        if field is None or output.shape[0] != image.shape[0]:
            return None, ""
        return (layout_of_axes(field.axes, output.ndim) if field.axes else None), field.reason

    try:
        return follow(model, read, (2, *x.shape[1:]), x.dtype)
    except (DataDependent, LayerError, ForwardError):  # the caller then detects the layout by experiment
        return None, ""


@contextmanager
def own_words(model: nn.Module, x: torch.Tensor) -> Iterator[None]:
    """Turn a failure of a network's own forward pass into a one-sentence error.

    Raises: ForwardError for any failure except errors of this package (LayerError), lack of memory and Ctrl-C.
    """
    try:
        yield
    except (LayerError, ForwardError, DataDependent):
        raise
    except OWN_CODE_ERRORS as error:
        if is_out_of_memory(error):
            raise
        raise ForwardError(words_of(error), _hint(model, x)) from error


def _hint(model: nn.Module, x: torch.Tensor) -> str:
    """Suggest what to try when a network does not accept images."""
    channels, given = image_channels(model), x.shape[1]
    if channels != given:
        return f"it takes images of {channels} channel{'s' * (channels != 1)}, and these have {given}"
    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if len(types) > 1:
        said = " and ".join(sorted(str(one).removeprefix("torch.") for one in types))
        images = str(x.dtype).removeprefix("torch.")
        return f"its parameters are {said}, and the images {images}: give them in the type that it takes"
    cfg: Any = getattr(model, "pretrained_cfg", None)
    own = cfg.get("input_size") if isinstance(cfg, dict) else None
    such = f", such as {own[-1]}, which it is made for" if own and tuple(own[1:]) != tuple(x.shape[2:]) else ""
    return f"choose another --size{such}"
