"""What a batcher tells to whoever counts: the seam to metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


class BatchObserver:
    """Hears what happens to items, and does nothing about it: override what should be counted.

    `name` is the batcher's. Methods must be quick and thread-safe. What they raise is logged and costs no item.

    Called without any lock held: `rejected`, `cancelled`, `expired` and `failed` on the event loop's thread, the others
    on worker threads. Every item that was accepted is told of exactly once by `cancelled`, `expired` or `failed`,
    or by none of them where it got its result.
    """

    def batch_started(self, name: str, items: int, units: int) -> None:
        """A worker took a batch."""

    def batch_finished(self, name: str, items: int, seconds: float) -> None:
        """A batch is done, after this time in `run` with all retries; its results are on their way."""

    def waited(self, name: str, seconds: float) -> None:
        """An item waited this long from its arrival to the start of its batch."""

    def rejected(self, name: str, reason: str) -> None:
        """A submission was refused on arrival: `full`, `late`, `expired` or `closed`."""

    def cancelled(self, name: str) -> None:
        """Nobody awaits an item any more, or its neighbour in the same call failed."""

    def expired(self, name: str) -> None:
        """An item's deadline passed before its result came."""

    def failed(self, name: str) -> None:
        """An item ended with an error, the runtime's or because the batcher closed."""

    def restarted(self, name: str) -> None:
        """A worker's thread was replaced."""


class GuardedObserver(BatchObserver):
    """Passes everything on to another observer. What that raises is logged, once for each method, and goes no further:
    an item must not be lost because it could not be counted.
    """

    def __init__(self, observer: BatchObserver) -> None:
        for method in (name for name in vars(BatchObserver) if not name.startswith("_")):
            setattr(self, method, _guarded(getattr(observer, method)))


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    logged = False

    def call(*arguments: Any) -> None:
        nonlocal logged
        try:
            method(*arguments)
        except Exception:
            if not logged:
                logged = True
                logger.exception("an observer failed; it goes on to be called, and this is not logged again")

    return call
