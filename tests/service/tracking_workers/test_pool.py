"""Processes that follow streams: started with the first, shared by many, replaced when they end."""

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
from service.streams.protocol import Hello
from service.tracking_workers import worker as process_module
from service.tracking_workers.pool import TrackedStream, TrackingWorkers
from service.tracking_workers.worker import ProcessEndedError, TrackingWorkerError
from tests.following import followers
from tests.service.tracking.people import people
from tests.waiting import until, wait_for

FRAME = np.random.default_rng(5).integers(0, 256, (240, 320, 3)).astype(np.uint8)
NOBODY = Poses.empty(COCO_17)


def follow(story: Callable[[TrackingWorkers, TrackedStream], Awaitable[None]], hang_after: float = 30.0) -> None:
    """A story about one stream."""

    async def whole() -> None:
        async with followers(hang_after=hang_after) as following, following.stream(COCO_17, Hello()) as stream:
            await story(following, stream)

    asyncio.run(whole())


def test_no_process_runs_before_the_first_frame_and_none_after_the_last() -> None:
    async def story() -> int:
        async with followers() as following:
            assert following.processes == []
            async with following.stream(COCO_17, Hello()) as stream:
                await stream.follow(NOBODY, FRAME, 1.0)
                return following.processes[0].pid

    pid = asyncio.run(story())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_streams_spread_over_the_processes_and_know_nothing_of_each_other() -> None:
    async def story() -> None:
        async with (
            followers(processes=2) as following,
            following.stream(COCO_17, Hello()) as one,
            following.stream(COCO_17, Hello()) as other,
        ):
            await one.follow(people([(80, 120)]), FRAME, 1.0)
            both, _ = await other.follow(people([(80, 120), (240, 120)]), FRAME, 1.0)
            first, _ = await one.follow(people([(80, 120)]), FRAME, 1.1)
            assert (first.ids.tolist(), both.ids.tolist()) == ([1], [1, 2])
            assert [len(process.free) for process in following.processes] == [3, 3]

    asyncio.run(story())


def open_files() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("turns", range(1, 8))
def test_a_stream_that_is_left_while_its_process_starts_leaves_nothing_open(turns: int) -> None:
    async def story() -> None:
        before = open_files()
        async with followers() as following, following.stream(COCO_17, Hello()) as stream:
            asking = asyncio.create_task(stream.follow(NOBODY, FRAME, 1.0))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: open_files() == before)

    asyncio.run(story())


def test_a_place_that_was_left_is_taken_again() -> None:
    async def story() -> None:
        async with followers() as following:
            for n in range(20):  # there is room for four at once
                async with following.stream(COCO_17, Hello()) as stream:
                    seen, _ = await stream.follow(people([(80, 120)]), FRAME, float(n))
                    assert seen.ids.tolist() == [1]
            assert len(following.processes[0].free) == 4

    asyncio.run(story())


def test_when_a_process_is_killed_another_goes_on_with_the_same_people(caplog: pytest.LogCaptureFixture) -> None:
    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.follow(people([(80, 120), (240, 120)]), FRAME, 1.0)
        os.kill(following.processes[0].pid, signal.SIGKILL)
        seen, _ = await stream.follow(people([(240, 120), (80, 120)]), FRAME, 1.1)
        assert seen.ids.tolist() == [2, 1]

    follow(story)
    assert [record.message for record in caplog.records] == ["a process that follows streams has ended and is replaced"]


def test_that_is_counted_for_whoever_watches() -> None:
    async def story() -> int:
        replaced: list[None] = []
        following = TrackingWorkers(
            1, streams=4, frame_bytes=1_000_000, hang_after=30.0, replaced=lambda: replaced.append(None)
        )
        async with following.stream(COCO_17, Hello()) as stream:
            await stream.follow(NOBODY, FRAME, 1.0)
            following.processes[0].kill()
            await stream.follow(NOBODY, FRAME, 1.1)
        await following.close()
        return len(replaced)

    assert asyncio.run(story()) == 1


def test_between_the_two_requests_of_a_frame_too() -> None:
    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.follow(people([(80, 120)]), FRAME, 1.0)
        boxes, _ = await stream.expected(FRAME, 1.1)
        assert len(boxes) == 1
        os.kill(following.processes[0].pid, signal.SIGKILL)
        seen, _ = await stream.follow(people([(80, 120)]), FRAME, 1.1)
        assert seen.ids.tolist() == [1]

    follow(story)


def test_a_process_that_hangs_is_replaced() -> None:
    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.follow(people([(80, 120)]), FRAME, 1.0)
        stopped = following.processes[0].pid
        os.kill(stopped, signal.SIGSTOP)
        seen, _ = await stream.follow(people([(80, 120)]), FRAME, 1.1)
        assert seen.ids.tolist() == [1]
        assert following.processes[0].pid != stopped

    follow(story, hang_after=3.0)


def test_a_frame_that_ends_every_process_is_given_up() -> None:
    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.follow(NOBODY, FRAME, 1.0)

        async def end_all() -> None:
            while True:
                for process in following.processes:
                    process.kill()
                await asyncio.sleep(0)

        killing = asyncio.create_task(end_all())
        with pytest.raises(ProcessEndedError):
            await stream.follow(NOBODY, FRAME, 1.1)
        killing.cancel()
        await stream.follow(NOBODY, FRAME, 1.2)

    follow(story)


def test_a_defect_is_told_and_ends_nothing() -> None:
    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.follow(people([(80, 120)]), FRAME, 1.0)
        with pytest.raises(TrackingWorkerError, match="time runs forwards"):
            await stream.follow(people([(80, 120)]), FRAME, 0.5)
        seen, _ = await stream.follow(people([(80, 120)]), FRAME, 1.1)
        assert seen.ids.tolist() == [1]
        assert len(following.processes) == 1

    follow(story)


def test_a_terminal_that_ends_the_server_does_not_end_what_it_still_needs() -> None:
    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        await stream.follow(NOBODY, FRAME, 1.0)
        pid = following.processes[0].pid
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        await stream.follow(NOBODY, FRAME, 1.1)
        assert following.processes[0].pid == pid

    follow(story)


@contextlib.contextmanager
def child(folder: Path, monkeypatch: pytest.MonkeyPatch, before: str) -> Iterator[None]:
    """Processes that run `before` before they are what they are."""
    script = folder / "python"
    script.write_text(
        f"#!{sys.executable}\n{before}\nimport sys, runpy; del sys.argv[:3]; sys.argv.insert(0, 'child')\n"
        "runpy.run_module('service.tracking_workers.main', run_name='__main__', alter_sys=False)\n"
    )
    script.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(script))
        yield


def test_a_process_may_take_longer_to_start_than_for_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        with child(tmp_path, monkeypatch, "import time; time.sleep(1.5)"):
            await stream.follow(NOBODY, FRAME, 1.0)
        pid = following.processes[0].pid
        await stream.follow(NOBODY, FRAME, 1.1)
        assert following.processes[0].pid == pid

    follow(story, hang_after=0.5)


def test_one_that_does_not_start_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_START_S", 0.5)

    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        with child(tmp_path, monkeypatch, "import time; time.sleep(600)"), pytest.raises(ProcessEndedError):
            await stream.follow(NOBODY, FRAME, 1.0)
        assert following.processes == []

    follow(story)


def test_processes_that_never_start_are_not_started_again_and_again_and_readiness_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = tmp_path / "started"

    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        descriptors = open_files()
        with child(tmp_path, monkeypatch, f"open({str(started)!r}, 'a').write('x'); raise SystemExit(1)"):
            for _ in range(1000):
                with pytest.raises(ProcessEndedError):
                    await stream.follow(NOBODY, FRAME, 1.0)
            assert len(started.read_text()) == 2, "at once, and once more"
            await asyncio.sleep(0.6)
            problems = [following.problem]
            with pytest.raises(ProcessEndedError):
                await stream.follow(NOBODY, FRAME, 1.0)
            problems.append(following.problem)
            assert problems == ["", "3 processes that follow streams have ended at their start"]
        await until(lambda: open_files() == descriptors)
        await asyncio.sleep(1.1)
        await following.revive()  # no stream asks for one, as balancers send none here
        await until(lambda: not following.problem)
        await stream.follow(NOBODY, FRAME, 1.0)

    follow(story)
    assert "is started in 1.0 s at the earliest" in caplog.text


def test_where_the_system_gives_no_descriptors_nothing_leaks_and_the_next_frame_finds_some() -> None:
    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        before, failed = open_files(), 0
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for room in range(20):  # for the memory, for one end of the socket, and so on
            resource.setrlimit(resource.RLIMIT_NOFILE, (before + room, hard))
            try:
                await stream.follow(NOBODY, FRAME, 1.0)
                break
            except ProcessEndedError:
                failed += 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            following._again_at = 0.0  # no pause
            await until(lambda: open_files() == before)
        assert failed > 2
        await stream.follow(NOBODY, FRAME, 1.1)

    follow(story)


def test_descriptors_and_memory_stay_flat_over_failed_frames_and_dying_processes() -> None:
    async def story() -> None:
        async with followers() as following, following.stream(COCO_17, Hello()) as stream:
            await stream.follow(NOBODY, FRAME, 1.0)
            before, too_large = open_files(), np.zeros((2000, 2001, 3), np.uint8)
            for _ in range(1000):
                with pytest.raises(ValueError, match="does not fit"):
                    await stream.follow(NOBODY, too_large, 2.0)
                with pytest.raises(TrackingWorkerError, match="time runs forwards"):
                    await stream.follow(NOBODY, FRAME, 0.5)
            gc.collect()
            assert open_files() == before
            for n in range(5):
                os.kill(following.processes[0].pid, signal.SIGKILL)
                await stream.follow(NOBODY, FRAME, 3.0 + n)
            await until(lambda: open_files() == before)

    asyncio.run(story())


def test_a_stream_whose_beginning_fails_takes_no_place_and_begins_anew_with_the_next_frame() -> None:
    async def story(following: TrackingWorkers, stream: TrackedStream) -> None:
        state, stream.state = stream.state, b"no state"
        for _ in range(10):  # there is room for four
            with pytest.raises(TrackingWorkerError):
                await stream.follow(NOBODY, FRAME, 1.0)
        stream.state = state
        await stream.follow(NOBODY, FRAME, 1.0)
        assert len(following.processes[0].free) == 3

    follow(story)


def test_frames_that_wait_behind_others_are_not_late() -> None:
    """Each takes the process longer than nothing, and all together longer than one may."""
    large = np.random.default_rng(1).integers(0, 256, (1000, 1300, 3)).astype(np.uint8)

    async def story() -> None:
        async with followers(hang_after=0.4) as following, contextlib.AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(following.stream(COCO_17, Hello(), None)) for _ in range(4)]
            await streams[0].follow(NOBODY, FRAME, 0.0)
            [process] = following.processes
            os.kill(process.pid, signal.SIGSTOP)
            asking = [asyncio.create_task(s.follow(people([(80, 120)]), large, 1.0)) for s in streams]
            await asyncio.sleep(0.2)
            os.kill(process.pid, signal.SIGCONT)
            await asyncio.gather(*asking)
            assert following.processes == [process]

    asyncio.run(story())


def test_a_frame_that_hangs_every_process_costs_the_other_streams_no_frame() -> None:
    """Whatever the process works on is not tried a third time; what waits behind it is, as often as it takes."""

    async def story() -> None:
        async with (
            followers(hang_after=0.5) as following,
            following.stream(COCO_17, Hello()) as culprit,
            following.stream(COCO_17, Hello()) as other,
        ):
            await culprit.follow(NOBODY, FRAME, 1.0)
            await other.follow(NOBODY, FRAME, 1.0)

            first = following.processes[0].pid
            os.kill(first, signal.SIGSTOP)
            hanging = asyncio.create_task(culprit.follow(NOBODY, FRAME, 1.1))
            await asyncio.sleep(0)
            waiting = asyncio.create_task(other.follow(NOBODY, FRAME, 1.1))
            await asyncio.gather(hanging, waiting)
            assert following.processes[0].pid != first

    asyncio.run(story())


_SERVER = """
import asyncio, sys
from engines.poses import Poses
from engines.skeletons import COCO_17
from service.streams.protocol import Hello
from tests.following import followers
from tests.service.tracking_workers.test_pool import FRAME, NOBODY

async def main():
    async with followers() as following, following.stream(COCO_17, Hello()) as stream:
        await stream.follow(NOBODY, FRAME, 1.0)
        print(following.processes[0].pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def runs(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("stopped", [False, True], ids=["idle", "in the middle of a request"])
def test_a_server_that_is_killed_leaves_no_process(stopped: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert runs(pid)
        if stopped:
            os.kill(pid, signal.SIGSTOP)  # it reads no socket now
        server.kill()
    wait_for(lambda: not runs(pid))
