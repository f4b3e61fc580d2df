"""The calls of `run` that are under way, so that `close` can wait for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engines.runtimes.base import RuntimeClosedError


class Calls:
    """Counts calls in and out. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._active = 0
        self._closed = False
        self._changed = threading.Condition()

    @contextmanager
    def entered(self) -> Iterator[bool]:
        """Around one call; whether it is the only one so far. Raises RuntimeClosedError after `close`."""
        with self._changed:
            if self._closed:
                raise RuntimeClosedError("this runtime is closed")
            alone = self._active == 0
            self._active += 1
        try:
            yield alone
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    @contextmanager
    def held_up(self) -> Iterator[bool]:
        """Lets no call begin meanwhile; whether none is under way."""
        with self._changed:
            yield self._active == 0 and not self._closed

    def close(self) -> None:
        """Refuse further calls and wait for those under way. Again is fine."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._active == 0)
