"""A runtime that tests can stop, a runtime that fails on demand, and an observer that records events."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from service.batching import BatchObserver


def stopped_clock() -> float:
    """For tests of which items share a batch: batches that a test holds up for long would make later ones shorter."""
    return 0.0


class Runtime:
    """Doubles numbers. Blocks before each batch while it is `held`, and records its batches and threads."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.threads: list[threading.Thread] = []
        self._entered = threading.Semaphore(0)
        self._go = threading.Event()
        if not held:
            self._go.set()

    def __call__(self, items: Sequence[int]) -> list[int | BaseException]:
        self.batches.append(list(items))
        self.threads.append(threading.current_thread())
        self._entered.release()
        assert self._go.wait(10)
        return [2 * item for item in items]

    async def entered(self, batches: int = 1) -> None:
        """Wait until `batches` more batches have started."""
        for _ in range(batches):
            assert await asyncio.to_thread(self._entered.acquire, timeout=10)

    def entered_blocking(self) -> bool:
        """Block the event loop until another batch has started."""
        return self._entered.acquire(timeout=10)

    def release(self) -> None:
        self._go.set()


class PoisonError(ValueError):
    pass


class Poisonable(Runtime):
    """Raises for a whole batch that contains a negative number."""

    def __call__(self, items: Sequence[int]) -> list[int | BaseException]:
        results = super().__call__(items)
        if any(item < 0 for item in items):
            raise PoisonError(str(items))
        return results


class RecordingObserver(BatchObserver):
    """Records every event."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def count(self, event: str) -> int:
        return sum(recorded[0] == event for recorded in self.events)

    def batch_started(self, name: str, items: int, units: int) -> None:
        self.events.append(("batch_started", name, items, units))

    def batch_finished(self, name: str, items: int, seconds: float) -> None:
        self.events.append(("batch_finished", name, items, seconds))

    def waited(self, name: str, seconds: float) -> None:
        self.events.append(("waited", name, seconds))

    def rejected(self, name: str, reason: str) -> None:
        self.events.append(("rejected", name, reason))

    def cancelled(self, name: str) -> None:
        self.events.append(("cancelled", name))

    def expired(self, name: str) -> None:
        self.events.append(("expired", name))

    def failed(self, name: str) -> None:
        self.events.append(("failed", name))

    def restarted(self, name: str) -> None:
        self.events.append(("restarted", name))


async def ready() -> None:
    """Let tasks that were just created run until they wait."""
    for _ in range(3):
        await asyncio.sleep(0)
