"""Update the table of docs/families.md, which lists the layer of the last map for each family of timm networks.

Each family is represented by one small network. No weights are downloaded: the network runs once on an image without
data (`erf.gradient.fields.follow`). A test compares the page with the output of this script.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import nn

from erf.gradient.fields.follow import DataDependent, follow
from erf.gradient.layers.find import FeatureMap, find_feature_map
from erf.gradient.layers.last import LAST_LAYERS, last_layer
from erf.gradient.layers.layer import ForwardError, Layer
from replknet import load_model

__all__ = ["NETWORKS", "PAGE", "find_row", "read_rows"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "families.md"
COLUMNS = ("family", "network", "image", "layer", "laid out as", "map", "remarks")
_OTHER_SIZES = {"deepseek_vit_412m": (126,)}  # has patches of 14 pixels
_SIZES = (64, 96, 128, 160, 192, 224, 240, 256, 384, 512)

NETWORKS = {
    "beit": "beit_base_patch16_224",
    "byoanet": "eca_botnext26ts_256",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla34",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "eva02_tiny_patch14_224",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformer_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_004_tv",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2net50_26w_4s",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_tiny_12_p8_224",
}
"""A small network from each of timm's model files."""


def find_row(family: str) -> tuple[str, ...]:
    """The row of a family, with the columns of the table on the page.

    Raises: RuntimeError if the network accepts none of the image sizes that are tried.
    """
    name = NETWORKS[family]
    for size in _sizes(name):
        model = _build(name, size)
        try:
            found = _look(model, size)
        except ForwardError:
            continue
        taken, (height, width) = found.taken, found.values.shape[2:]
        before = f", {taken.prefix_tokens} before" if taken.prefix_tokens else ""
        layout = f"{taken.layout}{before}" if taken.layout else ""
        last = LAST_LAYERS.get(family)
        why = last.why if last and (last.path is None or last_layer(model)) else ""
        remarks = "; ".join(filter(None, (why, taken.note)))
        return (family, f"`{name}`", str(size), f"`{taken.module}`", layout, f"{height} × {width}", remarks)
    raise RuntimeError(f"{name} takes no image of {_SIZES[0]} to {_SIZES[-1]} pixels")


def _sizes(name: str) -> Sequence[int]:
    """The image sizes to try: small ones, or the only one of a network with a fixed input size."""
    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None
    return (cfg.input_size[1],) if cfg.fixed_input_size else _OTHER_SIZES.get(name, _SIZES)


def _build(name: str, size: int) -> nn.Module:
    """Build a network, without memory for its weights if its constructor does not need their values."""
    try:
        with torch.device("meta"):
            return load_model(name, "random", input_size=(size, size)).model
    except (RuntimeError, NotImplementedError):
        return load_model(name, "random", input_size=(size, size)).model


def _look(model: nn.Module, size: int) -> FeatureMap:
    def look(x: torch.Tensor) -> FeatureMap:
        return find_feature_map(model, x, Layer())

    try:
        return follow(model, look, (1, 3, size, size))
    except DataDependent:
        with torch.no_grad():
            return look(torch.zeros(1, 3, size, size))


def read_rows() -> list[tuple[str, ...]]:
    """Read the rows of the table on the page."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[1:]]


def _write(rows: Sequence[Sequence[str]]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    head = text[: text.index("| family |")] if "| family |" in text else text
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    PAGE.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="those whose rows are updated (default: all)")
    chosen = parser.parse_args().families or list(NETWORKS)
    known = {row[0]: row for row in read_rows()}
    for family in chosen:
        known[family] = find_row(family)
        sys.stdout.write(" | ".join(known[family]) + "\n")
        _write([known[name] for name in sorted(known) if name in NETWORKS])


if __name__ == "__main__":
    main()
