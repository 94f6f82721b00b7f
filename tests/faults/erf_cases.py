"""What can go wrong in `erf.visualize`."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fault_case import Case
from PIL import Image

from replknet import load_model

NET = "test_resnet.r160_in1k"
RANDOM = ["--model", NET, "--weights", "random", "--size", "64"]


def photos(place: Path) -> list[str]:
    """Two valid photographs, and the arguments that name them."""
    (place / "photos").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(place / "photos" / name)
    return ["--images", str(place / "photos")]


def options(*more: str):
    """A valid call with `more` arguments."""
    return lambda place: [*RANDOM, *photos(place), *more]


def weights(make, name: str = "weights.pth"):
    """A valid call with the checkpoint that `make` writes."""

    def call(place: Path) -> list[str]:
        make(place / name)
        return [*photos(place), "--model", NET, "--size", "64", "--weights", str(place / name)]

    return call


def with_image(name: str, make):
    """A valid call in which a third image is bad or unusual."""

    def call(place: Path) -> list[str]:
        arguments = photos(place)
        make(place / "photos" / name)
        return [*RANDOM, *arguments]

    return call


def images(make):
    """A call with the image folder that `make` creates."""

    def call(place: Path) -> list[str]:
        make(place / "photos")
        return [*RANDOM, "--images", str(place / "photos")]

    return call


def earlier(*before: str, after: tuple[str, ...] = ()):
    """A second call, with `after`, on the output folder of a first call, with `before`."""
    from erf.visualize import main

    def call(place: Path) -> list[str]:
        arguments = [*RANDOM, *photos(place)]
        assert main([*arguments, *before, "--output", str(place / "out")]) == 0
        return [*arguments, *after]

    return call


def unfinished(*before: str, after: tuple[str, ...] = (), damage: bool = False):
    """A second call on the progress file of an interrupted first one."""

    def call(place: Path) -> list[str]:
        from erf.gradient import accumulate
        from erf.visualize import main

        arguments = [*RANDOM, *photos(place)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(accumulate, "central_gradients", _interrupt_second(accumulate.central_gradients))
            assert main([*arguments, *before, "--output", str(place / "out")]) == 130
        if damage:
            (partial,) = (place / "out" / "erf").iterdir()
            partial.write_bytes(partial.read_bytes()[:500])
        return [*arguments, *after]

    return call


def _interrupt_second(real):
    calls = []

    def interrupt(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    return interrupt


def from_npz(make):
    def call(place: Path) -> list[str]:
        make(place / "map.npz")
        return ["--from-npz", str(place / "map.npz")]

    return call


def full_disk(monkeypatch) -> None:
    """Let all further writing fail, as on a full disk."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", refuse)


def one_infinite_gradient(monkeypatch) -> None:
    from erf.gradient import accumulate

    real, calls = accumulate.central_gradients, []

    def overflow(*args, **kwargs):
        found = real(*args, **kwargs)
        calls.append(1)
        return found._replace(maps=found.maps * torch.inf) if len(calls) == 1 else found

    monkeypatch.setattr(accumulate, "central_gradients", overflow)


def little_memory(monkeypatch) -> None:
    """Leave too little memory for one image."""

    def refuse(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("erf.gradient.accumulate.central_gradients", refuse)


def truncated(path: Path) -> None:
    whole = path.with_suffix(".whole")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(whole, "JPEG")
    path.write_bytes(whole.read_bytes()[:3000])
    whole.unlink()


def huge(path: Path) -> None:
    """A PNG whose header promises 30000 × 30000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (60, 40), (200, 30, 30)).save(path, exif=exif)


def state_of(name: str):
    return lambda path: torch.save(load_model(name, "random").model.state_dict(), path)


def not_a_number(path: Path) -> None:
    state = load_model(NET, "random").model.state_dict()
    torch.save({k: torch.full_like(v, torch.nan) if v.is_floating_point() else v for k, v in state.items()}, path)


class _Code:
    def __reduce__(self):
        return print, ("code ran",)


ASKED, IMAGES, WEIGHTS, FILES = (
    f"erf.visualize: {part}" for part in ("arguments", "images", "networks and weights", "files")
)
_UNREADABLE = "skipped {}: unreadable: …"

CASES = [
    Case(ASKED, "neither a network nor a result", lambda _: [], "error: give --model NAME […], or --from-npz …"),
    Case(
        ASKED,
        "both a network and a result",
        lambda _: ["--model", NET, "--from-npz", "a.npz"],
        "error: give --model NAME […], or --from-npz …",
    ),
    Case(ASKED, "the same network twice", options("--model", NET, NET), f"error: {NET}: named more than once; …"),
    Case(ASKED, "`--size 0`", options("--size", "0"), "error: --size 0: feature maps need at least 32 pixels"),
    Case(ASKED, "`--size 31`", options("--size", "31"), "error: --size 31: feature maps need at least 32 pixels"),
    Case(ASKED, "`--size -64`", options("--size", "-64"), "error: --size -64: feature maps need at least 32 pixels"),
    Case(
        ASKED,
        "`--size 1000000`",
        options("--size", "1000000"),
        "error: --size 1000000: an image and its map need 43,000 GB of memory, and … GB are free; choose a smaller --size",
    ),
    Case(
        ASKED,
        "`--size large`",
        options("--size", "large"),
        "error: argument --size: 'large' is not a size: give a side in pixels, such as 512, or height and width, such as 384x128",
    ),
    Case(ASKED, "`--num-images 0`", options("--num-images", "0"), "error: --num-images 0: take at least 1"),
    Case(ASKED, "`--num-images -3`", options("--num-images", "-3"), "error: --num-images -3: take at least 1"),
    Case(
        ASKED,
        "`--batch-size 0`",
        options("--batch-size", "0"),
        "error: argument --batch-size: take auto or a whole number of at least 1, not '0'",
    ),
    Case(
        ASKED,
        "`--batch-size many`",
        options("--batch-size", "many"),
        "error: argument --batch-size: take auto or a whole number of at least 1, not 'many'",
    ),
    Case(
        ASKED,
        "`--precision int8`",
        options("--precision", "int8"),
        "error: argument --precision: invalid choice: 'int8' …",
    ),
    Case(ASKED, "`--seed -1`", options("--seed", "-1"), "error: --seed must be at least 0, not -1"),
    Case(
        ASKED, "a device that is missing", options("--device", "cuda:77"), "error: --device cuda:77 cannot be used: …"
    ),
    Case(
        ASKED,
        "a device that does not exist",
        options("--device", "toaster"),
        "error: --device toaster cannot be used: …",
    ),
    Case(
        ASKED,
        "a layer that does not exist",
        options("--layer", "layer9"),
        f"error: {NET}: layer 'layer9': there is no such module; there are …",
    ),
    Case(
        ASKED,
        "a stage that does not exist",
        options("--layer", "99"),
        f"error: {NET}: layer 99: the network has feature maps 0 to 4",
    ),
    Case(
        ASKED,
        "a layer without a map",
        options("--layer", "fc"),
        f"error: {NET}: layer 'fc' gives (1, 1000), not a feature map of 3 or 4 dimensions",
    ),
    Case(
        IMAGES,
        "no such folder",
        lambda place: [*RANDOM, "--images", str(place / "photos")],
        "error: --images …photos does not exist; name a folder, a list of images (.txt), or images",
    ),
    Case(
        IMAGES,
        "a file instead of a folder",
        images(lambda p: p.write_text("x")),
        "error: --images …photos is not a folder; name a folder, a list of images (.txt), or images",
    ),
    Case(IMAGES, "an empty folder", images(lambda p: p.mkdir()), "error: --images …photos holds no images (.bmp, …)"),
    Case(
        IMAGES,
        "a folder of other files",
        images(lambda p: (p.mkdir(), (p / "a.txt").write_text("x"))),
        "error: --images …photos holds no images (.bmp, …)",
    ),
    Case(
        IMAGES,
        "no image is readable",
        images(lambda p: (p.mkdir(), (p / "a.png").write_text("x"))),
        f"error: {NET}: no image could be used (a.png: unreadable: …)",
    ),
    Case(
        IMAGES,
        "a file that gives an I/O error",
        with_image("c.png", lambda p: p.symlink_to("/proc/self/mem")),
        "error: cannot read …c.png: Input/output error; make it readable, or take it away",
    ),
    Case(IMAGES, "a truncated JPEG", with_image("c.jpg", truncated), _UNREADABLE.format("c.jpg"), 0),
    Case(
        IMAGES, "a file of 0 bytes", with_image("c.png", lambda p: p.write_bytes(b"")), _UNREADABLE.format("c.png"), 0
    ),
    Case(
        IMAGES,
        "text named .png",
        with_image("c.png", lambda p: p.write_text("no image")),
        _UNREADABLE.format("c.png"),
        0,
    ),
    Case(
        IMAGES,
        "30000 × 30000 pixels in a few bytes",
        with_image("c.png", huge),
        "skipped c.png: unreadable: Image size (900000000 pixels) exceeds limit …",
        0,
    ),
    Case(IMAGES, "1 × 1 pixel", with_image("c.png", lambda p: Image.new("RGB", (1, 1), 9).save(p)), "", 0),
    Case(
        IMAGES,
        "16 bits per pixel (scaled to 8)",
        with_image("c.png", lambda p: Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(p)),
        "",
        0,
    ),
    Case(
        IMAGES,
        "a palette (read as colours)",
        with_image("c.png", lambda p: Image.new("RGB", (9, 9), 9).quantize(4).save(p)),
        "",
        0,
    ),
    Case(IMAGES, "CMYK (read as RGB)", with_image("c.jpg", lambda p: Image.new("CMYK", (9, 9)).save(p)), "", 0),
    Case(
        IMAGES,
        "turned by EXIF (read as stored, as torchvision's ImageFolder does)",
        with_image("c.jpg", rotated),
        "",
        0,
    ),
    Case(
        IMAGES,
        "an animation (its first frame)",
        with_image(
            "c.gif", lambda p: Image.new("P", (9, 9)).save(p, save_all=True, append_images=[Image.new("P", (9, 9), 3)])
        ),
        "",
        0,
    ),
    Case(
        WEIGHTS,
        "an unknown network",
        options("--model", "test_resmet"),
        "error: unknown network 'test_resmet'; did you mean test_resnet…?",
    ),
    Case(
        WEIGHTS,
        "an unknown tag",
        options("--model", "resnet18.mine"),
        "error: resnet18 has no weights 'mine'; its tags are …",
    ),
    Case(
        WEIGHTS,
        "one bad network of two: the other is measured",
        options("--model", "test_resmet", NET),
        "failed: test_resmet: unknown network 'test_resmet'; did you mean test_resnet…?",
    ),
    Case(
        WEIGHTS,
        "no connection",
        lambda place: [*photos(place), "--model", "replknet31b", "--weights", "pretrained"],
        "error: cannot download weights replknet31b.in1k: …does not answer…; give a checkpoint by --weights PATH",
    ),
    Case(
        WEIGHTS,
        "no such checkpoint",
        weights(lambda p: None),
        "error: --weights …weights.pth does not exist; give 'auto', …",
    ),
    Case(
        WEIGHTS,
        "a folder instead of a checkpoint",
        weights(lambda p: p.mkdir()),
        "error: --weights …weights.pth is a folder; give 'auto', …",
    ),
    Case(
        WEIGHTS,
        "a text file instead of a checkpoint",
        weights(lambda p: p.write_text("no checkpoint")),
        "error: …weights.pth is damaged or no PyTorch file: it holds text",
    ),
    Case(
        WEIGHTS,
        "a damaged .safetensors",
        weights(lambda p: p.write_bytes(b"\xff" * 100), "weights.safetensors"),
        "error: …weights.safetensors cannot be read as a checkpoint: …",
    ),
    Case(
        WEIGHTS,
        "a pickle that runs code",
        weights(lambda p: torch.save({"model": _Code()}, p)),
        "error: …weights.pth wants to run code when read (…print) and was not loaded; save its state dict alone: torch.save(model.state_dict(), ...)",
    ),
    Case(
        WEIGHTS,
        "a checkpoint without tensors",
        weights(lambda p: torch.save({"epoch": 3}, p)),
        "error: …weights.pth holds no state dict (a mapping of parameter names to tensors); it holds epoch; --weights …weights.pth#KEY names the part with the weights",
    ),
    Case(
        WEIGHTS,
        "a checkpoint of another network",
        weights(state_of("test_vit")),
        f"error: weights.pth does not fit {NET}: missing conv1.0.weight and … more; unexpected cls_token and … more",
    ),
    Case(
        WEIGHTS,
        "NaN in the weights",
        weights(not_a_number),
        f"error: {NET}: no image could be used (a.png: the gradient is not finite; b.png: the gradient is not finite)",
    ),
    Case(
        WEIGHTS,
        "one gradient that is not finite",
        options(),
        "skipped a.png: the gradient is not finite",
        0,
        one_infinite_gradient,
    ),
    Case(
        WEIGHTS,
        "a size that the network cannot have",
        options("--model", "test_vit", "--size", "37"),
        "error: test_vit cannot take images of 37 × 37 pixels: …; choose another --size, such as 160, which it is made for",
    ),
    Case(
        WEIGHTS,
        "not enough memory for one image",
        options(),
        f"error: {NET}: not enough memory for one image (…); choose a smaller --size",
        2,
        little_memory,
    ),
    Case(
        FILES,
        "an output folder that is a file",
        lambda place: ((place / "out").write_text(""), options()(place))[1],
        "error: cannot write …: …; name a folder you may write to",
        existing=True,
    ),
    Case(
        FILES,
        "an output folder that cannot be made",
        options("--output", "/proc/mine"),
        "error: cannot write /proc/mine: …; name a folder you may write to",
    ),
    Case(
        FILES,
        "a full disk",
        options(),
        "error: cannot write …: No space left on device; make room, or name another folder",
        2,
        full_disk,
    ),
    Case(
        FILES,
        "a finished result (kept)",
        earlier(),
        "…test_resnet.r160_in1k.npz is finished already and is kept; --overwrite computes it again",
        0,
        existing=True,
    ),
    Case(
        FILES,
        "a result of another configuration",
        earlier(after=("--seed", "1")),
        "error: …test_resnet.r160_in1k.npz is of another configuration (weights.seed: 0 -> 1); choose another --output, or --overwrite",
        existing=True,
    ),
    Case(
        FILES,
        "an unfinished run",
        unfinished(),
        "error: …test_resnet.r160_in1k.partial.npz holds an unfinished run; --resume continues it, --overwrite starts again",
        existing=True,
    ),
    Case(
        FILES,
        "an unfinished run of another configuration",
        unfinished(after=("--resume", "--layer", "1")),
        "error: …partial.npz is of another run (layer: last -> 1); start again with --overwrite",
        existing=True,
    ),
    Case(
        FILES,
        "damaged progress",
        unfinished(after=("--resume",), damage=True),
        "error: …partial.npz is damaged (…); start again with --overwrite",
        existing=True,
    ),
    Case(
        FILES,
        "no such .npz",
        from_npz(lambda p: None),
        "error: …map.npz does not exist; name a .npz that erf.visualize wrote",
    ),
    Case(
        FILES,
        "text named .npz",
        from_npz(lambda p: p.write_text("x")),
        "error: …map.npz is not a result of erf.visualize: …",
    ),
    Case(
        FILES,
        "a .npz of another program",
        from_npz(lambda p: np.savez(p, x=np.ones(3))),
        "error: …map.npz is not a result of erf.visualize: it has no 'provenance'",
    ),
]
