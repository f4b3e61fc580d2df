"""What a batcher says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a batcher serves, with a sentence about it.

    hung: a batch runs much longer than it should, which may end by itself. dead: a worker has ended and could not be
    replaced yet; that is tried again and again.
    """

    state: Literal["ok", "hung", "dead", "closed"]
    detail: str

    @property
    def ok(self) -> bool:
        """Whether it serves."""
        return self.state == "ok"


@dataclass(frozen=True, slots=True)
class Stats:
    """What waits and what runs at one moment. restarts: threads replaced since the start."""

    waiting_items: int
    waiting_units: int
    running_batches: int
    running_items: int
    restarts: int
