"""Places that no client may take all of, such as threads that wait for processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.batching import DeadlineExceededError
from service.inference.stage import InferenceOptions


@dataclass(slots=True)
class _Client:
    """users: those that have or wait for one of the client's slots."""

    free: asyncio.Semaphore
    users: int = 0


class ClientSlots:
    """Each client may use `most` at once. Belongs to one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._clients: dict[str, _Client] = {}

    async def acquire(self, options: InferenceOptions) -> Callable[[], None]:
        """Wait for a slot of the client. Returns a function that gives it back. Raises DeadlineExceededError."""
        name = options.client if options.lease is None else options.lease.client
        client = self._clients.setdefault(name, _Client(asyncio.Semaphore(self._most)))
        client.users += 1

        def forget() -> None:
            client.users -= 1
            if not client.users:
                del self._clients[name]

        def release() -> None:
            client.free.release()
            forget()

        try:
            async with asyncio.timeout(None if options.deadline is None else options.deadline - time.monotonic()):
                await client.free.acquire()
        except TimeoutError as error:
            forget()
            raise DeadlineExceededError("the deadline passed behind other work of this client") from error
        except BaseException:
            forget()
            raise
        return release
