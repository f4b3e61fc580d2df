"""Quotas of connections, requests, memory and streams, which refuse at once what exceeds them; and rates."""

from __future__ import annotations

from collections import OrderedDict
from typing import Self

from service.batching import OverloadedError

_RETRY_S = 1.0
_MOST_CLIENTS = 10_000


class QuotaExceededError(OverloadedError):
    """A quota is used up. reason: `full` if all of it is held, `share` if this client holds its share."""


class Quota:
    """A limited amount of something that clients hold for a while: connections, requests, bytes, streams.

    All clients together hold at most `total`, and one client at most `share` of it, so the rest is left to others.
    There is no waiting: an amount that is not available is refused at once. Belongs to one event loop.
    """

    def __init__(self, what: str, total: int, share: float = 1.0) -> None:
        """what: a plural noun for messages. share: above 0, at most 1. Each client may hold at least one."""
        self.what = what
        self.total = total
        self.most_per_client = max(1, int(total * share))
        self.held = 0
        self._by_client: dict[str, int] = {}

    def take(self, client: str, amount: int = 1, *, most: int | None = None) -> Lease:
        """Hold an amount for a client until the lease is released. Raises QuotaExceededError.

        most: the client's limit, in place of the usual share.
        """
        lease = Lease(self, client, self.most_per_client if most is None else most)
        lease.grow(amount)
        return lease

    def test(self, client: str, amount: int = 1) -> None:
        """Raise QuotaExceededError if `take` would. Holds nothing."""
        self.take(client, amount).release()

    def held_by(self, client: str) -> int:
        """Return the amount that a client holds."""
        return self._by_client.get(client, 0)

    def _change(self, client: str, amount: int, most: int) -> None:
        held = self._by_client.get(client, 0) + amount
        if amount > 0 and self.held + amount > self.total:
            raise QuotaExceededError(
                f"{self.held:,} of {self.total:,} {self.what} are taken, {amount:,} more do not fit",
                reason="full",
                retry_after_s=_RETRY_S,
            )
        if amount > 0 and held > most:
            raise QuotaExceededError(
                f"one client may have {most:,} {self.what} at once, this would be {held:,}",
                reason="share",
                retry_after_s=_RETRY_S,
            )
        self.held += amount
        if held:
            self._by_client[client] = held
        else:
            self._by_client.pop(client, None)


class Lease:
    """An amount of a quota that a client holds. Can be released twice."""

    __slots__ = ("_client", "_most", "_quota", "amount")

    def __init__(self, quota: Quota, client: str, most: int) -> None:
        self.amount = 0
        self._quota = quota
        self._client = client
        self._most = most

    @property
    def client(self) -> str:
        """The client that holds it."""
        return self._client

    def grow(self, amount: int) -> None:
        """Hold more, or less for a negative amount. Raises QuotaExceededError and leaves the lease unchanged."""
        self._quota._change(self._client, amount, self._most)
        self.amount += amount

    def release(self) -> None:
        """Give the whole amount back."""
        self.grow(-self.amount)

    def pass_to(self, client: str) -> Lease:
        """Return a lease of the same amount for `client` and release this one.

        Raises QuotaExceededError, and changes nothing, if that exceeds the share of `client`.
        """
        amount = self.amount
        self.release()
        try:
            return self._quota.take(client, amount)
        except QuotaExceededError:
            self.grow(amount)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Bucket:
    """A token bucket: `rate` tokens a second, at most `burst` at once. now: seconds, of the clock of later calls."""

    __slots__ = ("_burst", "_rate", "_then", "tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._then = now
        self.tokens = burst

    def take(self, amount: float, now: float) -> bool:
        """Take tokens if there are enough, and return whether there were."""
        self._refill(now)
        if self.tokens < amount:
            return False
        self.tokens -= amount
        return True

    def take_some(self, most: int, now: float) -> int:
        """Take as many whole tokens as there are, up to `most`, and return how many."""
        self._refill(now)
        taken = min(most, max(0, int(self.tokens)))
        self.tokens -= taken
        return taken

    def charge(self, amount: float, now: float) -> float:
        """Take tokens even if there are too few. Return the seconds until the balance is no longer negative."""
        self._refill(now)
        self.tokens -= amount
        return max(0.0, -self.tokens / self._rate)

    def _refill(self, now: float) -> None:
        self.tokens = min(self._burst, self.tokens + (now - self._then) * self._rate)
        self._then = now


class ClientBuckets:
    """A token bucket for each client. Keeps those of the 10,000 clients that were seen last."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, client: str, now: float) -> Bucket:
        """Return a client's bucket. now: seconds, of the clock of other calls."""
        bucket = self._buckets.pop(client, None) or Bucket(self._rate, self._burst, now)
        self._buckets[client] = bucket
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return bucket
