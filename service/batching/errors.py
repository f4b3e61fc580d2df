"""Why an item got no result."""

from __future__ import annotations


class BatchingError(Exception):
    """What `Batcher.submit` raises of its own; the errors of the user's `run` come through as they are."""

    reason = "failed"
    """One word for a metric's label."""


class OverloadedError(BatchingError):
    """Refused on arrival, nothing was queued: the queue has no room, or the result would come after the deadline.

    retry_after_s: seconds after which the same request would probably be accepted; positive.
    """

    def __init__(self, message: str, *, reason: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = max(retry_after_s, 0.1)


class DeadlineExceededError(BatchingError):
    """The deadline passed before there was a result. An item that was still waiting then did not run."""

    reason = "expired"


class ClosedError(BatchingError):
    """The batcher is not started, is closing, or was closed before this item had its turn."""

    reason = "closed"


class RunError(BatchingError):
    """`run` broke its contract: a wrong number of results, or something raised that is no `Exception`."""
