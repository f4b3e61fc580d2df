"""Retries: when and where."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from .errors import UnavailableError

_LOST_S = (0.05, 1.0)
"""The first and the longest pause after a lost connection."""
_REFUSED_S = (0.2, 5.0)
"""The same after a refusal or failure. The server is up, and immediate retries would add to its load."""


class Attempts:
    """The attempts of one request, for `seconds` in total, at each of `urls` in turn. Pauses double, with jitter.

    clock: seconds. chance: random numbers in 0..1, so that clients that lost one server do not all return at once.
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
        """The URL of the next attempt."""
        return self._urls[self._failed % len(self._urls)]

    @property
    def left(self) -> float:
        """Seconds left for further attempts."""
        return self._began + self._seconds - self._clock()

    def restart(self, pauses: bool) -> None:
        """Restart the time for attempts, because the last one succeeded. pauses: also reset the pauses."""
        self._began = self._clock()
        if pauses:
            self._failed = 0

    def failed(self, why: str, retry_after: float = 0.0, *, refused: bool = False) -> float:
        """Record a failure. Returns the seconds to wait before the next attempt.

        why: the reason. retry_after: seconds that the server asked for. refused: True if the server answered.
        Raises UnavailableError if the next attempt would be too late.
        """
        self._failed += 1
        rounds = self._failed // len(self._urls)
        delay = 0.0
        if rounds:  # otherwise there are servers that have not been tried yet
            first, most = _REFUSED_S if refused else _LOST_S
            longest = min(most, first * 2.0 ** min(rounds - 1, 10))
            delay = max(retry_after, longest * (0.5 + self._chance() / 2))
        if delay >= self.left:
            raise UnavailableError(f"no answer within {self._seconds:g} s; the last of {self._failed} tries: {why}")
        return delay


def retry_after(headers: Mapping[str, str]) -> float:
    """The seconds in Retry-After, or 0. Dates are ignored; Posewire does not send them."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0


def reason(url: str, error: Exception) -> str:
    """Why an attempt failed without an answer."""
    return f"{url}: {str(error) or type(error).__name__}"
