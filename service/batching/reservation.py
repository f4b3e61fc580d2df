"""Room in a queue for work that is on its way to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from service.batching.fair_queue import Priority


@dataclass(slots=True, eq=False)
class Reservation:
    """Counts as work that waits, until the work comes or `Batcher.release` gives it up.

    units: how much of it is still to come; changed by the dispatcher only.
    """

    units: int
    priority: Priority
    client: str


class Forecast(NamedTuple):
    """What is expected of some work: seconds until it would be done, and the part of them that it runs itself.

    Both are 0 before anything has run.
    """

    done: float
    run: float
