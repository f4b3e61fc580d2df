"""The dynamic batching queue: the only place where requests of different clients meet."""

from service.batching.batcher import Batcher
from service.batching.lockstep import LockstepBatcher, run_in_lockstep
from service.batching.types import (
    BatchingError,
    BatchObserver,
    BatchResult,
    ClosedError,
    DeadlineExceededError,
    Division,
    Forecast,
    Health,
    OverloadedError,
    Priority,
    Reservation,
    RunError,
    Stats,
)

__all__ = [
    "BatchObserver",
    "BatchResult",
    "Batcher",
    "BatchingError",
    "ClosedError",
    "DeadlineExceededError",
    "Division",
    "Forecast",
    "Health",
    "LockstepBatcher",
    "OverloadedError",
    "Priority",
    "Reservation",
    "RunError",
    "Stats",
    "run_in_lockstep",
]
