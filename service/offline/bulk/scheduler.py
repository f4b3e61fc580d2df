"""Distributing shards to workers, finding the files that kill workers, and showing the progress."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.offline.bulk.errors import BulkError
from service.offline.bulk.shards import Mark, Shard, Summary
from service.offline.bulk.worker import Task
from service.offline.bulk.worker_pool import Broken, BulkWorkerPool, Lost

_POLL_S = 0.25
"""Interval of progress updates."""
_MOST_EARLY_DEATHS = 3
_MOST_DEATHS = 2
"""Workers that may die at a file, the last time while they process it alone, before it is left out."""
_MOST_GROUP_DEATHS = 4
"""Workers that may die at a group of files, none of which kills a worker alone, before the group is left out."""
_BAR = 24
_LONGEST_NAME = 32
_MOST_BARS = 16


def work(shards: Sequence[Shard], pool: BulkWorkerPool, progress: BulkProgress) -> None:
    """Process all shards: first the videos, largest first, so that no large one is left for the end.

    Raises BulkError if the workers cannot work at all.
    """

    def order(shard: Shard) -> tuple[bool, int, int]:
        return not shard.video, -sum(entry.size for entry in shard.entries) if shard.video else 0, shard.number

    waiting = deque(Case(shard) for shard in sorted(shards, key=order))
    busy: dict[int, Case] = {}
    while waiting or busy:
        for worker in range(pool.size):
            if waiting and worker not in busy:
                case = busy[worker] = waiting.popleft()
                case.shard.file(progress.folder, ".at").unlink(missing_ok=True)
                pool.give(worker, case.task())
        progress.working([case.shard for case in busy.values()])
        for worker, outcome in pool.wait(_POLL_S).items():
            case = busy.pop(worker)
            match outcome:
                case Summary():
                    progress.finished(case.shard, outcome)
                case Broken():
                    raise BulkError(outcome.why)
                case Lost():
                    progress.lost(case.shard, outcome.how)
                    case.learn(Mark.read(case.shard.file(progress.folder, ".at")), outcome.how)
                    waiting.appendleft(case)


@dataclass(slots=True)
class Case:
    """A shard, and the deaths of workers at it. without: entries to leave out."""

    shard: Shard
    early: int = 0
    deaths: Counter[int] = field(default_factory=Counter)
    without: set[int] = field(default_factory=set)

    def task(self) -> Task:
        """The next task. Files at which a worker died are first tried alone."""
        return Task(self.shard, frozenset(self.without), frozenset(self.deaths) - self.without)

    def learn(self, mark: Mark | None, how: str) -> None:
        """Record that a worker died at `mark`. Raises BulkError if workers repeatedly die before their first mark."""
        if mark is None or not mark.at:
            self.early += 1
            if self.early == _MOST_EARLY_DEATHS:
                raise BulkError(f"{self.early} workers died before they began ({how}); is there enough memory?")
            return
        self.early = 0
        self.deaths.update(mark.at)
        alone = len(mark.at) == 1 and self.deaths[mark.at[0]] >= _MOST_DEATHS
        if alone or min(self.deaths[number] for number in mark.at) >= _MOST_GROUP_DEATHS:
            self.without.update(mark.at)


@dataclass(slots=True)
class BulkProgress:
    """Shows the progress: bars on a terminal, otherwise a line per shard. done: number of finished shards.

    folder: the folder of results. shards: number of all shards. say: writes to the user. terminal: draw bars.
    """

    folder: Path
    shards: int
    done: int
    say: Callable[[str], None]
    terminal: bool
    _drawn: int = field(default=0, init=False)

    def working(self, under_way: Sequence[Shard]) -> None:
        """Redraw the bars of the current shards. Called several times a second."""
        if not self.terminal:
            return
        lines = [bar(shard, Mark.read(shard.file(self.folder, ".at"))) for shard in under_way[:_MOST_BARS]]
        self.end()
        self.say("".join(f"{line}\x1b[K\n" for line in [*lines, f"{self.done} of {self.shards} shards"]))
        self._drawn = len(lines) + 1

    def finished(self, shard: Shard, summary: Summary) -> None:
        """Report that a shard is done."""
        self.done += 1
        what = f"{summary.frames} frames" if shard.video else f"{summary.images} images"
        failed = f", {len(summary.failures)} failed" if summary.failures else ""
        self._line(f"{self.done} of {self.shards}: {shard.name}: {what}, {summary.people} people{failed}")

    def lost(self, shard: Shard, how: str) -> None:
        """Report that a worker died at a shard, which will be done again."""
        self._line(f"a worker died at {shard.name} ({how}); another one does it again")

    def _line(self, text: str) -> None:
        self.end()
        self.say(text + "\n")

    def end(self) -> None:
        """Remove the bars."""
        if self._drawn:
            self.say(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0


def bar(shard: Shard, mark: Mark | None) -> str:
    """A line with a bar that shows how much of a shard is done."""
    name = shard.name[-_LONGEST_NAME:]
    if mark is None:
        return f"{name:<{_LONGEST_NAME}} begins"
    share = min(1.0, mark.done / mark.of) if mark.of else 0.0
    filled = round(share * _BAR)
    return f"{name:<{_LONGEST_NAME}} [{'#' * filled}{'-' * (_BAR - filled)}] {mark.done}/{mark.of or '?'}"
