"""When and where to try again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from service.client.errors import UnavailableError

_FIRST_S, _LONGEST_S = 0.05, 1.0


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

    def failed(self, why: str, retry_after: float = 0.0) -> float:
        """Seconds to wait before the next try. retry_after: what the server has asked for.

        Raises UnavailableError where that would be too late.
        """
        self._failed += 1
        rounds = self._failed // len(self._urls)
        if rounds == 0:
            delay = 0.0  # another server has not refused yet
        else:
            longest = min(_LONGEST_S, _FIRST_S * 2.0 ** min(rounds - 1, 10))
            delay = max(retry_after, longest * (0.5 + self._chance() / 2))
        if delay >= self.left:
            raise UnavailableError(f"no answer within {self._seconds:g} s; the last of {self._failed} tries: {why}")
        return delay
