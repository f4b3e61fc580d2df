"""Credit: how many results may be on their way to a client that has not said that it handled them."""

from __future__ import annotations

import asyncio
from collections import deque


class Window:
    """At most `size` unacknowledged results; 0 leaves it to the connection's own flow control.

    A connection alone does not keep results fresh: the buffers between two machines hold hundreds of them, which a
    client that was held up would have to read first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._sent: deque[int] = deque()
        self._last = -1
        self._room = asyncio.Event()
        self._room.set()

    @property
    def open(self) -> bool:
        """Whether one more may be sent."""
        return self._room.is_set()

    async def wait(self) -> None:
        """Return once one more may be sent."""
        await self._room.wait()

    def sent(self, number: int) -> None:
        """Count the result of frame `number`; numbers ascend."""
        self._last = number
        if self.size:
            self._sent.append(number)
            if len(self._sent) >= self.size:
                self._room.clear()

    def acknowledge(self, number: int) -> None:
        """The client has handled all results up to that of frame `number`; an old acknowledgement changes nothing.

        Raises ValueError for a frame that has had no result.
        """
        if not 0 <= number <= self._last:
            last = "nothing was sent" if self._last < 0 else f"the last with a result is {self._last}"
            raise ValueError(f"frame {number} was acknowledged, but {last}")
        while self._sent and self._sent[0] <= number:
            self._sent.popleft()
        if len(self._sent) < self.size:
            self._room.set()
