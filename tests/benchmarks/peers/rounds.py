"""Measuring servers side by side, alternating, so that other load of the machine affects all of them alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from statistics import median
from typing import Any, Self, TypeVar

import httpx

from tests.benchmarks.load import Shot, closed_loop
from tests.benchmarks.peers.process import PeerProcess
from tests.benchmarks.peers.tree import ProcessTree
from tests.servers import ServerProcess

Server = ServerProcess | PeerProcess
Figures = dict[str, float]
"""The measurements of one turn, by column."""

RATE, P50, P99 = "requests/s", "p50 ms", "p99 ms"
CPU, CLIENT, BATCH, MEMORY = "CPU ms", "client CPU ms", "mean batch", "memory MB"

_WARM_UP_S = 0.5
_TRIAL_S = 2.0

Key = TypeVar("Key")


class Contender:
    """A running server; a context manager. It is stopped while others are measured, as some servers poll when idle."""

    def __init__(self, server: Server, shot: Shot) -> None:
        self._server = server
        self._shot = shot
        self._tree = ProcessTree(server.process.pid)

    def __enter__(self) -> Self:
        self._tree.freeze()
        return self

    def __exit__(self, *error: object) -> None:
        self._tree.thaw()

    def ask(self) -> Any:
        """Send one request and return its answer, parsed from JSON."""
        url = f"http://127.0.0.1:{self._server.port}{self._shot.path}"
        headers = dict(line.split(": ") for line in self._shot.headers)
        with self._turn():
            return httpx.post(url, content=self._shot.body, headers=headers, timeout=60).raise_for_status().json()

    def measure(self, concurrency: int, seconds: float) -> Figures:
        """One turn. Processor times are per request, the server's with all of its processes.

        Raises RuntimeError where a request fails.
        """
        port = self._server.port
        with self._turn():
            closed_loop(port, [self._shot], concurrency=concurrency, seconds=_WARM_UP_S)
            before, cpu = self._batches(), self._tree.cpu_seconds()
            report = closed_loop(port, [self._shot], concurrency=concurrency, seconds=seconds)
            cpu, after = self._tree.cpu_seconds() - cpu, self._batches()
            memory = self._tree.memory_mb()
        if set(report.latencies) != {200}:
            raise RuntimeError(f"not every request got a 200, but {sorted(report.latencies)}")
        batches, items = (new - old for new, old in zip(after, before, strict=True))
        return {
            RATE: report.rate,
            P50: report.percentile(50),
            P99: report.percentile(99),
            CPU: 1e3 * cpu / report.good,
            CLIENT: 1e3 * report.cpu / report.good,
            BATCH: items / batches if batches else 1.0,
            MEMORY: memory,
        }

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._tree.thaw()
        try:
            yield
        finally:
            self._tree.freeze()

    def _batches(self) -> tuple[float, float]:
        """The numbers of batches and items that the networks have run; none for servers without metrics."""
        if not isinstance(self._server, ServerProcess):
            return 0.0, 0.0
        text = httpx.get(f"http://127.0.0.1:{self._server.port}/metrics").text
        counts = [
            sum(map(float, re.findall(rf'^posewire_batch_size_{part}{{network="(?!decode)[^"]*"}} (\S+)', text, re.M)))
            for part in ("count", "sum")
        ]
        return counts[0], counts[1]


def best_of(
    stack: ExitStack, shot: Shot, variants: Mapping[str, Callable[[], AbstractContextManager[Server]]], crowd: int
) -> tuple[str, Contender]:
    """Start each variant of a server, and return the fastest with `crowd` clients, and its name."""
    rates: dict[str, float] = {}
    for name, start in variants.items():
        with start() as server, Contender(server, shot) as contender:
            rates[name] = contender.measure(crowd, _TRIAL_S)[RATE]
    best = max(rates, key=lambda name: rates[name])
    return best, stack.enter_context(Contender(stack.enter_context(variants[best]()), shot))


def take_turns(measures: Mapping[Key, Callable[[], Figures]], rounds: int) -> dict[Key, list[Figures]]:
    """Run every measurement once per round. Each round starts with another one."""
    results: dict[Key, list[Figures]] = {key: [] for key in measures}
    keys = list(measures)
    for number in range(rounds):
        first = number * len(keys) // rounds
        for key in (*keys[first:], *keys[:first]):
            results[key].append(measures[key]())
    return results


def medians(rounds: Sequence[Figures]) -> Figures:
    """The median of every figure over the rounds."""
    return {name: round(median(figures[name] for figures in rounds), 2) for name in rounds[0]}


def ratio(ours: Sequence[Figures], theirs: Sequence[Figures], column: str) -> float:
    """The median over the rounds of the ratio of a figure between two servers."""
    return round(median(a[column] / b[column] for a, b in zip(ours, theirs, strict=True)), 3)
