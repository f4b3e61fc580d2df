"""The thread that owns the journal: what waits is written together, and nothing of it blocks the event loop."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from service.events.event import EventFilter, PublishedEvent
from service.events.journal import EventJournal, JournalGoneError, JournalLimits
from service.events.journal_file import set_aside

log = logging.getLogger(__name__)

_RETRY_S = 1.0
"""Seconds between two attempts to use a journal that failed."""
_ADD_S = 5.0
"""How long `add` waits for a disk that does not answer, once. After that it waits no more until the disk answers."""
_CLOSE_S = 2.0
_MOST_HELD = 2_000
"""Events in memory that are not yet in the journal, over all sources."""
_MOST_HELD_BYTES = 8_000_000
_EVENT_BYTES = 300
"""About what an event takes beside its data; the data are estimated by their text."""
_MOST_TOGETHER = 2_000
"""Calls in one transaction."""

Result = TypeVar("Result")


class JournalAwayError(Exception):
    """The journal cannot be used now."""


class EventsObserver:
    """Receives what happens to events. The methods do nothing; subclasses override them. Some are called on a thread
    of their own.
    """

    def journal(self, up: bool) -> None:
        """The journal can be used, or not any more."""

    def journaled(self, events: int) -> None:
        """Events came into the journal."""

    def delivered(self, sink: str, events: int) -> None:
        """A sink got events."""

    def failed_try(self, sink: str) -> None:
        """A sink could not be reached, or refused an event."""

    def dropped(self, sink: str, events: int, reason: str) -> None:
        """A sink has lost events. reason: `full`, `old`, `refused`, `memory`, `damaged` or `rate`."""

    def waiting(self, sink: str, events: int, oldest_seconds: float) -> None:
        """What waits for a sink."""


@dataclass(slots=True)
class _Call(Generic[Result]):
    """Something to do with the journal. changes: inside a transaction. events: to be added, instead of `work`."""

    work: Callable[[EventJournal], Result] | None
    changes: bool
    events: Sequence[PublishedEvent] = ()
    done: Future[Result] = field(default_factory=Future)


class JournalThread:
    """Owns a journal in `folder`. Its methods belong to one event loop.

    While the journal cannot be used, events are held in memory, up to a bound over all sources; it is tried again
    every second. A damaged one is set aside and replaced.
    """

    def __init__(
        self,
        folder: Path,
        limits: JournalLimits,
        observer: EventsObserver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        self.filters: Mapping[str, EventFilter] = {}
        self._folder = folder
        self._observer = observer
        self._clock = clock
        self._calls: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        # On the thread:
        self._journal: EventJournal | None = None
        self._up: bool | None = None
        self._retry_at = 0.0
        self._held: deque[PublishedEvent] = deque()
        self._waiting: dict[str, int] = {}
        # On both, with the lock:
        self._lock = threading.Lock()
        self._in_memory, self._bytes, self._slow = 0, 0, False
        self._lost: Counter[tuple[str, str]] = Counter()

    @property
    def held(self) -> int:
        """Events in memory that are not yet in the journal."""
        return self._in_memory

    def start(self) -> None:
        """Start the thread. It is a daemon, so that a disk that hangs does not keep the process from ending."""
        self._thread = threading.Thread(target=self._run, name="posewire-journal", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, and end the thread. It is left behind if the disk does not answer."""
        if self._thread is not None:
            self._closed = True
            self._calls.put(None)
            await asyncio.to_thread(self._thread.join, _CLOSE_S)
            if self._thread.is_alive():
                log.error("the journal of events has not been closed in time; the disk may hang")

    async def add(self, events: Sequence[PublishedEvent]) -> None:
        """Return once the journal has the events, or, while it cannot be used, once they are held in memory."""
        size = sum(map(_size, events))
        with self._lock:
            fits = (
                not self._closed
                and self._in_memory + len(events) <= _MOST_HELD
                and self._bytes + size <= _MOST_HELD_BYTES
            )
            if fits:
                self._in_memory += len(events)
                self._bytes += size
        if not fits:
            self._lose(events, "memory")
            return
        call: _Call[None] = _Call(None, True, events)
        self._calls.put(call)
        done = asyncio.wrap_future(call.done)
        if not self._slow:
            await asyncio.wait((done,), timeout=_ADD_S)
            if not done.done():
                self._slow = True
                self._note(up=False, error=TimeoutError("the disk does not answer"))

    def refuse(self, events: Sequence[PublishedEvent]) -> None:
        """Count events that are too many for their client. Sinks are not told, as that would be more to send."""
        for name, lost in self._wanted(events):
            self._observer.dropped(name, lost, "rate")

    async def read(self, work: Callable[[EventJournal], Result]) -> Result:
        """Call `work` on the thread. Raises JournalAwayError."""
        return await self._call(_Call(work, False))

    async def change(self, work: Callable[[EventJournal], Result]) -> Result:
        """Call `work` on the thread inside a transaction, which it shares with others. Raises JournalAwayError."""
        return await self._call(_Call(work, True))

    async def _call(self, call: _Call[Result]) -> Result:
        if self._closed:
            raise JournalAwayError("it is closed")
        self._calls.put(call)
        return await asyncio.wrap_future(call.done)

    def _lose(self, events: Iterable[PublishedEvent], reason: str) -> None:
        """Count events that never came into the journal. The sinks are told once it can be used."""
        for name, lost in self._wanted(events):
            with self._lock:
                self._lost[name, reason] += lost
            self._observer.dropped(name, lost, reason)

    def _wanted(self, events: Iterable[PublishedEvent]) -> Iterator[tuple[str, int]]:
        """The sinks that want some of these events, and how many."""
        about = [(event.kind, event.source) for event in events]
        for name, wanted in self.filters.items():
            if count := wanted.count(about):
                yield name, count

    # ---- on the thread

    def _run(self) -> None:
        ending = False
        while not ending:
            calls, ending = self._take()
            calls = self._read(calls)
            if self._up is False and time.monotonic() < self._retry_at and not ending:
                self._hold(calls, JournalAwayError("it could not be used a moment ago"))
            elif calls or self._held or self._lost or not self._up:
                self._write(calls)
        if self._journal is not None:
            self._journal.close()
        if self._held:
            log.error("%d events are lost, as the journal could not be used until the end", len(self._held))

    def _take(self) -> tuple[list[_Call[Any]], bool]:
        """Wait for calls, and return all that wait; and True if the thread should end.

        They cannot be cancelled any more. Those that were are left out.
        """
        calls: list[_Call[Any]] = []
        try:
            call = self._calls.get(timeout=None if self._up and not self._held else _RETRY_S)
            while call is not None:
                if call.done.set_running_or_notify_cancel():
                    calls.append(call)
                if len(calls) >= _MOST_TOGETHER:
                    return calls, False
                call = self._calls.get_nowait()
        except queue.Empty:
            return calls, False
        return calls, True

    def _read(self, calls: list[_Call[Any]]) -> list[_Call[Any]]:
        """Do the calls that only read, which a full disk does not prevent. Returns the others."""
        for call in calls:
            if call.work is None or call.changes:
                continue
            try:
                call.done.set_result(call.work(self._open()))
            except Exception as error:  # noqa: BLE001 - it is raised where the call is awaited
                self._fail([call], error)
        return [call for call in calls if not call.done.done()]

    def _write(self, calls: list[_Call[Any]]) -> None:
        """Do the other calls in one transaction, also with events that are held since it failed before."""
        try:
            journal, results = self._open(), {}
            with self._lock:
                lost = Counter(self._lost)
            with journal.changing():
                if not self._up:
                    journal.probe()
                for (name, reason), events in lost.items():
                    journal.lost(name, events, reason)
                added = [*self._held, *(event for call in calls for event in call.events)]
                new = journal.add(added)
                for n, call in enumerate(calls):
                    if call.work is not None:
                        results[n] = call.work(journal)
                losses = list(journal.losses)
            self._waiting = {name: status.waiting for name, status in journal.status().items()}
        except Exception as error:  # noqa: BLE001 - it is raised where the calls are awaited
            self._fail(calls, error)
            return
        self._forget(added, lost)
        self._slow = False
        self._note(up=True)
        self._observer.journaled(new)
        for sink, events, reason in losses:
            log.error("%d events for the sink %s are lost: %s", events, sink, REASONS[reason])
            self._observer.dropped(sink, events, reason)
        for n, call in enumerate(calls):
            call.done.set_result(results.get(n))

    def _forget(self, events: Sequence[PublishedEvent], lost: Counter[tuple[str, str]]) -> None:
        """Forget what the journal has now."""
        self._held.clear()
        with self._lock:
            self._in_memory -= len(events)
            self._bytes -= sum(map(_size, events))
            self._lost -= lost

    def _fail(self, calls: list[_Call[Any]], error: Exception) -> None:
        """Say that the journal cannot be used, and what follows for these calls."""
        known = isinstance(error, (sqlite3.Error, OSError))
        if not isinstance(error, sqlite3.OperationalError):
            self._give_up_file(error)
        self._note(up=False, error=error)
        self._retry_at = time.monotonic() + _RETRY_S
        self._hold(calls, JournalAwayError(str(error)) if known else error)

    def _hold(self, calls: list[_Call[Any]], error: Exception) -> None:
        """Hold events until the next attempt, and let other calls fail."""
        for call in calls:
            self._held.extend(call.events)
            if call.work is None:
                call.done.set_result(None)
            else:
                call.done.set_exception(error)

    def _give_up_file(self, error: Exception) -> None:
        """Close the journal. If it is damaged, set it aside, so that a new one begins."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        gone = isinstance(error, JournalGoneError)
        if isinstance(error, sqlite3.DatabaseError):
            try:
                aside = set_aside(self._folder)
            except OSError as failure:
                log.error("the damaged journal of events cannot be renamed: %s", failure)
                return
            if gone := aside is not None:
                log.error("the journal of events was damaged; it is kept as %s, and a new one begins", aside)
        if gone:
            for name in self.filters:
                lost = self._waiting.get(name, 1)  # if nothing is known, it is said that something is lost
                with self._lock:
                    self._lost[name, "damaged"] += lost
                self._observer.dropped(name, lost, "damaged")

    def _open(self) -> EventJournal:
        if self._journal is None:
            self._journal = EventJournal(self._folder, self.limits, self._clock)
            with self._journal.changing():
                self._journal.register(self.filters)
        self._journal.limits = self.limits
        self._journal.check_file()
        return self._journal

    def _note(self, *, up: bool, error: Exception | None = None) -> None:
        """Log and count a change between usable and not."""
        if up is self._up:
            return
        if up and self._up is not None:
            log.warning("the journal of events can be used again")
        elif error is not None:
            known = isinstance(error, (sqlite3.Error, OSError))
            text = "the journal of events in %s cannot be used; events wait in memory: %s"
            log.error(text, self._folder, error, exc_info=None if known else error)
        self._up = up
        self._observer.journal(up)


REASONS = {
    "full": "the journal is full",
    "old": "they are older than keep_hours",
    "memory": "the journal cannot be used, and there is no memory left for more",
    "damaged": "the journal was damaged or removed",
}
"""Why a sink has lost events, by the reason in metrics."""


def _size(event: PublishedEvent) -> int:
    return _EVENT_BYTES + len(str(event.data))
