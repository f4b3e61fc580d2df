"""Tracking workers are started when needed, shared by streams, and replaced when they end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.tracking_workers import worker as worker_module
from service.tracking_workers.pool import TrackedStream, TrackingWorkers
from service.tracking_workers.state import TrackingOptions
from service.tracking_workers.worker import ProcessEndedError, TrackingWorkerError
from tests.service.tracking.people import people
from tests.tracking_workers import tracking_workers
from tests.waiting import until, wait_for

FRAME = np.random.default_rng(5).integers(0, 256, (240, 320, 3)).astype(np.uint8)
NOBODY = Poses.empty(COCO_17)


def run_stream(scenario: Callable[[TrackingWorkers, TrackedStream], Awaitable[None]], hang_after: float = 30.0) -> None:
    """Run a scenario with one stream."""

    async def whole() -> None:
        async with (
            tracking_workers(hang_after=hang_after) as workers,
            workers.stream(COCO_17, TrackingOptions()) as stream,
        ):
            await scenario(workers, stream)

    asyncio.run(whole())


def test_no_process_runs_before_the_first_frame_or_after_the_last() -> None:
    async def scenario() -> int:
        async with tracking_workers() as workers:
            assert workers.processes == []
            async with workers.stream(COCO_17, TrackingOptions()) as stream:
                await stream.update(NOBODY, FRAME, 1.0)
                return workers.processes[0].pid

    pid = asyncio.run(scenario())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_streams_are_spread_over_the_processes_and_do_not_affect_each_other() -> None:
    async def scenario() -> None:
        async with (
            tracking_workers(processes=2) as workers,
            workers.stream(COCO_17, TrackingOptions()) as one,
            workers.stream(COCO_17, TrackingOptions()) as other,
        ):
            await one.update(people([(80, 120)]), FRAME, 1.0)
            both, _ = await other.update(people([(80, 120), (240, 120)]), FRAME, 1.0)
            first, _ = await one.update(people([(80, 120)]), FRAME, 1.1)
            assert (first.ids.tolist(), both.ids.tolist()) == ([1], [1, 2])
            assert [len(process.free) for process in workers.processes] == [3, 3]

    asyncio.run(scenario())


def open_files() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("turns", range(1, 8))
def test_a_stream_that_is_left_while_its_process_starts_leaves_nothing_open(turns: int) -> None:
    async def scenario() -> None:
        before = open_files()
        async with tracking_workers() as workers, workers.stream(COCO_17, TrackingOptions()) as stream:
            asking = asyncio.create_task(stream.update(NOBODY, FRAME, 1.0))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: open_files() == before)

    asyncio.run(scenario())


def test_a_released_slot_is_used_again() -> None:
    async def scenario() -> None:
        async with tracking_workers() as workers:
            for n in range(20):  # there is room for four at once
                async with workers.stream(COCO_17, TrackingOptions()) as stream:
                    result, _ = await stream.update(people([(80, 120)]), FRAME, float(n))
                    assert result.ids.tolist() == [1]
            assert len(workers.processes[0].free) == 4

    asyncio.run(scenario())


def test_when_a_process_is_killed_another_continues_with_the_same_ids(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.update(people([(80, 120), (240, 120)]), FRAME, 1.0)
        os.kill(workers.processes[0].pid, signal.SIGKILL)
        result, _ = await stream.update(people([(240, 120), (80, 120)]), FRAME, 1.1)
        assert result.ids.tolist() == [2, 1]

    run_stream(scenario)
    assert [record.message for record in caplog.records] == ["a process that follows streams has ended and is replaced"]


def test_a_replaced_process_is_reported() -> None:
    async def scenario() -> int:
        replaced: list[None] = []
        workers = TrackingWorkers(
            1, streams=4, frame_bytes=1_000_000, hang_after=30.0, replaced=lambda: replaced.append(None)
        )
        async with workers.stream(COCO_17, TrackingOptions()) as stream:
            await stream.update(NOBODY, FRAME, 1.0)
            workers.processes[0].kill()
            await stream.update(NOBODY, FRAME, 1.1)
        await workers.close()
        return len(replaced)

    assert asyncio.run(scenario()) == 1


def test_a_process_killed_between_the_two_requests_of_a_frame_is_replaced() -> None:
    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.update(people([(80, 120)]), FRAME, 1.0)
        boxes, _ = await stream.propose(FRAME, 1.1)
        assert len(boxes) == 1
        os.kill(workers.processes[0].pid, signal.SIGKILL)
        result, _ = await stream.update(people([(80, 120)]), FRAME, 1.1)
        assert result.ids.tolist() == [1]

    run_stream(scenario)


def test_a_process_that_hangs_is_replaced() -> None:
    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.update(people([(80, 120)]), FRAME, 1.0)
        stopped = workers.processes[0].pid
        os.kill(stopped, signal.SIGSTOP)
        result, _ = await stream.update(people([(80, 120)]), FRAME, 1.1)
        assert result.ids.tolist() == [1]
        assert workers.processes[0].pid != stopped

    run_stream(scenario, hang_after=3.0)


def test_a_frame_that_ends_every_process_is_given_up() -> None:
    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.update(NOBODY, FRAME, 1.0)

        async def end_all() -> None:
            while True:
                for process in workers.processes:
                    process.kill()
                await asyncio.sleep(0)

        killing = asyncio.create_task(end_all())
        with pytest.raises(ProcessEndedError):
            await stream.update(NOBODY, FRAME, 1.1)
        killing.cancel()
        await stream.update(NOBODY, FRAME, 1.2)

    run_stream(scenario)


def test_a_defect_is_raised_and_does_not_end_the_process() -> None:
    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.update(people([(80, 120)]), FRAME, 1.0)
        with pytest.raises(TrackingWorkerError, match="time runs forwards"):
            await stream.update(people([(80, 120)]), FRAME, 0.5)
        result, _ = await stream.update(people([(80, 120)]), FRAME, 1.1)
        assert result.ids.tolist() == [1]
        assert len(workers.processes) == 1

    run_stream(scenario)


def test_signals_of_a_terminal_do_not_end_a_process() -> None:
    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.update(NOBODY, FRAME, 1.0)
        pid = workers.processes[0].pid
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        await stream.update(NOBODY, FRAME, 1.1)
        assert workers.processes[0].pid == pid

    run_stream(scenario)


@contextlib.contextmanager
def child(folder: Path, monkeypatch: pytest.MonkeyPatch, before: str) -> Iterator[None]:
    """Make new worker processes run `before` first."""
    script = folder / "python"
    script.write_text(
        f"#!{sys.executable}\n{before}\nimport sys, runpy; del sys.argv[:3]; sys.argv.insert(0, 'child')\n"
        "runpy.run_module('service.tracking_workers.main', run_name='__main__', alter_sys=False)\n",
        "utf-8",
    )
    script.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(script))
        yield


def test_starting_may_take_longer_than_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        with child(tmp_path, monkeypatch, "import time; time.sleep(1.5)"):
            await stream.update(NOBODY, FRAME, 1.0)
        pid = workers.processes[0].pid
        await stream.update(NOBODY, FRAME, 1.1)
        assert workers.processes[0].pid == pid

    run_stream(scenario, hang_after=0.5)


def test_a_process_that_does_not_start_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_START_S", 0.5)

    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        with child(tmp_path, monkeypatch, "import time; time.sleep(600)"), pytest.raises(ProcessEndedError):
            await stream.update(NOBODY, FRAME, 1.0)
        assert workers.processes == []

    run_stream(scenario)


def test_processes_that_end_at_their_start_are_restarted_with_pauses_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = tmp_path / "started"

    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        descriptors = open_files()
        with child(tmp_path, monkeypatch, f"open({str(started)!r}, 'a').write('x'); raise SystemExit(1)"):
            for _ in range(1000):
                with pytest.raises(ProcessEndedError):
                    await stream.update(NOBODY, FRAME, 1.0)
            assert len(started.read_text("utf-8")) == 2, "at once, and one retry"
            await asyncio.sleep(0.6)
            problems = [workers.problem]
            with pytest.raises(ProcessEndedError):
                await stream.update(NOBODY, FRAME, 1.0)
            problems.append(workers.problem)
            assert problems == ["", "3 processes that follow streams have ended at their start"]
        await until(lambda: open_files() == descriptors)
        await asyncio.sleep(1.1)
        await workers.revive()  # a load balancer sends an unready server no streams
        await until(lambda: not workers.problem)
        await stream.update(NOBODY, FRAME, 1.0)

    run_stream(scenario)
    assert "is started in 1.0 s at the earliest" in caplog.text


def test_without_file_descriptors_nothing_leaks_and_the_next_frame_works() -> None:
    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        before, failed = open_files(), 0
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for room in range(20):  # enough for the memory, for one end of the socket, and so on
            resource.setrlimit(resource.RLIMIT_NOFILE, (before + room, hard))
            try:
                await stream.update(NOBODY, FRAME, 1.0)
                break
            except ProcessEndedError:
                failed += 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            workers._retry_at = 0.0  # no pause
            await until(lambda: open_files() == before)
        assert failed > 2
        await stream.update(NOBODY, FRAME, 1.1)

    run_stream(scenario)


def test_failed_frames_and_killed_processes_leak_no_descriptors() -> None:
    async def scenario() -> None:
        async with tracking_workers() as workers, workers.stream(COCO_17, TrackingOptions()) as stream:
            await stream.update(NOBODY, FRAME, 1.0)
            before, too_large = open_files(), np.zeros((2000, 2001, 3), np.uint8)
            for _ in range(1000):
                with pytest.raises(ValueError, match="does not fit"):
                    await stream.update(NOBODY, too_large, 2.0)
                with pytest.raises(TrackingWorkerError, match="time runs forwards"):
                    await stream.update(NOBODY, FRAME, 0.5)
            gc.collect()
            assert open_files() == before
            for n in range(5):
                os.kill(workers.processes[0].pid, signal.SIGKILL)
                await stream.update(NOBODY, FRAME, 3.0 + n)
            await until(lambda: open_files() == before)

    asyncio.run(scenario())


def test_a_stream_that_fails_to_start_holds_no_slot_and_starts_with_the_next_frame() -> None:
    async def scenario(workers: TrackingWorkers, stream: TrackedStream) -> None:
        state, stream.state = stream.state, b"no state"
        for _ in range(10):  # there is room for four
            with pytest.raises(TrackingWorkerError):
                await stream.update(NOBODY, FRAME, 1.0)
        stream.state = state
        await stream.update(NOBODY, FRAME, 1.0)
        assert len(workers.processes[0].free) == 3

    run_stream(scenario)


def test_frames_that_wait_behind_others_do_not_time_out() -> None:
    """All frames together take the process longer than the timeout of one."""
    large = np.random.default_rng(1).integers(0, 256, (1000, 1300, 3)).astype(np.uint8)

    async def scenario() -> None:
        async with tracking_workers(hang_after=0.4) as workers, contextlib.AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(workers.stream(COCO_17, TrackingOptions(), None)) for _ in range(4)
            ]
            await streams[0].update(NOBODY, FRAME, 0.0)
            [process] = workers.processes
            os.kill(process.pid, signal.SIGSTOP)
            asking = [asyncio.create_task(s.update(people([(80, 120)]), large, 1.0)) for s in streams]
            await asyncio.sleep(0.2)
            os.kill(process.pid, signal.SIGCONT)
            await asyncio.gather(*asking)
            assert workers.processes == [process]

    asyncio.run(scenario())


def test_a_frame_that_hangs_a_process_costs_other_streams_no_frame() -> None:
    """The request that a process works on is tried twice at most; those that wait behind it as often as needed."""

    async def scenario() -> None:
        async with (
            tracking_workers(hang_after=0.5) as workers,
            workers.stream(COCO_17, TrackingOptions()) as culprit,
            workers.stream(COCO_17, TrackingOptions()) as other,
        ):
            await culprit.update(NOBODY, FRAME, 1.0)
            await other.update(NOBODY, FRAME, 1.0)

            first = workers.processes[0].pid
            os.kill(first, signal.SIGSTOP)
            hanging = asyncio.create_task(culprit.update(NOBODY, FRAME, 1.1))
            await asyncio.sleep(0)
            waiting = asyncio.create_task(other.update(NOBODY, FRAME, 1.1))
            await asyncio.gather(hanging, waiting)
            assert workers.processes[0].pid != first

    asyncio.run(scenario())


_SERVER = """
import asyncio, sys
from engines.poses import Poses
from engines.skeletons import COCO_17
from service.tracking_workers.state import TrackingOptions
from tests.tracking_workers import tracking_workers
from tests.service.tracking_workers.test_pool import FRAME, NOBODY

async def main():
    async with tracking_workers() as workers, workers.stream(COCO_17, TrackingOptions()) as stream:
        await stream.update(NOBODY, FRAME, 1.0)
        print(workers.processes[0].pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def runs(pid: int) -> bool:
    """Return True if a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("stopped", [False, True], ids=["idle", "in the middle of a request"])
def test_a_server_that_is_killed_leaves_no_process(stopped: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, encoding="utf-8") as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert runs(pid)
        if stopped:
            os.kill(pid, signal.SIGSTOP)  # it cannot notice that its socket is closed
        server.kill()
    wait_for(lambda: not runs(pid))
