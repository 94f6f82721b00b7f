"""Several ranks act as one run: the same result, common errors, and progress that any number of ranks can resume."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT
from warm import Python

from runkit import UserError
from runkit.compute.device import choose_device
from runkit.compute.ranks import World
from runkit.compute.rounds import Loop


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `arguments` (a script, or -m and a module) on two ranks of this machine."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", *arguments],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def two_ranks(*arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Run `python ARGUMENTS` on two ranks of this machine as torchrun does, but without waiting for imports."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [Python(*arguments, environment={**world, "RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]
    done = [rank.wait(200) for rank in ranks]
    for rank in ranks:
        rank.kill()
    assert None not in done, "the ranks wait for each other"
    assert [one.returncode for one in done] == [0, 0], "\n".join(one.stderr for one in done)
    return done


def test_one_process_is_a_world_of_size_1():
    world = World()
    assert world.main
    assert world.share([1, 2, 3]) == [1, 2, 3]
    assert world.together(lambda: 1) == world.on_main(lambda: 1) == world.main_first(lambda: 1) == 1
    assert world.collect(lambda: [1, 2]) == [1, 2]
    world.check_same({"a": 1})


@pytest.mark.parametrize(("count", "size"), [(5, 2), (1, 3), (12, 4), (7, 3)])
def test_shares_are_even_and_in_order(count, size):
    shares = [World(rank, size).share(range(count)) for rank in range(size)]
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("done", [0, 3])
def test_rounds_add_up_in_order_and_save(done):
    saved = []
    loop = Loop(batch_size=None, keep=lambda arrays, head: saved.append((arrays, head)))
    state = loop.run(
        tuple(range(done)),
        range(8),
        done=done,
        read=lambda items: [10 * item for item in items],
        work=lambda items: [item // 10 for item in items],
        add=lambda state, outcomes: (*state, *outcomes),
        pack=lambda state: ({"items": state}, {"done": len(state)}),
        fitting=lambda: 2,
    )
    assert state == tuple(range(8))
    ((arrays, head),) = saved
    assert (arrays, head["done"], head["batch_size"]) == ({"items": state}, 8, 2)
    assert 0 < head["seconds"] <= loop.seconds
    assert loop.images_per_second > 0


def test_a_run_short_of_memory_says_with_which_batch_size_it_ended():
    saved = []
    loop = Loop(batch_size=8, keep=lambda arrays, head: saved.append(head["batch_size"]))

    def work(items):
        if len(items) > 2:
            raise MemoryError
        return list(items)

    state = loop.run(
        (),
        range(9),
        done=0,
        read=list,
        work=work,
        add=lambda state, outcomes: (*state, *outcomes),
        pack=lambda state: ({}, {}),
        fitting=lambda: 1,
    )
    assert state == tuple(range(9))
    assert saved == [2]
    assert loop.batch_size == 2


STEPS = """
import torch
from runkit.compute.ranks import joined_world
from runkit import UserError

class Refused(UserError):
    pass

def refuse():
    if world.rank == 1:
        raise Refused("on one rank only")

with joined_world(torch.device("cpu")) as world:
    try:
        world.together(refuse)
    except UserError as error:
        caught = type(error).__name__
    everything = world.collect(lambda: [world.rank] * 2)
    decided = world.on_main(lambda: f"by {world.rank}")
    try:
        world.check_same({"images": world.rank})
    except UserError as error:
        difference = str(error)
    print((world.rank, caught, everything, decided, difference, torch.get_num_threads()))
"""


def test_ranks_stay_in_step():
    done = two_ranks("-c", STEPS)
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    difference = "rank 1 would compute something else than rank 0: images: 0 -> 1"
    assert [rank.stdout.strip() for rank in done] == [
        repr((0, "Refused", [0, 0, 1, 1], "by 0", difference, threads)),
        repr((1, "Refused", [], "by 0", difference, threads)),
    ]


def test_more_ranks_than_cuda_devices_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="2 ranks, and 1 CUDA devices"):
        choose_device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files if name != "provenance"}


DIE = """
import os, signal, sys
from erf.gradient import accumulate
real, calls = accumulate.central_gradients, []
def die(*args, **kwargs):
    calls.append(1)
    if os.environ["RANK"] == "1" and len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
accumulate.central_gradients = die
from erf.visualize import main
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.fixture
def rank_threads() -> Iterator[None]:
    """Use as many threads as a rank has, because only the same number gives bit-identical results."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def arguments(photo_folder) -> list[str]:
    return ["--model", "test_resnet", "--weights", "random", "--images", str(photo_folder), "--size", "64"]


@pytest.fixture
def whole(arguments, rank_threads, tmp_path) -> dict[str, np.ndarray]:
    """The results of a single process."""
    from erf.visualize import main

    assert main([*arguments, "--output", str(tmp_path / "one")]) == 0
    return arrays(tmp_path / "one" / "erf" / "test_resnet.npz")


@pytest.mark.slow
def test_receptive_fields_of_two_ranks(arguments, whole, tmp_path):
    """They have the same arrays as one process."""
    done = two_ranks("-m", "erf.visualize", *arguments, "--output", str(tmp_path / "two"))
    assert [rank.stdout.count("Area ratio as published") for rank in done] == [1, 0]
    two = arrays(tmp_path / "two" / "erf" / "test_resnet.npz")
    assert json.loads((tmp_path / "two" / "erf" / "test_resnet.json").read_text(encoding="utf-8"))["ranks"] == 2
    assert two.keys() == whole.keys()
    assert all(np.array_equal(two[name], whole[name]) for name in whole)


@pytest.mark.sweep  # half a minute with torchrun itself: how a run ends of which a rank dies
def test_a_rank_that_dies_ends_the_run_and_one_process_continues_it(arguments, whole, tmp_path):
    from erf.visualize import main

    script = tmp_path / "die.py"
    script.write_text(DIE)
    died = torchrun(str(script), *arguments, "--output", str(tmp_path / "died"))
    assert died.returncode != 0
    assert "Continue with: torchrun --nproc-per-node=2 -m erf.visualize" in died.stderr
    assert main([*arguments, "--output", str(tmp_path / "died"), "--resume"]) == 0
    continued = arrays(tmp_path / "died" / "erf" / "test_resnet.npz")
    assert all(np.array_equal(continued[name], whole[name]) for name in whole)


@pytest.mark.slow
def test_probabilities_of_two_ranks(benchmark_folder, tmp_path):
    from replknet import load_model, optimize
    from shapebias.network.inference import predict
    from shapebias.stimuli.images import read_stimuli

    script = (
        "import sys, torch, numpy as np\n"
        "from replknet import load_model, optimize\n"
        "from runkit.compute.ranks import joined_world\n"
        "from runkit.compute.rounds import Loop\n"
        "from shapebias.network.inference import predict\n"
        "from shapebias.stimuli.images import read_stimuli\n"
        "stimuli = read_stimuli(sys.argv[1])[70:111]\n"
        "model = optimize(load_model('test_resnet', 'random').model)\n"
        "with joined_world(torch.device('cpu')) as world:\n"
        "    values = predict(model, stimuli, loop=Loop(batch_size=4, world=world))\n"
        "if world.main: np.save(sys.argv[2], values)\n"
    )
    two_ranks("-c", script, str(benchmark_folder), str(tmp_path / "values.npy"))
    stimuli = read_stimuli(benchmark_folder)[70:111]
    expected = predict(optimize(load_model("test_resnet", "random").model), stimuli, batch_size=4)
    two = np.load(tmp_path / "values.npy")
    # float32 rounding: threads, and the size of the last batches, differ
    np.testing.assert_allclose(two, expected, rtol=1e-5)
    assert np.array_equal(two.argmax(1), expected.argmax(1))
