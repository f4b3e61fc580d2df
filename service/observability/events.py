"""Metrics of events that leave the server."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.events.journal_thread import EventsObserver


class EventMetrics(EventsObserver):
    """Metrics of the journal of events and of its sinks, which report to it directly."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self._journaled = counter("posewire_events", "Events that came into the journal.")
        self._delivered = counter("posewire_events_delivered", "Events that a sink has got.", ["sink"])
        self._failed_tries = counter(
            "posewire_events_failed_tries", "Tries in which a sink was away, or refused an event.", ["sink"]
        )
        self._dropped = counter(
            "posewire_events_dropped", "Events that a sink has lost: full, old, refused, memory, damaged or rate.",
            ["sink", "reason"],
        )  # fmt: skip
        gauge = partial(Gauge, labelnames=["sink"], registry=registry, multiprocess_mode="livesum")
        self._waiting = gauge("posewire_events_waiting", "Events that wait for a sink.")
        self._oldest = gauge("posewire_events_oldest_seconds", "Age of the oldest event that waits for a sink.")
        self._up = Gauge(
            "posewire_events_journal_up", "1 while the journal of events can be used.", ["journal"],
            registry=registry, multiprocess_mode="livemin",
        )  # fmt: skip

    def journal(self, up: bool) -> None:
        self._up.labels("events").set(up)

    def journaled(self, events: int) -> None:
        self._journaled.inc(events)

    def delivered(self, sink: str, events: int) -> None:
        self._delivered.labels(sink).inc(events)

    def failed_try(self, sink: str) -> None:
        self._failed_tries.labels(sink).inc()

    def dropped(self, sink: str, events: int, reason: str) -> None:
        self._dropped.labels(sink, reason).inc(events)

    def waiting(self, sink: str, events: int, oldest_seconds: float) -> None:
        self._waiting.labels(sink).set(events)
        self._oldest.labels(sink).set(oldest_seconds)
