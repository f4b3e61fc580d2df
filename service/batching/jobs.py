"""One call of `submit`: the items it brought and what it awaits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.batching.fair_queue import WorkItem

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Served(Generic[R]):
    """A result, and what it took.

    queued_s: seconds from the item's arrival to the start of the run that gave its result. ran_s: seconds of that run.
    batch: the number of items that ran with it, itself included.
    """

    value: R
    queued_s: float
    ran_s: float
    batch: int


Outcome = Served[R] | Exception
"""How a run ended for one item."""


class Submission(Generic[R]):
    """What one call awaits: the results of all its jobs in their order, or the first error.

    Belongs to the event loop; other threads read `done` only. It does not know its jobs, as they know it: images should
    go as soon as nobody needs them, not when the garbage collector finds a cycle.
    """

    __slots__ = ("_served", "future", "missing")

    def __init__(self, future: asyncio.Future[list[Served[R]]], jobs: int) -> None:
        self.future = future
        self.missing = jobs
        self._served: dict[int, Served[R]] = {}

    @property
    def done(self) -> bool:
        """Whether nobody waits any more."""
        return self.future.done()

    def settle(self, index: int, outcome: Outcome[R]) -> None:
        """Note how a job ended. The last result completes the call, and the first error; what comes later is lost."""
        if self.future.done():
            return
        if not isinstance(outcome, Served):
            self.future.set_exception(outcome)
            return
        self._served[index] = outcome
        self.missing -= 1
        if not self.missing:
            self.future.set_result([self._served[i] for i in range(len(self._served))])

    def fail(self, error: Exception) -> None:
        """End the call with an error that concerns all of its jobs, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class QueuedItem(WorkItem, Generic[T, R]):
    """One submitted item, the `index`-th of its call."""

    item: T
    ticket: Submission[R]
    index: int
