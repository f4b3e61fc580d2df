"""Waiting for conditions that other threads or processes fulfil, with a timeout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_TIMEOUT_S = 60.0
"""Long, as tests of other files and other programs may keep the machine busy. Only a failing test waits for it."""
PATIENCE_S = 300.0
_POLL_S = 0.01


def wait_for(condition: Callable[[], bool], timeout: float = _TIMEOUT_S) -> None:
    """Return once `condition` holds. Raises AssertionError after `timeout` seconds."""
    stop = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < stop, "it did not come to pass"
        time.sleep(_POLL_S)


def wait_for_process(condition: Callable[[], bool]) -> None:
    """As `wait_for`, for what a process of the lowest priority does, which others may keep waiting for minutes."""
    wait_for(condition, PATIENCE_S)


async def until(condition: Callable[[], bool]) -> None:
    """As `wait_for`, for coroutines."""
    stop = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < stop, "it did not come to pass"
        await asyncio.sleep(_POLL_S)
