"""Metrics of live streams, and of the store that servers share for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.streams.session import SessionObserver
from service.streams.store.base import StoreObserver

_AGES = (0.005, 0.01, 0.02, 0.033, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)


class StreamMetrics(SessionObserver):
    """Metrics of streams; sessions report to it directly. part_seconds, people: shared with stills."""

    def __init__(self, registry: CollectorRegistry, part_seconds: Histogram, people: Counter) -> None:
        counter = partial(Counter, registry=registry)
        self.open = Gauge("posewire_streams", "Open streams.", registry=registry, multiprocess_mode="livesum")
        frames = counter(
            "posewire_stream_frames", "Frames of streams: received, and served, dropped or failed.", ["outcome"]
        )
        self._received, self._served, self._dropped, self._failed = map(
            frames.labels, ("received", "served", "dropped", "failed")
        )
        self._age = Histogram(
            "posewire_stream_age_seconds", "Age of a frame when its result went out.", buckets=_AGES, registry=registry
        )
        self._resumes = counter(
            "posewire_stream_resumes", "Streams begun with a token, by whether it was still good.", ["resumed"]
        )
        self._chunks = counter("posewire_stream_chunks", "Chunks of video of streams that were decoded.")
        self._key_frames = counter(
            "posewire_stream_key_frames", "Key frames that clients were asked for, as chunks were lost or broken."
        )
        self._closes = counter("posewire_stream_closes", "Ended streams by close code.", ["code"])
        self._tracker_restarts = counter(
            "posewire_tracker_restarts", "Processes that track people, which ended and were replaced."
        )
        self._part_seconds = part_seconds
        self._people = people

    def received(self, replaced: int) -> None:
        self._received.inc()
        if replaced:
            self._dropped.inc(replaced)

    def decoded(self, chunks: int) -> None:
        self._chunks.inc(chunks)

    def asked_for_key_frame(self) -> None:
        self._key_frames.inc()

    def result(self, age: float, seconds: Mapping[str, float], people: int) -> None:
        self._served.inc()
        self._age.observe(age)
        for part, value in seconds.items():
            self._part_seconds.labels(part).observe(value)
        self._people.inc(people)

    def failed(self) -> None:
        self._failed.inc()

    def began(self, *, token: bool, resumed: bool) -> None:
        """Count a stream that began. token: its client sent a resume token. resumed: its session was restored."""
        if token:
            self._resumes.labels(str(resumed).lower()).inc()

    def closed(self, code: int) -> None:
        self._closes.labels(str(code)).inc()

    def tracker_replaced(self) -> None:
        self._tracker_restarts.inc()


class StoreMetrics(StoreObserver):
    """Metrics of a RedisStore, which reports to it directly. The label keeps them out of servers without one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, labelnames=["store"], registry=registry)
        self._up = gauge(
            "posewire_store_up", "1 while the store that servers share can be reached.", multiprocess_mode="livemin"
        )
        self._waiting = gauge(
            "posewire_store_waiting", "States of streams that wait to be written to the store.",
            multiprocess_mode="livesum",
        )  # fmt: skip
        self._writes = Counter(
            "posewire_store_writes", "States of streams: kept, refused (another server has the stream), or failed to "
            "be written for now.", ["outcome"], registry=registry,
        )  # fmt: skip

    def reached(self, up: bool) -> None:
        self._up.labels("redis").set(up)

    def wrote(self, outcome: str, states: int) -> None:
        self._writes.labels(outcome).inc(states)

    def waiting(self, states: int) -> None:
        self._waiting.labels("redis").set(states)
