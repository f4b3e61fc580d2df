"""The dynamic batching queue: the only place where the work of different clients meets."""

from service.batching.batcher import Batcher
from service.batching.errors import BatchingError, ClosedError, DeadlineExceededError, OverloadedError, RunError
from service.batching.fair_queue import Priority
from service.batching.health import Health, Stats
from service.batching.jobs import Served
from service.batching.lockstep import SteppedBatcher, in_step
from service.batching.observer import BatchObserver
from service.batching.reservation import Forecast, Reservation

__all__ = [
    "BatchObserver",
    "Batcher",
    "BatchingError",
    "ClosedError",
    "DeadlineExceededError",
    "Forecast",
    "Health",
    "OverloadedError",
    "Priority",
    "Reservation",
    "RunError",
    "Served",
    "Stats",
    "SteppedBatcher",
    "in_step",
]
