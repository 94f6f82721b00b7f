"""The long loop of both tools: rounds of images over one or many ranks, with progress that survives an interruption."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from tqdm import tqdm

from runkit import RunStopped, is_quiet
from runkit.compute.ranks import World
from runkit.progress import SaveClock

__all__ = ["run_rounds"]

_LOOKAHEAD = 3
"""Batches read ahead of the network."""

_Item = TypeVar("_Item")
_Batch = TypeVar("_Batch")
_Outcome = TypeVar("_Outcome")
_State = TypeVar("_State")


def run_rounds(
    state: _State,
    items: Sequence[_Item],
    *,
    done: int,
    batch_size: int,
    world: World,
    read: Callable[[Sequence[_Item]], _Batch],
    work: Callable[[_Batch], Sequence[_Outcome]],
    add: Callable[[_State, list[_Outcome]], _State],
    save: Callable[[_State], None],
    label: str,
    bar: bool = True,
) -> _State:
    """Work on the items in rounds of a batch for each rank, and add up the outcomes in the order of the items.

    Args:
        state: What is known after `done` items; never changed, only replaced, so that an interruption finds it whole.
        items: All items of the run, the same on every rank.
        done: Items that are dealt with already.
        batch_size: Items of a rank in a round.
        world: The ranks.
        read: Loads this rank's items of a round; called in threads, ahead of the network.
        work: Outcomes of what `read` gave, one for each item.
        add: The state after the outcomes of one more round; called on rank 0.
        save: Keeps a state; called on rank 0 every minute or ten rounds, at the end, and when the run is interrupted.
        label: Shown beside the progress bar (on stderr, with images per second and time left).
        bar: Whether there is one.

    Returns: On rank 0 the state after the last item; on the others the state they came with.
    """
    clock = SaveClock()
    starts = range(done, len(items), batch_size * world.size)
    rounds = [items[start : start + batch_size * world.size] for start in starts]
    with (
        tqdm(
            total=len(items),
            initial=done,
            desc=label,
            unit="image",
            smoothing=0.1,
            disable=not (bar and world.main) or is_quiet(),
        ) as shown,
        ThreadPoolExecutor(max_workers=2, thread_name_prefix="read") as pool,
    ):
        batches = _read_ahead(pool, read, map(world.share, rounds))
        try:
            for chosen, batch in zip(rounds, batches, strict=True):
                outcomes = world.collect(partial(_work_on, batch, work))
                if world.main:
                    state = add(state, outcomes)
                    shown.update(len(chosen))
                    clock.tick(partial(save, state))
        except (KeyboardInterrupt, RunStopped):
            if world.main:
                save(state)
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    if world.main:
        save(state)
    return state


def _work_on(batch: Future[_Batch], work: Callable[[_Batch], Sequence[_Outcome]]) -> Sequence[_Outcome]:
    return work(batch.result())


def _read_ahead(
    pool: ThreadPoolExecutor, read: Callable[[Sequence[_Item]], _Batch], shares: Iterable[Sequence[_Item]]
) -> Iterator[Future[_Batch]]:
    """What `read` gives for each share, in order, while the next ones are on their way."""
    waiting: deque[Future[_Batch]] = deque()
    for share in shares:
        waiting.append(pool.submit(read, share))
        if len(waiting) > _LOOKAHEAD:
            yield waiting.popleft()
    yield from waiting
