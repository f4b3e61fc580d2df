"""The delivery of events from the journal to one sink: in order, again and again until it has them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from service.events.event import DROPPED, KEYPOINTS, PublishedEvent, event_id
from service.events.journal import Batch, EventJournal
from service.events.journal_thread import REASONS, EventsObserver, JournalAwayError, JournalThread
from service.events.sinks.base import Sink, SinkAwayError

log = logging.getLogger(__name__)

_BATCH = 64
"""Events that a sink gets at a time."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
"""The pause after a failed try; it doubles from one to the next."""
_LONGEST_RETRY_AFTER_S = 3600.0
MOST_REFUSALS = 5
"""Tries of an event that a sink refuses, before it is given up."""
_JOURNAL_PAUSE_S = 1.0
_STOP_S = 0.9


class Delivery:
    """Delivers to the sink `name`. `run` is a background task; `wake` tells it that there may be something new.

    keypoints: the sink gets them. chance: 0..1, so that not all servers try again at the same time.
    """

    def __init__(
        self,
        name: str,
        open_sink: Callable[[], Sink],
        journal: JournalThread,
        observer: EventsObserver,
        *,
        keypoints: bool,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.wake = asyncio.Event()
        self._open_sink = open_sink
        self._journal = journal
        self._observer = observer
        self._keypoints = keypoints
        self._chance = chance
        self._position, self._noted, self._unnoted, self._told = 0, 0, 0, 0
        self._done: set[str] = set()
        self._refusals: Counter[str] = Counter()  # tries by event, also those of an earlier process
        self._refusals_read, self._refusals_changed = False, False
        self._failures, self._version = 0, 0
        self.stopping, self._stopped, self._hurry = False, asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled, or until `stop`. Closes the sink's connections in any case."""
        self._sink = self._open_sink()
        try:
            while not self.stopping:
                self.wake.clear()
                try:
                    while await self._step():
                        pass
                    await self.wake.wait()
                except SinkAwayError as error:
                    await self._rest(self._pause(error))
                except JournalAwayError:
                    await self._rest(_JOURNAL_PAUSE_S)
        finally:
            try:
                await self._sink.close()
            finally:
                self._stopped.set()
        await asyncio.Event().wait()  # its task is supervised: if it ended, it would be started again

    async def stop(self, task: asyncio.Task[None]) -> None:
        """End `run`, which is `task`, within two seconds. The batch under way may be finished, else it is cut off."""
        self.stopping = True
        self.wake.set()
        self._hurry.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self._stopped.wait()
        task.cancel()
        await asyncio.wait((task,), timeout=_STOP_S)

    async def _rest(self, seconds: float) -> None:
        """Wait before the next try, unless `stop` is called."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    async def _step(self) -> bool:
        """Send one batch. Returns False if there was nothing to send. Raises SinkAwayError, JournalAwayError."""
        if self.stopping:
            return False
        if not self._refusals_read:
            self._refusals.update(await self._journal.read(lambda journal: journal.refusals(self.name)))
            self._refusals_read = True
        position, version = self._position, self._version

        def read(journal: EventJournal) -> tuple[Batch, list[tuple[str, int, Mapping[str, Any] | None]]]:
            return journal.read(self.name, position, _BATCH), journal.states(version)

        batch, states = await self._journal.read(read)
        await self._sink.tend({source: state for source, _, state in states})
        self._version = max((number for _, number, _ in states), default=self._version)
        await self._tell(batch)
        events = [event for _, event in batch.events if event.id not in self._done]
        try:
            await self._send(events)
        finally:
            self._advance(batch)
            await self._note()
        if self._failures:
            log.warning("the sink %s can be reached again", self.name)
            self._failures = 0
        return batch.last > position

    async def _send(self, events: Sequence[PublishedEvent]) -> None:
        if events:
            shown = events if self._keypoints else [_without_keypoints(event) for event in events]
            await self._sink.send(shown, self)
            if not self.stopping and any(event.id not in self._done for event in events):
                raise SinkAwayError("it has refused an event, which is tried again")

    async def _tell(self, batch: Batch) -> None:
        """Tell the sink how many events it has lost, if it does not know yet."""
        lost = batch.dropped - max(batch.told, self._told)
        if lost <= 0:
            return
        told = batch.dropped - lost
        number = event_id(batch.journal, self.name, DROPPED, told, batch.dropped)
        data = {"sink": self.name, "count": lost, "reason": REASONS.get(batch.reason, batch.reason)}
        event = PublishedEvent(number, f"sinks/{self.name}", time.time(), DROPPED, data)
        await self._sink.send([event], self)
        if number in self._done:
            self._done.discard(number)
            self._told = batch.dropped

    def delivered(self, event: PublishedEvent) -> None:
        """See Outcomes."""
        self._done.add(event.id)
        self._refusals_changed |= self._refusals.pop(event.id, 0) > 0
        self._observer.delivered(self.name, 1)

    def refused(self, event: PublishedEvent, why: str) -> bool:
        """See Outcomes."""
        self._refusals[event.id] += 1
        self._refusals_changed = True
        if self._refusals[event.id] < MOST_REFUSALS:
            return False
        self._observer.failed_try(self.name)
        del self._refusals[event.id]
        self._done.add(event.id)
        self._observer.dropped(self.name, 1, "refused")
        text = "the sink %s has refused the event %s (%s of %s) %d times, which is given up: %s"
        log.error(text, self.name, event.id, event.kind, event.source, MOST_REFUSALS, why)
        return True

    def _advance(self, batch: Batch) -> None:
        """Move the position up to the first event that the sink does not have."""
        for number, event in batch.events:
            if event.id not in self._done:
                return
            self._done.discard(event.id)
            self._position = number
            self._unnoted += 1
        self._position = max(self._position, batch.last)

    async def _note(self) -> None:
        """Write the position and the refusals into the journal. If that is not possible, they are written later."""
        position, events, told = self._position, self._unnoted, self._told
        refusals = dict(self._refusals) if self._refusals_changed else None
        if (position, told) == (self._noted, 0) and not events and refusals is None:
            return

        def note(journal: EventJournal) -> None:
            journal.delivered(self.name, position, events, told)
            if refusals is not None:
                journal.set_refusals(self.name, refusals)

        await self._journal.change(note)
        self._noted, self._unnoted, self._refusals_changed = position, self._unnoted - events, False
        if self._told == told:
            self._told = 0

    def _pause(self, error: SinkAwayError) -> float:
        """Count and log a failed try. Returns the seconds until the next."""
        self._observer.failed_try(self.name)
        if not self._failures:
            log.warning("the sink %s cannot be reached; events wait for it: %s", self.name, error)
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return max(pause * (0.5 + self._chance() / 2), min(error.retry_after, _LONGEST_RETRY_AFTER_S))


def _without_keypoints(event: PublishedEvent) -> PublishedEvent:
    if not event.data.keys() & KEYPOINTS:
        return event
    return replace(event, data={name: value for name, value in event.data.items() if name not in KEYPOINTS})
