"""The course of a run, which is the same for all tools.

A tool defines hooks (`Tool`), and `run_sweep` calls them for every requested network:

    list the jobs -> is a result finished? -> are the network's outputs saved? -> is there progress? -> compute
    -> save the outputs -> measure and write -> discard the progress -> say where the files are

A job is one result: one network with its weights, and whatever else determines its files. The identity of a job is all
that determines the result. A result on disk with another identity is refused unless `--overwrite` is given. Under
torchrun, the ranks share the images of a job. The hooks are called on the right ranks, so a tool need not care.

This module does not load torch before a network has to run.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from runkit.checkpoint_files import refuse_no_checkpoint
from runkit.console import Failures, UserError, about
from runkit.content import SkippedNetwork
from runkit.cost import Cost
from runkit.files import refuse_unwritable
from runkit.options import RunOptions
from runkit.progress import SavedProgress, discard_progress, find_progress, save_progress
from runkit.provenance import list_differences

if TYPE_CHECKING:  # these load torch
    import torch

    from runkit.compute.ranks import World
    from runkit.compute.rounds import Loop

__all__ = ["Job", "LeftOut", "OnDisk", "Preview", "Swept", "Tool", "is_kept", "run_sweep"]

_logger = logging.getLogger(__name__)


class Job(Protocol):
    """One result of a run."""

    @property
    def name(self) -> str:
        """Name of the job in messages."""


class LeftOut(UserError):
    """The network is left out of the run. It is listed as skipped, not as failed. The message says why."""


_Job = TypeVar("_Job", bound=Job)
_Network = TypeVar("_Network")
_State = TypeVar("_State")
_Outputs = TypeVar("_Outputs")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Preview(Generic[_Job]):
    """A job as far as a dry run knows it.

    Attributes:
        job: The job. Its weights may be a stand-in for those that would be downloaded.
        weights: Where the weights would come from, in words.
        unknown: What must be downloaded before the identity is known, in words such as "weights"; empty if it is known.
    """

    job: _Job
    weights: str
    unknown: str = ""


class Tool(ABC, Generic[_Job, _Network, _State, _Outputs, _Result]):
    """The hooks of a tool.

    `begin`, `list_jobs`, `load_network` and `compute` are called on every rank. The first two run on rank 0 before the
    other ranks, since they may download. All other hooks are called on rank 0 only. Each may raise `UserError`.
    """

    config: RunOptions
    program: str
    """Name of the command in messages and provenance, such as `erf.visualize`."""
    verb: str = "compute"
    """Verb with which a dry run describes what would be done with a network."""

    # requests and checks

    def refuse_early(self) -> None:
        """Refuse mistakes that can be detected without PyTorch, which takes seconds to load. Called on every rank.

        Raises: UserError for a mistake that affects all networks.
        """

    def check_jobs(self, jobs: Sequence[_Job], missing: Sequence[str]) -> None:
        """Refuse jobs or options that do not fit together, before the first job is computed. Called on every rank.

        Args:
            jobs: All jobs.
            missing: Requested networks without jobs, since they failed or were left out.
        Raises: UserError if two jobs have a file in common, or an option fits none of the jobs.
        """
        owners: dict[Path, _Job] = {}
        for job in jobs:
            for path in self.files(job):
                if path in owners:
                    raise UserError(
                        f"the files of {owners[path].name} and {job.name} would have the same name {path.name}; run "
                        "them one after the other, each with its own --output"
                    )
                owners[path] = job

    @abstractmethod
    def begin(self, device: "torch.device") -> None:
        """Set the device, find the inputs of all networks, and refuse mistakes that affect all networks."""

    def settle_precision(self, device: "torch.device", world: "World | None" = None) -> None:
        """Replace the precision `auto` by the one that is fast on the device. Called after `begin`.

        Args:
            world: Its ranks use what rank 0 has measured; None for this process alone.
        """
        from runkit.compute.precision import resolve_precision
        from runkit.compute.ranks import World

        settled = (world or World()).on_main(lambda: resolve_precision(self.config.precision, device))
        if settled != self.config.precision:
            _logger.info("precision auto: %s is the faster one on %s", settled, device)
            self.config = replace(self.config, precision=settled)

    @abstractmethod
    def list_jobs(self, name: str, weights: str) -> Sequence[_Job]:
        """The requested results of a network, with the weights that the option stands for. These may be downloaded.

        Raises: LeftOut if the network is left out of the run.
        """

    @abstractmethod
    def identify(self, job: _Job) -> Mapping[str, Any]:
        """What determines the outputs of the network. Two jobs with equal values have the same outputs."""

    def identify_result(self, job: _Job) -> Mapping[str, Any]:
        """What determines the result. It is more than `identify` if outputs are measured in several ways."""
        return self.identify(job)

    # files on disk

    @abstractmethod
    def files(self, job: _Job) -> Sequence[Path]:
        """The files of a job. Messages name the first one if a result is kept or refused."""

    @abstractmethod
    def progress_path(self, job: _Job) -> Path:
        """The progress file of the job."""

    @abstractmethod
    def find_finished(self, job: _Job) -> Mapping[str, Any] | None:
        """The identity (`identify_result`) of the finished result on disk; None if there is none."""

    def is_whole(self, job: _Job) -> bool:
        """Whether all files of a finished result exist. Called if `find_finished` returns the identity of this job.

        Raises: UserError if the files do not belong together.
        """
        return True

    @abstractmethod
    def read_result(self, job: _Job) -> _Result:
        """The finished result."""

    def outputs_path(self, job: _Job) -> Path:
        """The file of the network's outputs, if it is not part of the finished result."""
        return self.files(job)[0]

    def find_outputs(self, job: _Job) -> Mapping[str, Any] | None:
        """The identity of outputs on disk that have not been measured; None if there are none."""
        return None

    def load_outputs(self, job: _Job) -> _Outputs:
        """The outputs that `find_outputs` found."""
        raise NotImplementedError

    # computation

    def shared_network(self, job: _Job) -> object:
        """A value that is equal for consecutive jobs that share one loaded network; None if every job loads its own."""
        return None

    @abstractmethod
    def load_network(self, job: _Job) -> _Network:
        """Load the network of a job and prepare it on the device."""

    @abstractmethod
    def compute(self, job: _Job, network: _Network, loop: "Loop") -> _State:
        """Send the images through the network by `loop.run`, resuming from `loop.saved` unless that is None."""

    @abstractmethod
    def conclude(self, job: _Job, network: _Network, state: _State, loop: "Loop") -> _Outputs:
        """The outputs of the network, with their provenance.

        Raises: UserError if they are unusable. The progress is then discarded.
        """

    # writing

    @abstractmethod
    def save_outputs(self, job: _Job, outputs: _Outputs) -> None:
        """Write the outputs of the network, so that no later step needs the network again."""

    @abstractmethod
    def write_result(self, job: _Job, outputs: _Outputs) -> _Result:
        """Measure the outputs and write the rest of the job's files."""

    # hooks for dry runs

    @abstractmethod
    def begin_dry(self, device: "torch.device") -> None:
        """As `begin`, but nothing is downloaded."""

    @abstractmethod
    def preview_jobs(self, name: str, weights: str) -> "Sequence[Preview[_Job]]":
        """As `list_jobs`, but weights that would have to be downloaded stay unknown."""

    @abstractmethod
    def count_images(self, job: _Job) -> int:
        """Number of images of the job."""

    @abstractmethod
    def count_done(self, saved: SavedProgress) -> int:
        """Number of images that saved progress has processed."""

    @abstractmethod
    def estimate_cost(self, job: _Job, images: int) -> Cost:
        """Estimated cost of a number of images."""

    @abstractmethod
    def describe_inputs(self) -> str:
        """Description of the inputs of all networks."""

    basis: str
    """Description of the basis of the estimates of `estimate_cost`."""

    @abstractmethod
    def common_files(self, jobs: Sequence[_Job]) -> Sequence[Path]:
        """Files that are written for all jobs together."""


@dataclass(frozen=True)
class Swept(Generic[_Result]):
    """The outcome of a sweep.

    Attributes:
        results: Results in the requested order on rank 0; empty on the other ranks.
        failures: Networks that failed.
        skipped: Networks that were left out, with the reasons.
    """

    results: list[_Result]
    failures: Failures
    skipped: list[SkippedNetwork] = field(default_factory=list)


def run_sweep(tool: Tool[_Job, _Network, _State, _Outputs, _Result]) -> Swept[_Result]:
    """Run every requested network. A network that fails does not stop the others.

    Under torchrun, the ranks share the images, and only rank 0 reads and writes results.

    Raises: UserError for a mistake that affects all networks, or if the only network fails.
    """
    refuse_unwritable(tool.config.output, try_it="RANK" not in os.environ)  # of several ranks, the first tries below
    refuse_no_checkpoint(tool.config.weights)
    tool.refuse_early()
    from runkit.compute.device import choose_device
    from runkit.compute.ranks import joined_world

    device = choose_device(tool.config.device)
    with joined_world(device) as world:
        world.only_main(lambda: refuse_unwritable(tool.config.output))
        world.main_first(lambda: tool.begin(device))
        tool.settle_precision(device, world)
        return _Life(tool, world, device).run()


def is_kept(
    find: Callable[[], Mapping[str, Any] | None],
    identity: Mapping[str, Any],
    path: Path,
    run: RunOptions,
    *,
    is_whole: Callable[[], bool] = lambda: True,
) -> bool:
    """Whether what lies on disk belongs to this run and is kept.

    With `--overwrite` it is ignored. With `--resume` as well, it is kept if it belongs to this run, since the run that
    is being resumed may have written it.

    Args:
        find: Returns the identity of what lies on disk; None if there is nothing.
        identity: Identity of this run.
        path: Path to name in messages.
        is_whole: Whether it is complete; called if the identities agree.

    Raises: UserError if it belongs to another run, or `find` or `is_whole` refuses it, and `--overwrite` is off.
    """
    if run.overwrite and not run.resume:
        return False
    try:
        found = find()
        differences = [] if found is None else list_differences(found, identity)
        if differences:
            raise UserError(
                f"{path} is of another configuration ({'; '.join(differences)}); choose another --output, or "
                "--overwrite"
            )
        return found is not None and is_whole()
    except UserError:
        if run.overwrite:
            return False
        raise


class OnDisk(Generic[_Job, _Network, _State, _Outputs, _Result]):
    """Checks of what lies on disk for a tool's jobs, in the order of a run. Shared by runs and dry runs."""

    def __init__(self, tool: Tool[_Job, _Network, _State, _Outputs, _Result]):
        self.tool = tool

    def check(self, job: _Job) -> None:
        """Refuse a job now that would be refused when its turn comes.

        Raises: UserError as the methods below.
        """
        if not self.is_finished(job) and not self.has_outputs(job):
            self.find_progress(job)

    def is_finished(self, job: _Job) -> bool:
        """Raises: UserError as `is_kept`."""
        tool = self.tool
        return is_kept(
            partial(tool.find_finished, job),
            tool.identify_result(job),
            tool.files(job)[0],
            tool.config,
            is_whole=partial(tool.is_whole, job),
        )

    def has_outputs(self, job: _Job) -> bool:
        """Raises: UserError as `is_kept`."""
        tool = self.tool
        return is_kept(partial(tool.find_outputs, job), tool.identify(job), tool.outputs_path(job), tool.config)

    def find_progress(self, job: _Job) -> SavedProgress | None:
        """Raises: UserError as `runkit.progress.find_progress`."""
        tool, run = self.tool, self.tool.config
        path, identity = tool.progress_path(job), tool.identify(job)
        return find_progress(path, identity, resume=run.resume, overwrite=run.overwrite)


class _Life(OnDisk[_Job, _Network, _State, _Outputs, _Result]):
    """The course of all jobs of a run. Every method is called by all ranks alike."""

    def __init__(self, tool: Tool[_Job, _Network, _State, _Outputs, _Result], world: "World", device: "torch.device"):
        super().__init__(tool)
        self.world, self.device = world, device
        self.failures, self.skipped = Failures(), list[SkippedNetwork]()
        self._loaded: tuple[object, _Network] | None = None
        self._later: Sequence[_Job] = ()

    def run(self) -> Swept[_Result]:
        """Run all jobs. They are listed before the first is computed, so that refusals come before the long work."""
        asked, guard = self.tool.config.asked, self.failures.guard
        listed = [guard(name, partial(self.list_jobs, name, weights), alone=len(asked) == 1) for name, weights in asked]
        jobs = [job for of_network in listed for job in of_network or ()]
        alone = len(asked) == len(jobs) == 1
        missing = [name for (name, _), of_network in zip(asked, listed, strict=True) if not of_network]
        self.tool.check_jobs(jobs, missing)
        if folders := dict.fromkeys(str(self.tool.files(job)[0].parent) for job in jobs):
            _logger.info("results go to %s", ", ".join(folders))
        results = []
        for number, job in enumerate(jobs, start=1):
            self._later = jobs[number:]
            results.append(guard(job.name, partial(self.live, job), alone=alone))
            if self._loaded is not None and not self._is_shared(self._loaded[0]):
                self._loaded = None
        return Swept([result for result in results if result is not None], self.failures, self.skipped)

    def list_jobs(self, name: str, weights: str) -> Sequence[_Job]:
        """The jobs of a network; none if the network is left out.

        Raises: UserError if the files of a job are from another configuration, or hold an unfinished run.
        """
        try:
            jobs = self.world.main_first(lambda: self.tool.list_jobs(name, weights))
        except LeftOut as reason:
            _logger.warning("skipped: %s", about(name, reason))
            self.skipped.append({"model": name, "reason": str(reason)})
            return []
        for job in jobs:
            self.world.check_same(self.tool.identify(job))
            self.world.only_main(partial(self.check, job))
        return jobs

    def live(self, job: _Job) -> _Result | None:
        """Carry out one job from beginning to end. Returns its result on rank 0."""
        tool, only_main = self.tool, self.world.only_main
        if self.world.on_main(partial(self.is_finished, job)):
            _logger.info(
                "%s: %s is finished already and is kept; --overwrite computes it again", job.name, tool.files(job)[0]
            )
            result = only_main(lambda: tool.read_result(job))
        else:
            outputs = self._outputs(job)
            result = only_main(lambda: tool.write_result(job, outputs))  # type: ignore[arg-type]  # rank 0 has them
            _logger.info("%s: wrote %s", job.name, ", ".join(map(str, tool.files(job))))
        only_main(lambda: discard_progress(tool.progress_path(job), tool.identify(job)))
        return result

    def _outputs(self, job: _Job) -> _Outputs | None:
        """The outputs of the network on rank 0: loaded if they were saved before, otherwise computed and saved."""
        tool, only_main = self.tool, self.world.only_main
        if self.world.on_main(partial(self.has_outputs, job)):
            _logger.info("%s: measuring what is saved in %s", job.name, tool.outputs_path(job))
            return only_main(lambda: tool.load_outputs(job))
        outputs = self._compute(job)
        only_main(lambda: tool.save_outputs(job, outputs))  # type: ignore[arg-type]
        return outputs

    def _compute(self, job: _Job) -> _Outputs | None:
        """Run the network, resuming from saved progress."""
        from runkit.compute.memory import reset_peak_memory
        from runkit.compute.rounds import Loop

        tool, world = self.tool, self.world
        path, identity = tool.progress_path(job), tool.identify(job)
        saved = world.on_main(partial(self.find_progress, job))
        reset_peak_memory(self.device)
        loop = Loop(
            job.name,
            batch_size=tool.config.batch_size,
            world=world,
            saved=saved,
            keep=partial(save_progress, path, identity),
            show=True,
        )
        network = world.together(partial(self._network, job))
        state = tool.compute(job, network, loop)
        try:
            return world.only_main(lambda: tool.conclude(job, network, state, loop))
        except UserError:  # all images have been processed, so there is nothing to resume
            world.only_main(lambda: discard_progress(path, identity))
            raise

    def _is_shared(self, network: object) -> bool:
        """Whether the next job runs on the same network."""
        return network is not None and bool(self._later) and self.tool.shared_network(self._later[0]) == network

    def _network(self, job: _Job) -> _Network:
        """The network of a job: the loaded one if it serves this job, else a new one; kept only for the next job."""
        shared, loaded = self.tool.shared_network(job), self._loaded
        self._loaded = None
        if loaded is None or shared is None or loaded[0] != shared:
            loaded = None  # frees its memory before the next network is loaded
            _logger.info("%s: building the network", job.name)
            loaded = (shared, self.tool.load_network(job))
        if self._is_shared(shared):
            self._loaded = loaded
        return loaded[1]
