"""Deterministic batches, for work whose results must be the same to the last bit in every run.

A network's result for an item can differ in the last bits with the size of its batch and its position in it, and a
Batcher's batches depend on timing. Here a group of coroutines passes the queues in lockstep: a queue begins only when
every member of the group waits at one or has ended, and its batches are filled in the order of the members.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Generic, TypeVar

from service.batching.batcher import Batcher
from service.batching.types import BatchResult, R, T
from service.batching.worker import Run

M = TypeVar("M")


async def run_in_lockstep(members: Sequence[Coroutine[Any, Any, M]]) -> list[M | BaseException]:
    """Run coroutines as a group. Returns the result or the exception of each, in order.

    One group may run at a time, and a member may wait at only one queue at a time.
    """
    return await _Group().run(members)


class LockstepBatcher(Batcher[T, R]):
    """A Batcher that the members of a group pass in lockstep. Other callers use it as any Batcher."""

    def __init__(self, run: Run[T, R], **options: Any) -> None:
        """Like Batcher, but with one worker: with several, the division of work would depend on timing."""
        super().__init__(run, **(options | {"workers": 1}))

    def reshape(self, max_batch: int, batch_sizes: Sequence[int], workers: int) -> None:  # noqa: ARG002
        """Like Batcher.reshape, but the number of workers stays 1."""
        super().reshape(max_batch, batch_sizes, 1)

    async def submit_all(self, items: Sequence[T], **options: Any) -> list[BatchResult[R]]:
        """See `Batcher.submit_all`. All members of a group must pass the same options."""
        submit = super().submit_all
        member = _member.get()
        if member is None or not items:
            return await submit(items, **options)
        results = asyncio.get_running_loop().create_future()
        call = _Call(member.number, self.name, items, lambda batch: submit(batch, **options), results)
        return await member.group.wait(call)


@dataclass(frozen=True, slots=True, eq=False)
class _Call(Generic[T, R]):
    """A member's call of `submit_all`."""

    member: int
    queue: str
    items: Sequence[T]
    submit: Callable[[Sequence[T]], Awaitable[list[BatchResult[R]]]]
    results: asyncio.Future[list[BatchResult[R]]]


class _Group:
    """Coroutines in lockstep. `_running`: the number of members that neither wait at a queue nor have ended."""

    def __init__(self) -> None:
        self._running = 0
        self._waiting: list[_Call[Any, Any]] = []
        self._all_waiting = asyncio.Event()

    async def run(self, members: Sequence[Coroutine[Any, Any, M]]) -> list[M | BaseException]:
        self._running = len(members)
        tasks = [asyncio.create_task(self._run_member(n, member)) for n, member in enumerate(members)]
        try:
            while tasks:
                await self._all_waiting.wait()
                self._all_waiting.clear()
                if not self._waiting:
                    break
                calls = sorted(self._waiting, key=attrgetter("queue", "member"))
                self._waiting.clear()
                self._running = len(calls)
                for _, same_queue in groupby(calls, attrgetter("queue")):
                    await self._serve(list(same_queue))
        finally:
            for task in tasks:
                task.cancel()  # no effect on tasks that have ended
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        return ended

    async def wait(self, call: _Call[T, R]) -> list[BatchResult[R]]:
        self._waiting.append(call)
        self._pause()
        return await call.results

    async def _run_member(self, number: int, member: Coroutine[Any, Any, M]) -> M:
        _member.set(_Member(self, number))
        try:
            return await member
        finally:
            self._pause()

    def _pause(self) -> None:
        """Record that a member waits or has ended."""
        self._running -= 1
        if not self._running:
            self._all_waiting.set()

    async def _serve(self, calls: Sequence[_Call[T, R]]) -> None:
        """Submit the items of all calls together. If that fails, submit each call, so that only the culprit fails."""
        together = [item for call in calls for item in call.items]
        [results] = await asyncio.gather(calls[0].submit(together), return_exceptions=True)
        for call in calls:
            if isinstance(results, BaseException):
                [own] = await asyncio.gather(call.submit(call.items), return_exceptions=True)
            else:
                own, results = results[: len(call.items)], results[len(call.items) :]
            if isinstance(own, BaseException):
                call.results.set_exception(own)
            else:
                call.results.set_result(own)


@dataclass(frozen=True, slots=True)
class _Member:
    group: _Group
    number: int


_member: ContextVar[_Member | None] = ContextVar("posewire-member", default=None)
