"""Batches that do not depend on who comes when, for work that must give the same to the last bit however it went.

What a network says of an item can differ in the last bits with the size of its batch and its place in it, and a
Batcher's batches depend on timing. Here a group of coroutines goes through the queues in step: a queue begins once
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
from service.batching.jobs import R, Served, T
from service.batching.worker import Run

M = TypeVar("M")


async def in_step(members: Sequence[Coroutine[Any, Any, M]]) -> list[M | BaseException]:
    """What each of `members` returned or raised, in order. One group at a time; a member waits at one queue at once."""
    return await _Group().lead(members)


class SteppedBatcher(Batcher[T, R]):
    """A Batcher that a group of coroutines passes in step, and anybody else as any other."""

    def __init__(self, run: Run[T, R], **options: Any) -> None:
        """As Batcher, but with one worker: several would share what waits by how busy they are."""
        super().__init__(run, **(options | {"workers": 1}))

    def reshape(self, max_batch: int, batch_sizes: Sequence[int], workers: int) -> None:  # noqa: ARG002
        """As Batcher.reshape, but it stays at one worker."""
        super().reshape(max_batch, batch_sizes, 1)

    async def submit_all(self, items: Sequence[T], **how: Any) -> list[Served[R]]:
        """See `Batcher.submit_all`; the members of a group ask alike."""
        submit = super().submit_all
        member = _member.get()
        if member is None or not items:
            return await submit(items, **how)
        served = asyncio.get_running_loop().create_future()
        call = _Call(member.number, self.name, items, lambda those: submit(those, **how), served)
        return await member.group.wait(call)


@dataclass(frozen=True, slots=True, eq=False)
class _Call(Generic[T, R]):
    """What a member waits for."""

    member: int
    queue: str
    items: Sequence[T]
    submit: Callable[[Sequence[T]], Awaitable[list[Served[R]]]]
    served: asyncio.Future[list[Served[R]]]


class _Group:
    """Coroutines in step. `_moving`: how many are neither at a queue nor at their end."""

    def __init__(self) -> None:
        self._moving = 0
        self._waiting: list[_Call[Any, Any]] = []
        self._still = asyncio.Event()

    async def lead(self, members: Sequence[Coroutine[Any, Any, M]]) -> list[M | BaseException]:
        self._moving = len(members)
        tasks = [asyncio.create_task(self._follow(n, member)) for n, member in enumerate(members)]
        try:
            while tasks:
                await self._still.wait()
                self._still.clear()
                if not self._waiting:
                    break
                calls = sorted(self._waiting, key=attrgetter("queue", "member"))
                self._waiting.clear()
                self._moving = len(calls)
                for _, alike in groupby(calls, attrgetter("queue")):
                    await self._serve(list(alike))
        finally:
            for task in tasks:
                task.cancel()  # nothing to those that have ended
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        return ended

    async def wait(self, call: _Call[T, R]) -> list[Served[R]]:
        self._waiting.append(call)
        self._stop()
        return await call.served

    async def _follow(self, number: int, member: Coroutine[Any, Any, M]) -> M:
        _member.set(_Member(self, number))
        try:
            return await member
        finally:
            self._stop()

    def _stop(self) -> None:
        self._moving -= 1
        if not self._moving:
            self._still.set()

    async def _serve(self, calls: Sequence[_Call[T, R]]) -> None:
        """Run the items of all calls together; if that fails, call by call, so that the culprit fails alone."""
        together = [item for call in calls for item in call.items]
        [served] = await asyncio.gather(calls[0].submit(together), return_exceptions=True)
        for call in calls:
            if isinstance(served, BaseException):
                [alone] = await asyncio.gather(call.submit(call.items), return_exceptions=True)
            else:
                alone, served = served[: len(call.items)], served[len(call.items) :]
            if isinstance(alone, BaseException):
                call.served.set_exception(alone)
            else:
                call.served.set_result(alone)


@dataclass(frozen=True, slots=True)
class _Member:
    group: _Group
    number: int


_member: ContextVar[_Member | None] = ContextVar("posewire-member", default=None)
