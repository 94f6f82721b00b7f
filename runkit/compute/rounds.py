"""The main loop of both tools: rounds of images on one or many ranks, with progress that survives an interruption."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from runkit import RunStopped, is_quiet
from runkit.compute.memory import Batches
from runkit.compute.ranks import World, cores_of_rank
from runkit.progress import SaveClock, SavedProgress

__all__ = ["Loop", "Packed"]

_logger = logging.getLogger(__name__)
_LOOKAHEAD = 3
"""Number of batches that are read ahead of the network."""
_MOST_READERS = 8
"""Maximum number of reading threads. Each takes one item at a time, so that all of them work on a large batch."""

Packed = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]
"""A state in the form in which a progress file stores it: arrays, and the entries for its head."""
_Item = TypeVar("_Item")
_Read = TypeVar("_Read")
_Outcome = TypeVar("_Outcome")
_State = TypeVar("_State")


class Loop:
    """The loop of one run: the ranks that share it, the progress it resumes from, and how it saves its own progress.

    Args:
        label: Name of the network, shown next to the progress bar and in messages.
        batch_size: Images of a rank in each round. None takes that of the saved progress, or the number that `run`
            finds to fit.
        world: The ranks; None for this process alone.
        saved: Progress to resume from.
        keep: Called on rank 0 with the arrays and the head of a progress file: every minute or ten rounds, at the end,
            and when the run is interrupted.
        show: Whether to show a progress bar on stderr, with images per second and time left.

    Attributes:
        batch_size: As given or found. After a run that ran short of memory, the size with which it ended on this rank.
        started: Time at which the loop was created.
        images_per_second: Rate of the last `run`, over all ranks; 0 before it.
    """

    def __init__(
        self,
        label: str = "the network",
        *,
        batch_size: int | None = 1,
        world: World | None = None,
        saved: SavedProgress | None = None,
        keep: Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], None] | None = None,
        show: bool = False,
    ):
        self.label, self.saved = label, saved
        self.batch_size = batch_size if batch_size is not None or saved is None else int(saved.head["batch_size"])
        self.world = world or World()
        self.started, self.images_per_second = datetime.now(timezone.utc), 0.0
        self._keep, self._show = keep, show
        self._seconds_before = saved.head["seconds"] if saved else 0.0
        self._clock = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time since the loop was created, plus that of earlier parts of an interrupted run."""
        return self._seconds_before + time.perf_counter() - self._clock

    def run(
        self,
        state: _State,
        items: Sequence[_Item],
        *,
        done: int,
        read: Callable[[Sequence[_Item]], Sequence[_Read]],
        work: Callable[[Sequence[_Read]], Sequence[_Outcome]],
        add: Callable[[_State, list[_Outcome]], _State],
        pack: Callable[[_State], Packed],
        fitting: Callable[[], int],
        enough: Callable[[_State], bool] | None = None,
    ) -> _State:
        """Process the items in rounds of one batch per rank, and add up the outcomes in the order of the items.

        Args:
            state: The state after `done` items. It is replaced, never modified, so that an interruption always finds a
                complete state.
            items: All items of the run, the same on every rank.
            done: Number of items that have been processed already.
            read: Loads items. Called in threads, ahead of the network.
            work: Returns one outcome for each item from `read`. It gets fewer at a time if memory does not suffice.
            add: Returns the state after the outcomes of another round. Called on rank 0.
            pack: Converts a state to the form of the progress file; batch size and seconds are added to its head.
            fitting: Returns how many items fit at a time, if nothing else determines the batch size. Called on rank 0.
            enough: Whether a state needs no more items. Called before each round on rank 0. None takes all items.

        Returns: On rank 0, the state after the last item, or the first state that is enough. On the other ranks, the
            state that they were given.
        Raises: UserError if memory does not suffice for one item; RunStopped if another rank no longer exists.
        """
        world = self.world
        if self.batch_size is None:
            self.batch_size = world.on_main(fitting)
        if done:
            _logger.info("%s: going on after image %d of %d", self.label, done, len(items))
        batches, clock, begun = Batches(self.batch_size, self.label), SaveClock(), time.perf_counter()
        together = self.batch_size * world.size
        rounds = [items[start : start + together] for start in range(done, len(items), together)]
        worked = 0
        with self._bar(len(items), done) as bar, self._readers() as pool:
            waiting = _read_ahead(pool, read, map(world.share, rounds))
            try:
                for chosen, batch in zip(rounds, waiting, strict=True):
                    if enough is not None and world.on_main(partial(enough, state)):
                        break
                    outcomes = world.collect(partial(_work_on, batch, partial(batches.run, work)))
                    self.batch_size = batches.size
                    worked += len(chosen)
                    if world.main:
                        state = add(state, outcomes)
                        bar.update(len(chosen))
                        clock.tick(partial(self._save, pack, state))
            except (KeyboardInterrupt, RunStopped):
                if world.main:
                    self._save(pack, state)
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        if world.main:
            self._save(pack, state)
        self.images_per_second = worked / (time.perf_counter() - begun)
        return state

    def _save(self, pack: Callable[[_State], Packed], state: _State) -> None:
        if self._keep is not None:
            arrays, head = pack(state)
            self._keep(arrays, {**head, "batch_size": self.batch_size, "seconds": self.seconds})

    def _readers(self) -> ThreadPoolExecutor:
        """Threads that read: one for each core of this rank, but at least two and at most `_MOST_READERS`."""
        return ThreadPoolExecutor(min(max(cores_of_rank(), 2), _MOST_READERS), thread_name_prefix="read")

    def _bar(self, total: int, done: int) -> tqdm:
        hidden = not (self._show and self.world.main) or is_quiet()
        return tqdm(total=total, initial=done, desc=self.label, unit="image", smoothing=0.1, disable=hidden)


_Reading = list[Future[Sequence[_Read]]]  # one future for each item of a batch


def _work_on(batch: _Reading[_Read], work: Callable[[Sequence[_Read]], Sequence[_Outcome]]) -> Sequence[_Outcome]:
    return work([item for one in batch for item in one.result()])


def _read_ahead(
    pool: ThreadPoolExecutor, read: Callable[[Sequence[_Item]], Sequence[_Read]], shares: Iterable[Sequence[_Item]]
) -> Iterator[_Reading[_Read]]:
    """Yield what `read` returns for the items of each share, in order, while the next shares are being read."""
    waiting: deque[_Reading[_Read]] = deque()
    for share in shares:
        waiting.append([pool.submit(read, [item]) for item in share])
        if len(waiting) > _LOOKAHEAD:
            yield waiting.popleft()
    yield from waiting
