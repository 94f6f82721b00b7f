"""`--num-images`: which images are used, and that every part of a run uses the same ones."""

import json
from collections import Counter
from pathlib import Path

import pytest

from shapebias.network import inference
from shapebias.run import main
from shapebias.stimuli.images import Stimuli, Stimulus, parse_image_name

NETWORK = "test_efficientnet"
COUNT = 32


def run(arguments: list[str], *more: str) -> int:
    return main(["--model", NETWORK, "--weights", "random", *arguments, *more])


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def spread(counts: Counter) -> int:
    return max(counts.values()) - min(counts.values())


@pytest.mark.parametrize("count", [1, 16, 100, 160, 1279])
def test_images_are_taken_evenly_and_always_the_same(names, count):
    stimuli = Stimuli(Path(), tuple(Stimulus(Path(name), *parse_image_name(name)) for name in names))
    taken = stimuli.take(count)
    assert len(taken) == count
    assert taken.items == stimuli.take(count).items
    assert [item for item in stimuli if item in set(taken)] == list(taken)  # in the order of the toolbox
    assert taken.found == 1280
    shapes = Counter({item.shape: 0 for item in stimuli})
    shapes.update(item.shape for item in taken)
    assert spread(shapes) <= 1
    for shape, number in shapes.items():
        textures = Counter({item.texture: 0 for item in stimuli if item.shape == shape})
        textures.update(item.texture for item in taken if item.shape == shape)
        assert textures.total() == number
        assert spread(textures) <= 1


def test_conditions_are_taken_evenly_too():
    items = [
        Stimulus(Path(f"{condition}_{shape}_{i}.png"), shape, "", condition)
        for condition in ("c05", "c10", "c100")
        for shape in ("cat", "dog")
        for i in range(10)
    ]
    taken = Stimuli(Path(), tuple(items)).take(13)
    counts = Counter((item.shape, item.condition) for item in taken)
    assert sorted(counts.values()) == [2, 2, 2, 2, 2, 3]


def test_all_images_are_as_without_the_option(names):
    stimuli = Stimuli(Path(), tuple(Stimulus(Path(name), *parse_image_name(name)) for name in names))
    assert stimuli.take(1280) is stimuli
    assert stimuli.take(5000) is stimuli
    with pytest.raises(ValueError, match="at least 1"):
        stimuli.take(0)


def test_result_and_comparison_are_of_the_images_taken(quick, arguments, people_folder, tmp_path, capsys, caplog):
    assert run(arguments, "--num-images", str(COUNT)) == 0
    assert "32 of 128 cue-conflict images are used" in caplog.text
    folder = tmp_path / "out" / "shapebias"
    content = read(folder / f"{NETWORK}.json")
    assert content["results"]["trials"] == COUNT
    assert (content["data"]["images"], content["data"]["images_found"]) == (COUNT, 128)
    assert not content["data"]["published_list"]
    assert content["config"]["stimuli"]["images"] == COUNT
    comparison = read(folder / "shape-bias.json")["results"]
    assert {row["name"]: row["trials"] for row in comparison["observers"]} == {
        f"{NETWORK}-random-weights": COUNT,
        "people": 2 * COUNT,
        "subject-01": COUNT,
        "subject-02": COUNT,
    }
    assert comparison["error_consistency"] is not None
    assert comparison["differences"]["pairs"]

    result = (folder / f"{NETWORK}.json").read_bytes()
    assert run(arguments, "--num-images", str(COUNT)) == 0  # is finished
    assert (folder / f"{NETWORK}.json").read_bytes() == result
    capsys.readouterr()
    assert run(arguments) == 2
    assert "stimuli.images: 32 -> 128" in capsys.readouterr().err

    humans = ("--humans", str(people_folder))
    recorded = (
        ("--from-csv", str(folder / "raw" / "cue-conflict")),
        ("--from-probabilities", str(folder / f"{NETWORK}.probabilities.npz")),
    )
    for place, source in enumerate(recorded):
        output = tmp_path / f"again-{place}"
        caplog.clear()
        assert main([*source, *humans, "--output", str(output)]) == 0
        assert "its answers are to 32 of 128 cue-conflict images; the results are not comparable" in caplog.text
        again = read(output / "shapebias" / "shape-bias.json")["results"]
        for key in ("error_consistency", "differences"):
            assert again[key] == comparison[key], (source, key)


def test_an_interrupted_run_is_continued_with_the_same_images(arguments, tmp_path, monkeypatch, capsys):
    arguments[arguments.index("--batch-size") + 1] = "8"
    few = ("--num-images", str(COUNT))
    with monkeypatch.context() as patch:
        real, calls = inference._ask, []

        def interrupt(*args):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(*args)

        patch.setattr(inference, "_ask", interrupt)
        assert run(arguments, *few) == 130
    capsys.readouterr()
    assert run(arguments, "--num-images", "48", "--resume") == 2
    assert "stimuli.images: 32 -> 48" in capsys.readouterr().err
    assert run(arguments, *few, "--resume") == 0
    assert read(tmp_path / "out" / "shapebias" / f"{NETWORK}.json")["results"]["trials"] == COUNT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", NETWORK, "--num-images", "0"], "--num-images must be at least 1, not 0"),
        (["--from-csv", "raw", "--num-images", "9"], "--from-csv measures what was recorded; leave out --num-images"),
        (["--from-probabilities", "a.npz", "--num-images", "9"], "leave out --num-images"),
    ],
)
def test_numbers_that_make_no_sense_end_with_2(options, message, capsys):
    with pytest.raises(SystemExit) as ending:
        main(options)
    assert ending.value.code == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_counts_them(arguments, tmp_path, capsys):
    assert run(arguments, "--num-images", str(COUNT), "--dry-run") == 0
    assert f"{COUNT} cue-conflict images" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
