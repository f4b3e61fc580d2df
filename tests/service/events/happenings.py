"""Events for tests, and what tests of sinks share."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from service.events.entries import EventSettings, read_sinks
from service.events.event import PublishedEvent
from service.events.events import Events
from service.events.journal_thread import EventsObserver
from service.process.supervisor import Supervisor

P = ParamSpec("P")


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test that is a coroutine."""

    @wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(test(*arguments, **named))

    return run


def happening(
    number: int, source: str = "cameras/door", kind: str = "enter", keypoints: bool = False
) -> PublishedEvent:
    """The event with this number of a source."""
    data: dict[str, object] = {"name": "desk", "id": 1, "number": number, "box": [1.0, 2.0, 3.0, 4.0]}
    if keypoints:
        data["keypoints"] = [[1.0, 2.0, 0.5]]
    return PublishedEvent(f"{source}-{kind}-{number}", source, 1_700_000_000.5 + number, kind, data)


class Counts(EventsObserver):
    """Counts what is reported, by sink."""

    def __init__(self) -> None:
        self.up: list[bool] = []
        self.got: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()
        self.lost: Counter[tuple[str, str]] = Counter()
        self.journal_events = 0
        self.waits: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def journal(self, up: bool) -> None:
        self.up.append(up)

    def journaled(self, events: int) -> None:
        self.journal_events += events

    def delivered(self, sink: str, events: int) -> None:
        self.got[sink] += events

    def failed_try(self, sink: str) -> None:
        self.tries[sink] += 1

    def dropped(self, sink: str, events: int, reason: str) -> None:
        with self._lock:
            self.lost[sink, reason] += events

    def waiting(self, sink: str, events: int, oldest_seconds: float) -> None:
        self.waits[sink] = events, oldest_seconds


def sinks(events: Mapping[str, object] | None = None, **tables: Mapping[str, object]) -> EventSettings:
    """The settings with these sinks by name, and this table `events`."""
    return read_sinks({"sinks": tables, "events": events or {}})


@asynccontextmanager
async def running(
    folder: Path | None, settings: EventSettings, observer: EventsObserver | None = None
) -> AsyncIterator[Events]:
    """Events with these sinks, closed at the end."""
    supervisor = Supervisor()
    events = Events(folder, supervisor, observer)
    await events.start(settings)
    try:
        yield events
    finally:
        await asyncio.wait_for(events.close(), 30)
        await supervisor.close()
