"""Background tasks are logged, counted and restarted when they end; steps of a shutdown do not block each other."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise

import pytest

from service.observability.metrics import Metrics
from service.process.supervisor import Supervisor, attempt
from tests.denied import no_threads
from tests.instant import run


def test_a_task_that_ends_is_started_again_after_growing_delays(caplog: pytest.LogCaptureFixture) -> None:
    starts: list[float] = []
    metrics = Metrics()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        supervisor = Supervisor(metrics.task_ended)

        async def work() -> None:
            starts.append(loop.time())
            if len(starts) % 2:
                raise ZeroDivisionError

        task = supervisor.keep("writer", work)
        assert task.get_name() == "posewire-writer"
        await asyncio.sleep(20)
        await supervisor.close()
        assert task.cancelled()

    run(scenario())
    delays = [round(after - before, 1) for before, after in pairwise(starts)]
    assert delays[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert f'posewire_task_failures_total{{task="writer"}} {len(starts)}.0' in metrics.render().decode()
    assert "the background task writer has ended with an error" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_task_that_ran_long_is_started_again_soon() -> None:
    starts: list[float] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        async def work() -> None:
            starts.append(loop.time())
            await asyncio.sleep(100)

        supervisor = Supervisor()
        supervisor.keep("writer", work)
        await asyncio.sleep(350)
        await supervisor.close()

    run(scenario())
    assert [round(start, 1) for start in starts] == [0.0, 100.1, 200.2, 300.3]


def test_a_task_is_supervised_even_if_its_end_cannot_be_counted() -> None:
    def count(name: str) -> None:
        raise OSError("the disk is full")

    starts: list[int] = []

    async def work() -> None:
        starts.append(1)

    async def scenario() -> None:
        supervisor = Supervisor(count)
        supervisor.keep("writer", work)
        await asyncio.sleep(5)
        await supervisor.close()

    run(scenario())
    assert len(starts) > 3


def test_a_failed_task_that_runs_once_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    async def fail() -> None:
        raise ValueError("nobody awaits this")

    async def scenario() -> None:
        supervisor = Supervisor(ended.append)
        supervisor.once("good", asyncio.sleep(1))
        supervisor.once("bad", fail())
        await supervisor.wait()

    run(scenario())
    assert ended == ["bad"]
    assert "nobody awaits this" in caplog.text


def test_closing_ends_tasks_that_other_tasks_start_at_their_end() -> None:
    async def scenario() -> None:
        supervisor, tasks = Supervisor(), list[asyncio.Task[None]]()

        async def work() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                tasks.append(supervisor.once("farewell", asyncio.sleep(1000)))

        supervisor.once("first", work())
        await asyncio.sleep(0)
        await supervisor.close()
        assert [task.cancelled() for task in tasks] == [True]

    run(scenario())


def test_a_failed_or_hanging_step_does_not_block_the_next(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    def fail() -> None:
        raise RuntimeError("the device is gone")

    async def fail_later() -> None:
        raise RuntimeError("the store is gone")

    async def scenario() -> None:
        done: list[int] = []
        await attempt("closing a", 10, fail)
        await attempt("closing b", 10, fail_later())
        await attempt("closing c", 0.05, lambda: go.wait(30))
        await attempt("closing d", 0.05, asyncio.sleep(30))
        with no_threads():
            await attempt("closing e", 10, lambda: done.append(0))
        await attempt("closing f", 10, lambda: done.append(1))
        assert done == [1]

    asyncio.run(scenario())  # which would wait for threads of a pool
    assert any(thread.name == "posewire-closing c" for thread in threading.enumerate()), "nobody waited for it"
    go.set()
    for message in ("closing a failed", "closing b failed", "closing e failed"):
        assert message in caplog.text
    for name in ("c", "d"):
        assert f"closing {name} has not ended within 0.05 s and is left behind" in caplog.text
