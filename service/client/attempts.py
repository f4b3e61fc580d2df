"""When and where to try again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from service.client.errors import UnavailableError

_LOST_S = (0.05, 1.0)
"""The first and the longest pause where a server was lost."""
_REFUSED_S = (0.2, 5.0)
"""The same where a server has refused or failed: it is there, and to ask again at once would add to its load."""


class Attempts:
    """The tries of one thing, for `seconds` in all, at each of `urls` in turn.

    clock: seconds. chance: 0..1, at random, so that clients that lost the same server do not come back in step.
    """

    def __init__(
        self,
        urls: Sequence[str],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._urls = urls
        self._seconds = seconds
        self._clock = clock
        self._chance = chance
        self._began = clock()
        self._failed = 0

    @property
    def url(self) -> str:
        """Where to try now."""
        return self._urls[self._failed % len(self._urls)]

    @property
    def left(self) -> float:
        """Seconds until it is too late."""
        return self._began + self._seconds - self._clock()

    def restart(self, pauses: bool) -> None:
        """Begin the time for tries anew, as the last one led to something. pauses: the next one is short again."""
        self._began = self._clock()
        if pauses:
            self._failed = 0

    def failed(self, why: str, retry_after: float = 0.0, *, refused: bool = False) -> float:
        """Seconds to wait before the next try. retry_after: what the server has asked for. refused: it has answered.

        Raises UnavailableError where that would be too late.
        """
        self._failed += 1
        rounds = self._failed // len(self._urls)
        if rounds == 0:
            delay = 0.0  # another server has not refused yet
        else:
            first, most = _REFUSED_S if refused else _LOST_S
            longest = min(most, first * 2.0 ** min(rounds - 1, 10))
            delay = max(retry_after, longest * (0.5 + self._chance() / 2))
        if delay >= self.left:
            raise UnavailableError(f"no answer within {self._seconds:g} s; the last of {self._failed} tries: {why}")
        return delay
