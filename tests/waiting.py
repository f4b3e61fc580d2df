"""Waiting for what comes to pass elsewhere, in another thread or process, with a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_PATIENCE_S = 20.0
_TURN_S = 0.01


def wait_for(condition: Callable[[], bool], patience: float = _PATIENCE_S) -> None:
    """Return once `condition` holds. Raises AssertionError if that takes more than so many seconds."""
    stop = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < stop, "it did not come to pass"
        time.sleep(_TURN_S)


async def until(condition: Callable[[], bool]) -> None:
    """As `wait_for`, for a coroutine."""
    stop = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < stop, "it did not come to pass"
        await asyncio.sleep(_TURN_S)
