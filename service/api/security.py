"""API keys and rate limits."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from service.api.problems import ApiError
from service.quota import ClientBuckets

ADMIN = "admin:"
"""Before the digest of a key whose holder may change the server's cameras."""
PROBES = frozenset({"/livez", "/readyz"})
"""Paths that need no API key and count towards no rate limit."""
_RECENT_S = 10.0


def digest(key: str) -> str:
    """Return an API key's SHA-256, which is all that is stored. That suffices for long random keys."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The digests of the accepted keys. Without any, no key is needed. admins: those that are of admins."""

    digests: tuple[str, ...]
    admins: frozenset[str] = frozenset()

    @staticmethod
    def read(digests: tuple[str, ...], file: Path | None) -> ApiKeys:
        """Read digests from the settings and from a file with one digest a line, where `#` begins a comment.

        Those of admins have `admin:` before them.

        Raises ValueError if something is not a SHA-256 digest, OSError if the file cannot be read.
        """
        found = {f"number {n}": value for n, value in enumerate(digests, 1)}
        if file is not None:
            try:
                lines = file.read_text("utf-8-sig").splitlines()
            except UnicodeDecodeError as error:
                raise ValueError(f"{file} is no UTF-8 text") from error
            found |= {f"line {n} of {file}": line.partition("#")[0].strip() for n, line in enumerate(lines, 1)}
        hashes = {place: value.removeprefix(ADMIN) for place, value in found.items() if value}
        for place, value in hashes.items():
            if len(value) != 64 or set(value) - set("0123456789abcdef"):  # may be a key: do not show it
                raise ValueError(f"{place} is not a SHA-256 digest; `posewire key` makes a key and prints its own")
        admins = frozenset(hashes[place] for place, value in found.items() if value.startswith(ADMIN))
        return ApiKeys(tuple(hashes.values()), admins)

    def check_admin(self, client: str) -> None:
        """Raise ApiError unless a client is an admin. client: a name that `check` has returned."""
        if self.is_admin(client):
            return
        how = "`posewire key --admin` makes one, and its line admin:DIGEST goes into POSEWIRE_API_KEYS on the server"
        who = "the key of this request is no admin's" if self.admins else "this server has no admin key"
        raise ApiError("admin-only", f"{who}; {how}")

    def is_admin(self, client: str) -> bool:
        """Return whether a client is an admin. client: a name that `check` has returned."""
        return client in {_name(known) for known in self.admins}

    def admits(self, client: str) -> bool:
        """Return whether the key of a client is still accepted. client: a name that `check` has returned."""
        return not self.digests or client in {_name(known) for known in self.digests}

    def check(self, headers: Mapping[str, str]) -> str:
        """Return the client's name by the API key of a request, or an empty string if no key is needed.

        Raises ApiError for a missing or unknown key.
        """
        if not self.digests:
            return ""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not key:
            raise ApiError("unauthorized", "this server asks for an API key and the request has none")
        presented = digest(key)
        if sum(hmac.compare_digest(presented, known) for known in self.digests) == 0:  # no early end: constant time
            raise ApiError("unauthorized", "the API key is not one that this server accepts")
        return _name(presented)


def _name(known: str) -> str:
    """Return the client's name for the digest of its key."""
    return f"key:{known[:12]}"


class RateLimit:
    """`rate` requests a second of each client, `burst` at once. With a rate of 0, `take` is unlimited."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets = ClientBuckets(rate, burst)

    def take(self, client: str, amount: int = 1) -> None:
        """Take tokens of a client. Raises ApiError with the seconds to wait if there are too few."""
        if not self._rate:
            return
        now = self._clock()
        bucket = self._buckets.of(client, now)
        if not bucket.take(amount, now):
            wait = (amount - bucket.tokens) / self._rate
            raise ApiError(
                "rate-limited",
                f"this server allows {self._rate:g} requests a second to a client",
                retry_after_s=wait,
            )

    def charge(self, client: str, amount: int) -> float:
        """Take tokens of a client even if there are too few, see `Bucket.charge`."""
        now = self._clock()
        return self._buckets.of(client, now).charge(amount, now)


class RecentClients:
    """Tells whether a client is alone. Remembers the client that was seen last and the last one before it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._latest = ("", -inf)
        self._other = ("", -inf)

    def saw(self, client: str) -> None:
        """Record a request of a client."""
        if client != self._latest[0]:
            self._other = self._latest
        self._latest = (client, self._clock())

    def is_alone(self, client: str) -> bool:
        """True if no other client was seen within the last seconds."""
        _, seen = self._other if client == self._latest[0] else self._latest
        return self._clock() - seen > _RECENT_S
