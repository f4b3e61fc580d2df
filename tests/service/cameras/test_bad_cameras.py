"""Every kind of bad camera: it is noticed, its reader can be ended, and once the camera is good its frames arrive."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import av
import pytest

from service.cameras.camera import CameraTimes
from tests.camera_servers import HttpCamera, Mode
from tests.rtsp_cameras import RtspScript, noise, rtsp_answer, scripted_rtsp, session_description
from tests.service.cameras.watched import PATIENT, QUICK, Watched, opened, readers, watch
from tests.service.media.videos import make_video
from tests.waiting import until

pytestmark = pytest.mark.slow

IMPATIENT = CameraTimes(connect=0.2, stall=0.2, first_pause=0.01, longest_pause=0.05)
HUGE = "RTSP/1.0 200 OK\r\nContent-Length: 999999999\r\n"


async def lose(watched: Watched, reached: Callable[[], object]) -> None:
    """Wait until the camera has done its worst, and has been given up."""
    watched.camera.times = PATIENT
    await until(lambda: bool(watched.reasons() or reached()))
    watched.camera.times = IMPATIENT
    await until(lambda: bool(watched.reasons()))
    watched.camera.times = PATIENT
    assert watched.camera.state.decoded == 0


def test_bad_cameras_by_http_come_back_and_harm_no_other_camera() -> None:
    modes: tuple[Mode, ...] = ("hang", "silent", "die", "head", "part", "huge", "bomb", "garbage")

    async def story(good: Watched) -> None:
        await good.frame()

        async def suffer(mode: Mode) -> None:
            with HttpCamera() as camera:
                camera.mode = mode
                async with opened(camera.url) as watched:
                    await lose(watched, lambda: camera.requests)
                    seen = good.camera.state.decoded
                    await until(lambda: good.camera.state.decoded > seen)
                    camera.mode = "play"
                    assert (await watched.frame()).pixels.shape == (120, 160, 3)

        async with asyncio.TaskGroup() as tasks:
            for mode in modes:
                tasks.create_task(suffer(mode), name=mode)
        assert good.reasons() == []

    with HttpCamera() as camera:
        watch(camera.url, story, PATIENT)


def never(method: str) -> RtspScript:
    """A camera that does not answer one method."""
    return lambda asked, number: b"" if asked == method else rtsp_answer(asked, number)


def endless(_: str, number: str) -> Iterator[bytes]:
    yield f"RTSP/1.0 200 OK\r\n{number}\r\n".encode()
    yield from itertools.repeat(b"X-More: and more\r\n" * 1000)


def without(kind: str, codec: str) -> RtspScript:
    description = session_description(kind, codec)
    return lambda method, number: rtsp_answer(method, number, description=description)


RTSP: dict[str, tuple[RtspScript, str]] = {
    "no answer to OPTIONS": (never("OPTIONS"), "OPTIONS"),
    "no answer to DESCRIBE": (never("DESCRIBE"), "DESCRIBE"),
    "no answer to SETUP": (never("SETUP"), "SETUP"),
    "no answer to PLAY": (never("PLAY"), "PLAY"),
    "nothing after PLAY": (rtsp_answer, "PLAY"),
    "no RTSP": (lambda *_: b"\0\xff$$$" * 10_000, "OPTIONS"),
    "a head without an end": (endless, "OPTIONS"),
    "a body that never comes": (lambda _, number: (HUGE + number + "\r\n\r\n").encode(), "OPTIONS"),
    "RTP of noise": (noise(framed=True), "PLAY"),
    "noise instead of RTP": (noise(framed=False), "PLAY"),
    "sound alone": (without("audio", "0 PCMU/8000"), "PLAY"),
    "an unknown codec": (without("video", "97 X-NOTHING/90000"), "PLAY"),
}
"""RtspScripts, and the last request that is made before nothing more happens."""


def test_bad_cameras_by_rtsp_are_given_up_and_harm_no_other_camera() -> None:
    async def story(good: Watched) -> None:
        await good.frame()

        async def suffer(answer: RtspScript, last: str) -> None:
            with scripted_rtsp(answer) as (port, asked):
                async with opened(f"rtsp://127.0.0.1:{port}/live") as watched:
                    await lose(watched, lambda: last in asked)
                    assert asked
                    seen = good.camera.state.decoded
                    await until(lambda: good.camera.state.decoded > seen)

        async with asyncio.TaskGroup() as tasks:
            for name, (answer, last) in RTSP.items():
                tasks.create_task(suffer(answer, last), name=name)
        assert good.reasons() == []

    with HttpCamera() as camera:
        watch(camera.url, story, PATIENT)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_camera_that_never_accepts_can_be_stopped(scheme: str) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # with its backlog full, the kernel drops further SYNs
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())

        async def story(watched: Watched) -> None:
            await until(lambda: bool(watched.reasons()))

        times = CameraTimes(connect=1, first_pause=60)
        watched = watch(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/live", story, times)
    assert watched.reasons() == ["it could not be opened within 1 s"]


def test_what_a_camera_says_makes_no_long_reason() -> None:
    async def story(watched: Watched) -> None:
        await until(lambda: bool(watched.reasons()))

    with HttpCamera(redirect="http://" + ".".join(["a" * 60] * 70)) as camera:
        watched = watch(f"http://127.0.0.1:{camera.port}/moved", story, PATIENT)
    assert watched.reasons()[0].startswith("the host aaa")
    assert len(watched.reasons()[0]) == 300


def test_a_video_that_never_has_a_key_frame_gives_no_picture(tmp_path: Path) -> None:
    whole, folder = make_video(tmp_path / "whole.ts", 100, options={}), tmp_path / "served"
    folder.mkdir()
    with av.open(whole) as source, av.open(folder / "live.ts", "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size and not packet.is_keyframe:
                packet.stream = stream
                target.mux(packet)

    async def story(watched: Watched) -> None:
        await until(lambda: bool(watched.reasons()))
        assert watched.camera.state.decoded == 0

    with HttpCamera(folder) as camera:
        watch(f"http://127.0.0.1:{camera.port}/live.ts", story, PATIENT)


def test_a_camera_without_pauses_is_slowed_down_and_gives_its_newest_frames() -> None:
    with HttpCamera() as camera:
        camera.mode = "flood"

        async def story(watched: Watched) -> None:
            first = await watched.frame()
            await until(lambda: watched.camera.state.decoded > first.number + 500)
            last = await watched.frame()
            assert last.number > first.number + 500
            assert last.number - first.number <= 240 * (last.arrived - first.arrived + 1) + 240

        watch(camera.url, story)


def test_nothing_is_left_of_cameras_that_fail_again_and_again() -> None:
    def held() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with HttpCamera() as camera:
        camera.mode = "die"

        async def story(watched: Watched) -> None:
            await until(lambda: len(watched.reasons()) >= 2)
            before = held()
            await until(lambda: len(watched.reasons()) >= 5 and watched.states[-1].phase == "lost")
            assert held() <= before + 4  # a reader may just be starting

        watch(camera.url, story, QUICK)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_reader_takes_no_more_memory_and_threads_with_each_frame() -> None:
    def held() -> tuple[int, int]:
        """Threads, and kilobytes."""
        [reader] = readers()
        status = Path(f"/proc/{reader.split()[0]}/status").read_text("ascii")
        lines = dict(line.split(":", 1) for line in status.splitlines())
        return int(lines["Threads"]), int(lines["VmData"].split()[0])

    async def story(watched: Watched) -> None:
        async def take(frames: int) -> tuple[int, int]:
            for _ in range(frames):
                await watched.frame()
            return held()

        threads, kilobytes = await take(30)
        threads_later, kilobytes_later = await take(150)
        assert threads_later <= threads
        assert kilobytes_later < kilobytes + 50_000

    with HttpCamera() as camera:
        camera.mode = "flood"
        camera.size = (640, 480)
        watch(camera.url, story, PATIENT)
