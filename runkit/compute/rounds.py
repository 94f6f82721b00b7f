"""The long loop of both tools: rounds of images over one or many ranks, with progress that survives an interruption."""

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
from runkit.compute.ranks import World, count_cores
from runkit.progress import SaveClock, SavedProgress

__all__ = ["Loop", "Packed"]

_logger = logging.getLogger(__name__)
_LOOKAHEAD = 3
"""Batches read ahead of the network."""
_MOST_READERS = 8
"""Threads that read; each takes one item at a time, so that a large batch is read by all of them."""

Packed = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]
"""A state as a progress file holds it: arrays, and what goes into its head."""
_Item = TypeVar("_Item")
_Read = TypeVar("_Read")
_Outcome = TypeVar("_Outcome")
_State = TypeVar("_State")


class Loop:
    """The loop of one run: which ranks share it, what it goes on from, where its progress is kept, how it went.

    Args:
        label: Name of the network, shown next to the progress bar and in messages.
        batch_size: Images of a rank in a round; None takes that of the saved progress, or what `run` says fits.
        world: The ranks; None for this process alone.
        saved: Progress to go on from.
        keep: Called on rank 0 with the arrays and the head of a progress file: every minute or ten rounds, at the end,
            and when the run is interrupted.
        show: Whether to show a progress bar on stderr, with images per second and time left.

    Attributes:
        batch_size: As given or found; after a run that was short of memory, the size that it ended with on this rank.
        started: When the loop was made.
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
        """Time since the loop was made, earlier parts of an interrupted run included."""
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
        """Work on the items in rounds of a batch for each rank, and add up the outcomes in the order of the items.

        Args:
            state: What is known after `done` items; never changed, only replaced, so that an interruption finds it
                whole.
            items: All items of the run, the same on every rank.
            done: Items that are dealt with already.
            read: Loads items; called in threads, ahead of the network.
            work: Outcomes of what `read` gave, one for each item; gets fewer at a time when memory does not suffice.
            add: The state after the outcomes of one more round; called on rank 0.
            pack: A state as the progress file holds it; batch size and seconds are added to its head.
            fitting: How many items fit at a time, where nothing else decides the batch size; called on rank 0.
            enough: Whether a state needs no more items, asked before each round on rank 0; None to take all items.

        Returns: On rank 0 the state after the last item, or the first that is enough; on the others the state they
            came with.
        Raises: UserError if memory does not suffice for one item; RunStopped if another rank is no more.
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
        """Threads, two or as many as this rank has cores."""
        cores = count_cores() // self.world.size
        return ThreadPoolExecutor(min(max(cores, 2), _MOST_READERS), thread_name_prefix="read")

    def _bar(self, total: int, done: int) -> tqdm:
        hidden = not (self._show and self.world.main) or is_quiet()
        return tqdm(total=total, initial=done, desc=self.label, unit="image", smoothing=0.1, disable=hidden)


_Reading = list[Future[Sequence[_Read]]]  # the items of a batch, each on its way


def _work_on(batch: _Reading[_Read], work: Callable[[Sequence[_Read]], Sequence[_Outcome]]) -> Sequence[_Outcome]:
    return work([item for one in batch for item in one.result()])


def _read_ahead(
    pool: ThreadPoolExecutor, read: Callable[[Sequence[_Item]], Sequence[_Read]], shares: Iterable[Sequence[_Item]]
) -> Iterator[_Reading[_Read]]:
    """What `read` gives for the items of each share, in order, while the next ones are on their way."""
    waiting: deque[_Reading[_Read]] = deque()
    for share in shares:
        waiting.append([pool.submit(read, [item]) for item in share])
        if len(waiting) > _LOOKAHEAD:
            yield waiting.popleft()
    yield from waiting
