"""Who a client is and how often it may ask."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.api.problems import ProblemError

_MOST_CLIENTS = 10_000


def digest(key: str) -> str:
    """What is stored of an API key: its SHA-256, which suffices for keys that are random and long."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The accepted keys, as digests. With none, everybody is let in."""

    digests: tuple[str, ...]

    @staticmethod
    def read(digests: tuple[str, ...], file: Path | None) -> ApiKeys:
        """Digests from the settings and from a file, one a line, `#` begins a comment.

        Raises ValueError for what is no SHA-256 digest, OSError for a file that cannot be read.
        """
        lines = file.read_text("utf-8").splitlines() if file is not None else []
        found = [*digests, *(line.partition("#")[0].strip() for line in lines)]
        for value in filter(None, found):
            if len(value) != 64 or set(value) - set("0123456789abcdef"):
                raise ValueError(
                    f"{value[:8]}... is not a SHA-256 digest; `posewire key` makes a key and prints its own"
                )
        return ApiKeys(tuple(filter(None, found)))

    def check(self, headers: Mapping[str, str]) -> str:
        """The name under which the bearer of this request counts, empty where keys are not asked for.

        Raises ProblemError for a missing or unknown key.
        """
        if not self.digests:
            return ""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not key:
            raise ProblemError("unauthorized", "this server asks for an API key and the request has none")
        presented = digest(key)
        if sum(hmac.compare_digest(presented, known) for known in self.digests) == 0:  # no early end: constant time
            raise ProblemError("unauthorized", "the API key is not one that this server accepts")
        return f"key:{presented[:12]}"


class RateLimit:
    """A token bucket a client: `rate` requests a second, `burst` at once; a rate of 0 limits nobody.

    Remembers the 10,000 clients that asked last.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Count one request. Raises ProblemError with the seconds to wait where the bucket is empty."""
        if not self._rate:
            return
        now = self._clock()
        tokens, then = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - then) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[client] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait = (1.0 - tokens) / self._rate
            raise ProblemError(
                "rate-limited", f"this server allows {self._rate:g} requests a second to a client", retry_after_s=wait
            )
