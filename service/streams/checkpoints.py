"""Saves the state of streams while they run, so that another server can continue them if this one dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.streams.slots import Slot
from service.streams.store.base import Store

_ROUNDS = 10
"""How many times in each interval streams are checked. Streams come due in different rounds, not all at once."""
_DRAINING_S = 0.05
"""The interval while the server drains: clients that reconnect elsewhere should find the state of the last frame."""


@dataclass(eq=False)
class Checkpoints:
    """Saves the state of each of the open `streams` to a store, every `seconds` if it has changed.

    keep_seconds: how long the store keeps a state. clock: returns seconds.
    """

    store: Store
    streams: Mapping[str, Slot]
    seconds: float
    keep_seconds: float
    clock: Callable[[], float] = time.monotonic

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.seconds / _ROUNDS)
            self.take(self.seconds * (1 - 1 / _ROUNDS))  # a younger one is at most `seconds` old in the next round

    def take(self, age: float = 0.0) -> None:
        """Save the state of streams whose last checkpoint is at least `age` seconds old."""
        now = self.clock()
        for name, slot in self.streams.items():
            if now - slot.saved_at >= age and (state := slot.state()).data is not slot.saved:
                slot.saved, slot.saved_at = state.data, now
                self.store.keep(name, state, self.keep_seconds)

    def drain(self) -> None:
        """Take all checkpoints now, and from now on soon after each frame."""
        self.take()
        self.seconds = min(self.seconds, _DRAINING_S)
