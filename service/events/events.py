"""The owner of events that leave a server: their journal, and the delivery to each sink."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from engines.locks import lock
from service.events.delivery import Delivery
from service.events.entries import (
    EventSettings,
    FileEntry,
    JournalEntry,
    MqttEntry,
    RedisEntry,
    SinkEntry,
    WebhookEntry,
)
from service.events.event import PublishedEvent
from service.events.journal import EventJournal, JournalLimits
from service.events.journal_file import FOLDER
from service.events.journal_thread import EventsObserver, JournalAwayError, JournalThread
from service.events.sinks.base import Sink
from service.process.supervisor import Supervisor
from service.quota import ClientBuckets

log = logging.getLogger(__name__)

_TICK_S = 0.5
"""How often it is looked for what other processes have added, and for a process that has ended."""
_NAME_S = 5.0
_RATE, _BURST = 20, 400
"""Events that one client, or one camera, may have kept: a second, and at once. A stream whose options make thousands of
events of each frame would displace the alarms of others, and hold them up.
"""
_SAY_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class _Running:
    entry: SinkEntry
    delivery: Delivery
    task: asyncio.Task[None]


class Events:
    """Keeps events until every sink has them. Belongs to one event loop.

    data: the server's folder of data; None for a temporary folder. lasting: `data` is there after a restart. Several
    processes may share the folder: all add, and one of them delivers, at any time.
    """

    def __init__(
        self,
        data: Path | None,
        supervisor: Supervisor,
        observer: EventsObserver | None = None,
        *,
        lasting: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data = data
        self._clock = clock
        self._rates, self._said_at = ClientBuckets(_RATE, _BURST), -math.inf
        self._lasting = lasting and data is not None
        self._supervisor = supervisor
        self._observer = observer or EventsObserver()
        self._settings = EventSettings()
        self._journal: JournalThread | None = None
        self._temporary: Path | None = None
        self._owner: int | None = None
        self._running: dict[str, _Running] = {}
        self._states: dict[str, Mapping[str, Any] | None] = {}
        self._ticking: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._fresh = True

    @property
    def active(self) -> bool:
        """True if there is a sink."""
        return bool(self._settings.sinks)

    @property
    def keypoints(self) -> bool:
        """True if a sink wants keypoints, which then belong into every event's data."""
        return any(entry.keypoints for entry in self._settings.sinks.values())

    async def start(self, settings: EventSettings) -> None:
        """Begin with these sinks, or continue to deliver what an earlier process has left to them."""
        await self.reload(settings)

    async def reload(self, settings: EventSettings) -> None:
        """Change the sinks. Those that stay go on with what waits for them, new ones get what comes from now on."""
        async with self._changing:
            if settings.sinks and self._journal is None:
                await self._open(settings)
            self._settings = settings
            if self._journal is not None:
                self._journal.limits = _limits(settings.events)
                self._journal.filters = {name: entry.filter for name, entry in settings.sinks.items()}
                await self._register(self._journal)
                await self._adjust(self._journal)

    async def add(self, events: Sequence[PublishedEvent], client: str = "") -> None:
        """Return once the journal has the events on the disk. While it cannot be used, they are held in memory.

        client: whose they are, "" for no limit. What exceeds its rate is left out, counted and logged. Does nothing
        without sinks. Never raises because of the disk, and does not wait for one that hangs.
        """
        if not events or not self.active or self._journal is None:
            return
        events = self._within_rate(events, client, self._journal) if client else events
        if not events:
            return
        await self._journal.add(events)
        for running in self._running.values():
            running.delivery.wake.set()

    def _within_rate(
        self, events: Sequence[PublishedEvent], client: str, journal: JournalThread
    ) -> Sequence[PublishedEvent]:
        now = self._clock()
        taken = self._rates.of(client, now).take_some(len(events), now)
        if taken < len(events):
            journal.refuse(events[taken:])
            if now - self._said_at >= _SAY_EVERY_S:
                self._said_at = now
                log.warning("sinks do not get all events of %s, as there are more than %d a second", client, _RATE)
        return events[:taken]

    def note(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace what is known of all cameras, for sinks that tell of it: by source {"state", "people", "occupancy"}.

        A camera that is not named any more is gone for good. The state "elsewhere": another replica tells of it.
        """
        if self.active:
            self._states = {source: None for source in self._states if source not in states} | dict(states)

    async def close(self) -> None:
        """End the deliveries, and close the journal. What has not been delivered is delivered after the next start."""
        async with self._changing:
            if self._ticking is not None:
                self._ticking.cancel()
                await asyncio.wait((self._ticking,))
                self._ticking = None
            await self._stop(list(self._running))
            self._settings = EventSettings()
            if self._journal is not None:
                await self._journal.close()
                self._journal = None
            if self._owner is not None:
                os.close(self._owner)
                self._owner = None
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)

    async def _open(self, settings: EventSettings) -> None:
        folder = self._data
        if folder is None:
            folder = self._temporary = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="posewire-events-"))
        if not self._lasting:
            log.warning("events wait for their sinks in a temporary folder and are lost at a restart: set `data`")
        self._folder = folder / FOLDER
        self._journal = JournalThread(self._folder, _limits(settings.events), self._observer)
        self._journal.filters = {name: entry.filter for name, entry in settings.sinks.items()}
        self._journal.start()
        self._ticking = self._supervisor.keep("events", self._tick, longest_delay=_TICK_S)

    async def _register(self, journal: JournalThread) -> None:
        filters = journal.filters
        try:
            async with asyncio.timeout(_NAME_S):
                await journal.change(lambda opened: opened.register(filters))
        except (JournalAwayError, TimeoutError):
            pass  # it has said so; the sinks are registered when it is opened

    async def _adjust(self, journal: JournalThread) -> None:
        """Run the deliveries that there should be, if this process delivers."""
        first, self._fresh = self._fresh, False
        if self._owner is None and not self._become_owner():
            return
        if first:
            with suppress(JournalAwayError):
                await journal.change(EventJournal.clear_states)
        wanted = self._settings.sinks
        await self._stop([name for name, running in self._running.items() if wanted.get(name) != running.entry])
        server = await _name(journal) if wanted.keys() - self._running.keys() else ""
        for name in wanted.keys() - self._running.keys():
            entry = wanted[name]
            opening = partial(open_sink, name, entry, server)
            delivery = Delivery(name, opening, journal, self._observer, keypoints=entry.keypoints)
            task = self._supervisor.keep(f"sink {name}", delivery.run)
            self._running[name] = _Running(entry, delivery, task)

    def _become_owner(self) -> bool:
        """Try to be the process that delivers."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._owner = lock(self._folder / "owner.lock")
        except OSError:  # another process delivers, or there is nothing to deliver, as the folder cannot be used
            return False
        return True

    async def _stop(self, names: Sequence[str]) -> None:
        stopped = [self._running.pop(name) for name in names]
        await asyncio.gather(*(running.delivery.stop(running.task) for running in stopped))
        for name in set(names) - self._settings.sinks.keys():
            self._observer.waiting(name, 0, 0.0)

    async def _tick(self) -> None:
        """Wake the deliveries, write states, refresh metrics, and take over from a process that has ended."""
        known: dict[str, Mapping[str, Any] | None] = {}
        while True:
            await asyncio.sleep(_TICK_S)
            journal = self._journal
            if journal is None:
                continue
            states = {source: state for source, state in self._states.items() if known.get(source, ()) != state}
            try:
                if states:
                    await journal.change(lambda opened, new=states: opened.set_states(new))  # type: ignore[misc]
                    known |= states
                if self._owner is None:
                    async with self._changing:
                        await self._adjust(journal)
                if self._owner is not None:
                    await self._refresh(journal)
            except JournalAwayError:
                pass
            for running in self._running.values():
                running.delivery.wake.set()

    async def _refresh(self, journal: JournalThread) -> None:
        """Remove what is too old, and set the gauges."""
        await journal.change(EventJournal.trim)
        now = time.time()
        for name, status in (await journal.read(EventJournal.status)).items():
            self._observer.waiting(name, status.waiting, 0.0 if status.oldest is None else now - status.oldest)


def open_sink(name: str, entry: SinkEntry, server: str) -> Sink:
    """Return the sink of an entry. server: this server's name, where sinks show it."""
    match entry:
        case WebhookEntry():
            from service.events.sinks.webhook import WebhookSink  # httpx is slow to import

            return WebhookSink(entry)
        case MqttEntry():
            from service.events.sinks.mqtt.sink import MqttSink

            return MqttSink(name, entry, server)
        case RedisEntry():
            from service.events.sinks.redis_stream import RedisSink  # slow to import

            return RedisSink(entry)
        case FileEntry():
            from service.events.sinks.ndjson import FileSink

            return FileSink(entry)


def _limits(entry: JournalEntry) -> JournalLimits:
    return JournalLimits(int(entry.max_mb * 1e6), entry.max_events, entry.keep_hours * 3600)


async def _name(journal: JournalThread) -> str:
    try:
        async with asyncio.timeout(_NAME_S):
            return await journal.read(lambda opened: opened.name)
    except (JournalAwayError, TimeoutError):
        return secrets.token_hex(4)
