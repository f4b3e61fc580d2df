"""The journal's thread outlives its callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.events.journal import EventJournal, JournalLimits
from service.events.journal_thread import EventsObserver, JournalThread
from tests.service.events.happenings import happening, on_loop


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[JournalThread]:
    thread = JournalThread(folder, JournalLimits(bytes=1_000_000, events=1_000, seconds=3_600), EventsObserver())
    thread.start()
    try:
        yield thread
    finally:
        await thread.close()


@pytest.mark.parametrize("change", [False, True], ids=["read", "change"])
@on_loop
async def test_a_caller_that_is_cancelled_harms_nobody(tmp_path: Path, change: bool) -> None:
    async with started(tmp_path) as journal:
        running, finish = threading.Event(), threading.Event()

        def work(_: EventJournal) -> None:
            running.set()
            finish.wait(10)

        call = journal.change if change else journal.read
        called = [asyncio.create_task(call(work)) for _ in range(2)]  # the second waits for the first
        await asyncio.to_thread(running.wait, 10)
        for task in called:
            task.cancel()
        await asyncio.wait(called)
        finish.set()
        await journal.add([happening(1)])
        assert journal.held == 0
        assert await journal.read(lambda opened: len(opened.status())) == 0
