"""Supervised background tasks: when one ends, that is logged and counted, and the task is started again."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any

log = logging.getLogger(__name__)

_DELAYS_S = (0.1, 10.0)
"""The first and the longest delay before a task is started again; doubled each time that it ends soon."""
_STABLE_S = 60.0
"""A task that ran this long before it ended is started again after the first delay."""


class Supervisor:
    """Owns the background tasks of one event loop.

    ended: called with a task's name each time that one has ended on its own. Its exceptions are logged.
    """

    def __init__(self, ended: Callable[[str], None] = lambda _: None) -> None:
        self._ended = ended
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]], longest_delay: float = _DELAYS_S[1]
    ) -> asyncio.Task[None]:
        """Run `work` forever: when it returns or raises, call it again after a delay. Cancel the task to end it."""
        return self._start(name, self._repeat(name, work, longest_delay))

    def once(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background. Its exceptions are logged and counted."""
        return self._start(name, self._run_once(name, work))

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        while self._tasks:  # a task that ends may start another
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def wait(self) -> None:
        """Wait until all tasks have ended."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"posewire-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _repeat(self, name: str, work: Callable[[], Coroutine[Any, Any, None]], longest: float) -> None:
        loop, delay = asyncio.get_running_loop(), _DELAYS_S[0]
        while True:
            started = loop.time()
            try:
                await work()
            except Exception as error:  # noqa: BLE001
                self._report(name, error)
            else:
                self._report(name, None)
            if loop.time() - started >= _STABLE_S:
                delay = _DELAYS_S[0]
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)

    async def _run_once(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001
            self._report(name, error)

    def _report(self, name: str, error: Exception | None) -> None:
        log.error("the background task %s has ended%s", name, " with an error" if error else "", exc_info=error)
        try:
            self._ended(name)
        except Exception:  # the task must be restarted even if its end cannot be counted
            log.exception("the end of the background task %s could not be counted", name)


async def attempt(name: str, seconds: float, work: Callable[[], object] | Awaitable[object]) -> None:
    """Run one step of a shutdown. Its exceptions are logged, and so is a timeout.

    work: an awaitable, which is cancelled after `seconds`; or a function that blocks, which runs on a daemon
    thread: a network that hangs must hold up neither the next step nor the end of the process.
    """
    try:
        async with asyncio.timeout(seconds):
            await (run_on_thread(name, work) if callable(work) else work)
    except TimeoutError:
        log.error("%s has not ended within %g s and is left behind", name, seconds)
    except Exception:  # the next step of the shutdown must run
        log.exception("%s failed", name)


async def run_on_thread(name: str, work: Callable[[], object]) -> None:
    """Run a function that blocks on a daemon thread, which a cancellation leaves behind. Raises what it raises."""
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()  # from now on it cannot be cancelled, only left behind

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - it is raised where `done` is awaited
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name=f"posewire-{name}", daemon=True).start()
    await asyncio.wrap_future(done)
