"""The calls of `run` that are under way: `close` waits for them, and one may find itself alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engines.runtimes.base import RuntimeClosedError


class Company:
    """The runtimes that share the cores of a processor: `with company as alone` around each call says whether it is the
    only one of them all so far. For any thread.
    """

    def __init__(self) -> None:
        self._active = 0
        self._lock = threading.Lock()

    def __enter__(self) -> bool:
        with self._lock:
            self._active += 1
            return self._active == 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._active -= 1


class Calls:
    """Counts calls in and out: `with calls` around each one, which raises RuntimeClosedError after `close`. For any
    thread.
    """

    def __init__(self) -> None:
        self._active = 0
        self._closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            if self._closed:
                raise RuntimeClosedError("this runtime is closed")
            self._active += 1

    def __exit__(self, *_: object) -> None:
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
