"""Hands shards to a crew, and finds out which file is to blame where workers die."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from service.offline.bulk.errors import BulkError
from service.offline.bulk.shards import Mark, Shard, Summary
from service.offline.bulk.worker import Task
from service.offline.bulk.worker_pool import Broken, BulkWorkerPool, Lost

_LOOK_S = 0.25
"""How often whoever watches is told."""
_MOST_EARLY_DEATHS = 3
_MOST_DEATHS = 2
"""A file at which so many workers have died, the last time alone, is left out."""
_MOST_IN_COMPANY = 4
"""Files that kill workers together, though none does alone, are left out after so many deaths."""


class Watcher(Protocol):
    """Told how it goes."""

    def working(self, under_way: Sequence[Shard]) -> None:
        """Called several times a second."""

    def finished(self, shard: Shard, summary: Summary) -> None:
        """A shard is done."""

    def lost(self, shard: Shard, how: str) -> None:
        """A worker died at a shard, which will be done again."""


class ShardScheduler:
    """Has the shards done. folder: of the results."""

    def __init__(self, folder: Path, pool: BulkWorkerPool, watcher: Watcher) -> None:
        self._folder = folder
        self._pool = pool
        self._watcher = watcher

    def work(self, shards: Sequence[Shard]) -> None:
        """Videos first, the largest at the very first, so that nobody waits for one at the end.

        Raises BulkError where workers cannot work at all.
        """
        waiting = deque(Case(shard) for shard in sorted(shards, key=_haste))
        busy: dict[int, Case] = {}
        while waiting or busy:
            for worker in range(self._pool.size):
                if waiting and worker not in busy:
                    case = busy[worker] = waiting.popleft()
                    case.shard.mark(self._folder).unlink(missing_ok=True)
                    self._pool.give(worker, case.task())
            self._watcher.working([case.shard for case in busy.values()])
            for worker, outcome in self._pool.wait(_LOOK_S).items():
                case = busy.pop(worker)
                match outcome:
                    case Summary():
                        self._watcher.finished(case.shard, outcome)
                    case Broken():
                        raise BulkError(outcome.why)
                    case Lost():
                        self._watcher.lost(case.shard, outcome.how)
                        case.learn(Mark.read(case.shard.mark(self._folder)), outcome.how)
                        waiting.appendleft(case)


def _haste(shard: Shard) -> tuple[bool, int, int]:
    return not shard.video, -sum(entry.size for entry in shard.entries) if shard.video else 0, shard.number


@dataclass(slots=True)
class Case:
    """A shard and what is known of the deaths at it."""

    shard: Shard
    early: int = 0
    deaths: Counter[int] = field(default_factory=Counter)
    without: set[int] = field(default_factory=set)

    def task(self) -> Task:
        """What to do of it: files at which a worker died are tried alone first."""
        return Task(self.shard, frozenset(self.without), frozenset(self.deaths) - self.without)

    def learn(self, mark: Mark | None, how: str) -> None:
        """A worker died at `mark`. Raises BulkError where that happens again and again before there is any."""
        if mark is None or not mark.at:
            self.early += 1
            if self.early == _MOST_EARLY_DEATHS:
                raise BulkError(f"{self.early} workers died before they began ({how}); is there enough memory?")
            return
        self.early = 0
        self.deaths.update(mark.at)
        alone = len(mark.at) == 1 and self.deaths[mark.at[0]] >= _MOST_DEATHS
        if alone or min(self.deaths[number] for number in mark.at) >= _MOST_IN_COMPANY:
            self.without.update(mark.at)
