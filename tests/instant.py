"""An event loop with simulated time, in which sleeping takes no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _NoWait(selectors.SelectSelector):
    """slept: the simulated seconds of waiting, in total."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.slept += timeout or 0.0
        return super().select(0)


class _InstantLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(selector := _NoWait())
        self._selected = selector

    def time(self) -> float:
        return self._selected.slept

    async def shutdown_default_executor(self, _timeout: float | None = None) -> None:
        """Wait for threads in real time. Python 3.12's own timeout would expire at once."""
        await super().shutdown_default_executor()


def run(story: Coroutine[Any, Any, Result]) -> Result:
    """As asyncio.run: hours of `asyncio.sleep` in milliseconds, deterministic. For scenarios without sockets."""
    with asyncio.Runner(loop_factory=_InstantLoop) as runner:
        return runner.run(story)
