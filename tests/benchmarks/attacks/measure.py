"""Measuring an attack: good clients before, during and after it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tests.benchmarks.attacks.deployments import Deployment, Held
from tests.benchmarks.attacks.good import GoodClients, Sample
from tests.benchmarks.attacks.probes import Probes
from tests.benchmarks.attacks.process import AttackProcess
from tests.benchmarks.report import Row

_SETTLE_S = 8.0
"""Time limit for the end of an attack's effects. Then the good clients are measured again."""
_POLL_S = 0.1
_FINISH_S = 6.0
"""Time for requests of a phase to end. Longer ones count as ended then."""

FILES, THREADS, MEMORY = 24, 4, 100_000_000
"""Allowed growth of these resources: kept-alive connections of HAProxy, allocator caches."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The results of one kind of good clients in a phase. p50, p99: milliseconds."""

    count: int
    p50: float
    p99: float
    problems: Counter[str]


@dataclass(frozen=True, slots=True)
class Service:
    """The results of both kinds of good clients."""

    stills: Quality
    streams: Quality


class Peak:
    """The peak memory of a deployment while this context lasts: the kernel's record, or the largest sample."""

    def __init__(self, deployment: Deployment) -> None:
        self.bytes = 0
        self._deployment = deployment
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory")

    def __enter__(self) -> Self:
        self._deployment.reset_peak()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.bytes = self._deployment.peak() or self.bytes

    def _sample(self) -> None:
        while not self._stop.wait(_POLL_S):
            self.bytes = max(self.bytes, self._deployment.usage())


class Bench:
    """A deployment with its good clients and probes. quiet: the results of the good clients without an attack."""

    def __init__(self, deployment: Deployment, clients: GoodClients, probes: Probes) -> None:
        self._deployment = deployment
        self._clients = clients
        self._probes = probes
        self.quiet: Service

    def rest(self, seconds: float) -> Service:
        """Measure the good clients for some seconds without an attack."""
        start = time.monotonic()
        time.sleep(seconds)
        return self._served(start, time.monotonic())

    def attack(self, name: str, seconds: float, after_s: float) -> Row:
        """Run an attack, and measure its effects during and after it."""
        deployment = self._deployment
        before, downs, kills = deployment.held(), deployment.downs(), deployment.kills()
        with AttackProcess(name, deployment.host, deployment.port, seconds) as process, Peak(deployment) as peak:
            start = time.monotonic()
            damage = process.run()
            end = time.monotonic()
        during = self._served(start, end)
        settled = self._settle(before) if deployment.alive else None
        calm = time.monotonic()
        after = self.rest(after_s) if deployment.alive else None
        left = deployment.held() if deployment.alive else None
        return {
            "attack": name,
            "way": deployment.way,
            "seconds": seconds,
            "stills quiet p50": self.quiet.stills.p50,
            "stills quiet p99": self.quiet.stills.p99,
            "stills p50": during.stills.p50,
            "stills p99": during.stills.p99,
            "streams quiet p99": self.quiet.streams.p99,
            "streams p99": during.streams.p99,
            "requests": during.stills.count + during.streams.count,
            "problems": dict(during.stills.problems + during.streams.problems),
            "livez s": round(self._probes.slowest_live(start, end), 3),
            "downs": deployment.downs() - downs if deployment.fleet else self._probes.downs(start, calm),
            "memory MB": round(peak.bytes / 1e6),
            "OOM kills": deployment.kills() - kills,
            "alive": deployment.alive,
            "settled s": None if settled is None else round(settled, 1),
            "after stills p99": after.stills.p99 if after else None,
            "after streams p99": after.streams.p99 if after else None,
            "after problems": dict(after.stills.problems + after.streams.problems) if after else None,
            "files more": left.files - before.files if left else None,
            "threads more": left.threads - before.threads if left else None,
            "MB more": round((left.memory - before.memory) / 1e6) if left else None,
            "attacker CPU %": round(100 * damage.cpu / seconds, 1),
            "attacker MB": round(damage.sent / 1e6, 1),
            "attacker got": dict(damage.outcomes.most_common()),
        }

    def _served(self, start: float, end: float) -> Service:
        """The samples that began in a phase. Those that do not end soon after it count as they are."""
        time.sleep(0.2)
        stop = time.monotonic() + _FINISH_S
        while self._clients.under_way(start, end) and time.monotonic() < stop:
            time.sleep(_POLL_S)
        samples = self._clients.between(start, end)
        return Service(*(_quality([s for s in samples if s.kind == kind]) for kind in ("still", "frame")))

    def _settle(self, before: Held) -> float:
        """Seconds until a deployment's resources are as before, or the time limit."""
        start = time.monotonic()
        while (took := time.monotonic() - start) < _SETTLE_S and self._deployment.alive:
            now = self._deployment.held()
            if (
                now.files - before.files <= FILES
                and now.threads - before.threads <= THREADS
                and now.memory - before.memory <= MEMORY
            ):
                break
            time.sleep(_POLL_S)
        return took


def _quality(samples: Sequence[Sample]) -> Quality:
    times = [1e3 * sample.seconds for sample in samples] or [float("nan")]
    p50, p99 = (round(float(np.percentile(times, q)), 1) for q in (50, 99))
    return Quality(len(samples), p50, p99, Counter(sample.problem for sample in samples if sample.problem))
