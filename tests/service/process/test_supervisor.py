"""Background tasks: their end is logged and counted, and they begin anew; steps of an end wait for no other one."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise

import pytest

from service.observability.metrics import Metrics
from service.process.supervisor import Supervisor, attempt
from tests.denied import no_threads
from tests.instant import run


def test_a_task_that_ends_is_started_again_after_ever_longer_pauses(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[float] = []
    metrics = Metrics()

    async def story() -> None:
        loop = asyncio.get_running_loop()
        supervisor = Supervisor(metrics.task_ended)

        async def work() -> None:
            begun.append(loop.time())
            if len(begun) % 2:
                raise ZeroDivisionError

        task = supervisor.keep("writer", work)
        assert task.get_name() == "posewire-writer"
        await asyncio.sleep(20)
        await supervisor.close()
        assert task.cancelled()

    run(story())
    pauses = [round(after - before, 1) for before, after in pairwise(begun)]
    assert pauses[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert f'posewire_task_failures_total{{task="writer"}} {len(begun)}.0' in metrics.render().decode()
    assert "the background task writer has ended with an error" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_one_that_lasted_is_started_again_soon() -> None:
    begun: list[float] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()

        async def work() -> None:
            begun.append(loop.time())
            await asyncio.sleep(100)

        supervisor = Supervisor()
        supervisor.keep("writer", work)
        await asyncio.sleep(350)
        await supervisor.close()

    run(story())
    assert [round(start, 1) for start in begun] == [0.0, 100.1, 200.2, 300.3]


def test_what_cannot_be_counted_is_supervised_all_the_same() -> None:
    def count(name: str) -> None:
        raise OSError("the disk is full")

    begun: list[int] = []

    async def work() -> None:
        begun.append(1)

    async def story() -> None:
        supervisor = Supervisor(count)
        supervisor.keep("writer", work)
        await asyncio.sleep(5)
        await supervisor.close()

    run(story())
    assert len(begun) > 3


def test_a_task_that_runs_once_is_counted_where_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    async def fail() -> None:
        raise ValueError("nobody awaits this")

    async def story() -> None:
        supervisor = Supervisor(ended.append)
        supervisor.once("good", asyncio.sleep(1))
        supervisor.once("bad", fail())
        await supervisor.wait()

    run(story())
    assert ended == ["bad"]
    assert "nobody awaits this" in caplog.text


def test_closing_ends_tasks_that_others_begin_at_their_end() -> None:
    async def story() -> None:
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

    run(story())


def test_a_step_that_fails_or_hangs_does_not_keep_the_next_from_being_done(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    def fail() -> None:
        raise RuntimeError("the device is gone")

    async def fail_later() -> None:
        raise RuntimeError("the store is gone")

    async def story() -> None:
        done: list[int] = []
        await attempt("closing a", 10, fail)
        await attempt("closing b", 10, fail_later())
        await attempt("closing c", 0.05, lambda: go.wait(30))
        await attempt("closing d", 0.05, asyncio.sleep(30))
        with no_threads():
            await attempt("closing e", 10, lambda: done.append(0))
        await attempt("closing f", 10, lambda: done.append(1))
        assert done == [1]

    asyncio.run(story())  # which would wait for threads of a pool
    assert any(thread.name == "posewire-closing c" for thread in threading.enumerate()), "nobody waited for it"
    go.set()
    for message in ("closing a failed", "closing b failed", "closing e failed"):
        assert message in caplog.text
    for name in ("c", "d"):
        assert f"closing {name} has not ended within 0.05 s and is left behind" in caplog.text
