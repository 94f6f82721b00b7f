"""The life of a run, with a tool that counts: the order of hooks, and what is kept, refused and left."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from runkit import UserError
from runkit.dry_run import Cost, foresee_sweep
from runkit.options import RunOptions
from runkit.sweep import LeftOut, Preview, Tool, run_sweep


@dataclass(frozen=True)
class Job:
    name: str
    network: str
    part: int


class Counting(Tool[Job, str, np.ndarray, list, int]):
    """Each network has two jobs: 'network.0' and 'network.1' add up the numbers below 8; the result is the sum."""

    program, basis = "tool", "from nothing"

    def __init__(self, folder: Path, *names: str, seed: int = 0, factor: int = 1, **options):
        self.config = RunOptions(model=names, seed=seed, batch_size=2, device="cpu", **options)
        self.folder, self.factor = folder, factor
        self.calls: list[str] = []
        self.interrupt_at: int | None = None
        self.useless = False

    def begin(self, device):
        self.calls.append("begin")

    begin_dry = begin

    def list_jobs(self, name, weights):
        if name == "absent":
            raise LeftOut("no weights today")
        if name == "wrong":
            raise UserError("unknown network")
        return [Job(f"{name}.{part}", name, part) for part in range(2)]

    def identify(self, job):
        return {"model": job.network, "part": job.part, "seed": self.config.seed}

    def identify_result(self, job):
        return {**self.identify(job), "factor": self.factor}

    def files(self, job):
        return [self.folder / f"{job.name}.json", self.outputs_path(job)]

    def outputs_path(self, job):
        return self.folder / f"{job.name}.outputs.json"

    def progress_path(self, job):
        return self.folder / f"{job.name}.partial.npz"

    def find_finished(self, job):
        path = self.files(job)[0]
        return json.loads(path.read_text())["identity"] if path.exists() else None

    def read_result(self, job):
        return json.loads(self.files(job)[0].read_text())["result"]

    def find_outputs(self, job):
        path = self.outputs_path(job)
        return json.loads(path.read_text())["identity"] if path.exists() else None

    def load_outputs(self, job):
        return json.loads(self.outputs_path(job).read_text())["outputs"]

    def shared_network(self, job):
        return job.network

    def load_network(self, job):
        self.calls.append(f"load {job.network}")
        return job.network

    def compute(self, job, network, loop):
        def work(items):
            if self.interrupt_at in items:
                raise KeyboardInterrupt
            return items

        earlier = loop.saved.arrays["seen"] if loop.saved else np.zeros(0)
        self.calls.append(f"compute {job.name} with {network} from {len(earlier)}")
        return loop.run(
            earlier,
            range(8),
            done=len(earlier),
            read=list,
            work=work,
            add=lambda seen, items: np.append(seen, items),
            pack=lambda seen: ({"seen": seen}, {}),
            fitting=lambda: 1,
        )

    def conclude(self, job, network, state, loop):
        if self.useless:
            raise UserError("nothing to measure")
        return state.tolist()

    def save_outputs(self, job, outputs):
        content = {"identity": self.identify(job), "outputs": outputs}
        self.folder.mkdir(exist_ok=True)
        self.outputs_path(job).write_text(json.dumps(content))

    def write_result(self, job, outputs):
        result = int(sum(outputs)) * self.factor
        self.files(job)[0].write_text(json.dumps({"identity": self.identify_result(job), "result": result}))
        return result

    def preview_jobs(self, name, weights):
        unknown = "weights" if name == "elsewhere" else ""
        return [Preview(job, "installed", unknown) for job in self.list_jobs(name, weights)]

    def count_images(self, job):
        return 8

    def count_done(self, saved):
        return len(saved.arrays["seen"])

    def estimate_cost(self, job, images):
        return Cost(1, 2, float(images), None)

    def describe_inputs(self):
        return "numbers"

    def common_files(self, jobs):
        return [self.folder / "all.csv"]


@pytest.fixture
def tool(tmp_path):
    return lambda *names, **options: Counting(tmp_path / "out", *names, **options)


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_every_job_is_computed_once_and_one_network_serves_all_its_jobs(tool, caplog):
    first = tool("a", "b")
    with caplog.at_level("INFO"):
        swept = run_sweep(first)
    assert swept.results == [28] * 4
    assert first.calls == [
        "begin",
        "load a",
        "compute a.0 with a from 0",
        "compute a.1 with a from 0",
        "load b",
        "compute b.0 with b from 0",
        "compute b.1 with b from 0",
    ]
    made = [f"{name}.{part}{end}" for name in "ab" for part in "01" for end in (".json", ".outputs.json")]
    assert names_of(first.folder) == sorted(made)
    assert f"b.1: wrote {first.folder / 'b.1.json'}" in caplog.text

    second = tool("a", "b")
    with caplog.at_level("INFO"):
        assert run_sweep(second).results == swept.results
    assert second.calls == ["begin"]
    assert "a.0.json is finished already and is kept" in caplog.text


def test_another_configuration_is_refused_before_anything_is_computed(tool):
    run_sweep(tool("b"))
    other = tool("a", "b", seed=1)
    swept = run_sweep(other)
    assert swept.failures.exit_code == 2
    assert (
        "b.0.json is of another configuration (seed: 0 -> 1); choose another --output, or"
        in (swept.failures.reasons["b"])
    )
    assert other.calls[:2] == ["begin", "load a"]
    with pytest.raises(UserError, match="another configuration"):  # the only network's error ends the run
        run_sweep(tool("b", seed=1))
    replaced = tool("b", seed=1, overwrite=True)
    assert run_sweep(replaced).results == [28, 28]
    assert len(replaced.calls) == 4
    again = tool("b", seed=1, overwrite=True, resume=True)  # keeps what the overwriting run has done
    run_sweep(again)
    assert again.calls == ["begin"]
    older = tool("b", seed=2, overwrite=True, resume=True)  # and passes over what is of another one
    run_sweep(older)
    assert len(older.calls) == 4


def test_saved_outputs_are_measured_again_without_the_network(tool):
    run_sweep(tool("a"))
    folder = tool().folder
    for path in folder.glob("a.?.json"):
        path.unlink()
    again = tool("a", factor=10)
    assert run_sweep(again).results == [280, 280]
    assert again.calls == ["begin"]
    for path in folder.glob("a.?.json"):
        path.unlink()
    with pytest.raises(UserError, match=r"a\.0\.outputs\.json is of another configuration"):
        run_sweep(tool("a", seed=1))  # known before the long work: the only network's error ends the run


def test_an_interrupted_run_is_continued(tool):
    interrupted = tool("a")
    interrupted.interrupt_at = 5
    with pytest.raises(KeyboardInterrupt):
        run_sweep(interrupted)
    assert names_of(interrupted.folder) == ["a.0.partial.npz"]
    with pytest.raises(UserError, match="--resume continues it"):
        run_sweep(tool("a"))
    continued = tool("a", resume=True)
    assert run_sweep(continued).results == [28, 28]
    assert "compute a.0 with a from 4" in continued.calls
    assert not list(continued.folder.glob("*.partial.npz"))


def test_outputs_of_no_use_leave_nothing(tool):
    useless = tool("a")
    useless.useless = True
    swept = run_sweep(useless)
    assert swept.failures.reasons == {"a.0": "nothing to measure", "a.1": "nothing to measure"}
    assert names_of(useless.folder) == []


def test_a_network_that_fails_or_is_left_out_does_not_stop_the_others(tool, caplog):
    swept = run_sweep(tool("wrong", "absent", "a"))
    assert swept.results == [28, 28]
    assert swept.failures.reasons == {"wrong": "unknown network"}
    assert swept.skipped == [{"model": "absent", "reason": "no weights today"}]
    assert "skipped: absent: no weights today" in caplog.text


def test_a_dry_run_says_what_the_run_would_do(tool):
    run_sweep(tool("a"))
    folder = tool().folder
    (folder / "a.1.json").unlink()
    interrupted = tool("b")
    interrupted.interrupt_at = 5
    with pytest.raises(KeyboardInterrupt):
        run_sweep(interrupted)
    before = names_of(folder)
    asked = tool("a", "b", "elsewhere", "absent", "wrong", resume=True)
    foreseen, failures = foresee_sweep(asked)
    assert names_of(folder) == before
    assert asked.calls == ["begin"]
    assert failures.reasons == foreseen.failed == {"wrong": "unknown network"}
    assert [(job.name, job.state, job.cost and job.cost.seconds) for job in foreseen.jobs] == [
        ("a.0", "finished: keep", None),
        ("a.1", "measure what is saved", None),
        ("b.0", "continue after image 4 of 8", 4.0),
        ("b.1", "compute", 8.0),
        ("elsewhere.0", "compute", 8.0),
        ("elsewhere.1", "compute", 8.0),
        ("absent", "leave out", None),
    ]
    assert list(foreseen.files) == [folder / "all.csv"]
    (folder / "elsewhere.0.json").write_text("")
    foreseen, _ = foresee_sweep(tool("elsewhere", resume=True))
    assert foreseen.jobs[0].state == "compute, or keep what is there: known when the weights are downloaded"
    _, failures = foresee_sweep(replace_options(asked, seed=1))
    assert "of another configuration" in failures.reasons["a.0"]


def replace_options(tool: Counting, **changes) -> Counting:
    tool.config = replace(tool.config, **changes)
    return tool


def test_a_folder_that_cannot_be_written_is_refused_before_anything_begins(tmp_path):
    (tmp_path / "file").write_text("")
    tool = Counting(tmp_path / "file" / "out", "a", output=tmp_path / "file" / "out")
    for work in (run_sweep, foresee_sweep):
        with pytest.raises(
            UserError, match=r"cannot write .*out: .*file is not a folder; name a folder you may write to"
        ):
            work(tool)
    assert tool.calls == []


def test_it_is_said_where_files_go_and_that_a_network_is_built(tmp_path, caplog):
    tool = Counting(tmp_path, "a", "b", output=tmp_path)
    with caplog.at_level("INFO"):
        run_sweep(tool)
    said = [line for line in caplog.messages if "go to" in line or "building" in line]
    assert said == [
        f"results go to {tmp_path}",
        "a.0: building the network",
        "b.0: building the network",
    ]
