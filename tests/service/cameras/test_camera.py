"""Cameras that play, die, hang, stall, send garbage and come back; each over real sockets and in a real process."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cameras.camera import Camera, CameraError, CameraFrame, CameraState, CameraTimes
from service.cameras.sources.address import SourceAddress
from tests.camera_servers import HttpCamera, make_hls
from tests.rtsp_cameras import rtsp_server
from tests.service.cameras.watched import PATIENT, Watched, readers, watch
from tests.service.media.videos import make_video
from tests.waiting import until, wait_for


@pytest.fixture
def server() -> Iterator[HttpCamera]:
    with HttpCamera(fps=25) as server:
        yield server


def test_frames_arrive_and_may_change_their_size(server: HttpCamera) -> None:
    async def story(watched: Watched) -> None:
        first = await watched.frame()
        assert (first.number >= 1, first.pixels.shape) == (True, (120, 160, 3))
        assert abs(first.time - time.time()) < 60
        assert first.pixels[10, 10].tolist() == pytest.approx([220, 30, 30], abs=20)  # RGB
        server.size = (320, 240)
        while (frame := await watched.frame()).pixels.shape != (240, 320, 3):
            assert frame.number > first.number

    watched = watch(server.url, story, PATIENT)
    assert [state.phase for state in watched.states] == ["connecting", "live"]
    assert watched.camera.state.info is not None
    assert watched.camera.state.info.codec == "mjpeg"


def test_a_consumer_that_takes_its_time_gets_the_newest_frame(server: HttpCamera) -> None:
    async def story(watched: Watched) -> None:
        first = await watched.frame()
        await until(lambda: watched.camera.state.decoded >= first.number + 20)
        assert (await watched.frame()).number >= first.number + 20

    watch(server.url, story)


def test_a_frame_that_waits_for_its_turn_is_replaced_by_newer_ones(server: HttpCamera) -> None:
    async def story(watched: Watched) -> None:
        camera = watched.camera
        await camera.arrival()
        before = camera.state.decoded
        await until(lambda: camera.state.decoded >= before + 20)
        frame = await camera.take()
        assert frame is not None
        assert frame.number >= before + 20

    watch(server.url, story)


def test_a_frame_of_a_source_that_was_lost_meanwhile_is_not_waited_for(server: HttpCamera) -> None:
    async def story(watched: Watched) -> None:
        await watched.camera.arrival()
        server.mode = "die"
        await until(lambda: watched.camera.state.phase == "lost")
        assert await watched.camera.take() is None

    watch(server.url, story)


def test_a_camera_that_dies_comes_back(server: HttpCamera) -> None:
    async def story(watched: Watched) -> None:
        first = await watched.frame()
        server.mode = "die"
        await until(lambda: len(watched.reasons()) >= 2)
        server.mode = "play"
        again = await watched.frame()
        assert again.number > first.number
        assert again.time >= first.time

    assert watch(server.url, story).camera.state.phase == "live"


def test_a_stalled_camera_is_noticed_and_comes_back(server: HttpCamera) -> None:
    async def story(watched: Watched) -> None:
        await watched.frame()
        server.mode = "silent"
        await until(lambda: bool(watched.reasons()))
        server.mode = "play"
        await watched.frame()

    assert watch(server.url, story).reasons()[0] == "no picture for 0.5 s"


def test_a_stall_is_noticed_while_nobody_asks_for_a_frame(server: HttpCamera) -> None:
    async def story(watched: Watched) -> None:
        await until(lambda: watched.camera.state.phase == "live")
        server.mode = "silent"
        await until(lambda: watched.camera.state.phase != "live")

    # Without a consumer, frames are reported once a second.
    watch(server.url, story, CameraTimes(connect=30, stall=3, first_pause=60))


def test_a_camera_that_hangs_in_connect_can_be_stopped_and_is_tried_again(server: HttpCamera) -> None:
    server.mode = "hang"

    async def stop_early(watched: Watched) -> None:
        await until(lambda: bool(readers()))
        assert watched.camera.state.phase == "connecting"

    watch(server.url, stop_early)

    async def wait(watched: Watched) -> None:
        await until(lambda: len(watched.reasons()) >= 2)

    times = CameraTimes(connect=0.5, first_pause=0.01)
    assert watch(server.url, wait, times).reasons()[0] == "it could not be opened within 0.5 s"


def test_garbage_in_the_middle_of_a_stream_is_survived(server: HttpCamera) -> None:
    async def story(watched: Watched) -> None:
        first = await watched.frame()
        server.mode = "garbage"
        await until(lambda: bool(watched.reasons()) or watched.camera.state.damaged > 0)
        server.mode = "play"
        while (await watched.frame()).number <= first.number:
            pass

    watch(server.url, story)


def test_pauses_grow_up_to_a_limit() -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        states: list[CameraState] = []
        times = CameraTimes(first_pause=0.01, longest_pause=0.04)
        address = SourceAddress.parse(f"http://127.0.0.1:{closed.getsockname()[1]}/")

        async def run() -> None:
            async with Camera(address, times=times, changed=states.append, chance=lambda: 1.0):
                await until(lambda: len([state for state in states if state.phase == "lost"]) >= 4)

        asyncio.run(run())
    lost = [state for state in states if state.phase == "lost"]
    assert [state.retry_in for state in lost][:4] == pytest.approx([0.01, 0.02, 0.04, 0.04])
    assert {state.reason for state in lost} == {"Connection refused"}


def test_a_reader_that_is_killed_is_replaced(server: HttpCamera) -> None:
    async def story(watched: Watched) -> None:
        await watched.frame()
        os.kill(int(readers()[0].split()[0]), signal.SIGKILL)
        await until(lambda: bool(watched.reasons()))
        await watched.frame()

    assert watch(server.url, story).reasons() == ["the process that reads it was ended by SIGKILL"]


def test_a_reader_ends_with_its_owner(server: HttpCamera) -> None:
    program = (
        "import asyncio, sys; from service.cameras.sources.address import SourceAddress as A\n"
        "from service.cameras.camera import Camera\n"
        "async def main():\n"
        "    async with Camera(A.parse(sys.argv[1])) as camera:\n"
        "        async for frame in camera: print(frame.number, flush=True)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", program, server.url], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        found = subprocess.run(["pgrep", "-P", str(owner.pid)], capture_output=True, check=True)
        owner.kill()
        wait_for(lambda: not Path(f"/proc/{int(found.stdout)}/cmdline").exists())


def test_secrets_appear_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with HttpCamera(password="s3cret") as server:  # noqa: S106 - of this test
        seen = []

        async def right(watched: Watched) -> None:
            await watched.frame()
            seen.extend(readers())

        async def wrong(watched: Watched) -> None:
            await until(lambda: bool(watched.reasons()))

        good = watch(server.url.replace("//", "//joe:s3cret@"), right)
        bad = watch(server.url.replace("//", "//joe:wr0ng!pass@"), wrong)
    assert len(seen) == 1
    assert bad.reasons()[0] == "it answers 401 Unauthorized"
    everything = f"{good.states} {bad.states} {good.camera.address} {bad.camera.address} {seen} {caplog.text}"
    assert "s3cret" not in everything
    assert "wr0ng" not in everything


def test_a_file_is_played_once_at_its_own_speed(tmp_path: Path) -> None:
    numbers: list[int] = []

    async def story(watched: Watched) -> None:
        began = time.monotonic()
        numbers.extend([frame.number async for frame in watched.camera])
        assert time.monotonic() - began >= 24 / 25

    watched = watch(str(make_video(tmp_path / "clip.mp4", 25)), story)
    assert watched.states[-1].phase == "ended"
    assert numbers == sorted(set(numbers))
    assert watched.camera.state.decoded == 25


def test_a_file_that_is_no_video_ends_the_camera(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"not a video at all" * 50)

    async def story(watched: Watched) -> None:
        with pytest.raises(CameraError, match=r"clip\.mp4: Invalid data found"):
            await watched.frame()

    watch(str(tmp_path / "clip.mp4"), story)


def test_a_device_that_is_not_there_is_said_to_be_missing() -> None:
    async def story(watched: Watched) -> None:
        await until(lambda: bool(watched.reasons()))

    assert watch("/dev/video99", story).reasons()[0] == "there is no such camera"


def test_frames_are_limited_to_a_rate(server: HttpCamera) -> None:
    taken = []

    async def run() -> None:
        async with asyncio.timeout(120), Camera(SourceAddress.parse(server.url), fps=5) as camera:
            async for _ in camera:
                taken.append(asyncio.get_running_loop().time())
                if len(taken) == 8:
                    return

    asyncio.run(run())
    assert len(taken) <= 5 * (taken[-1] - taken[0]) + 3


def test_hls_is_played_evenly_and_a_playlist_that_stands_still_is_noticed(tmp_path: Path) -> None:
    make_hls(tmp_path)
    with HttpCamera(tmp_path) as server:

        async def story(watched: Watched) -> None:
            frames = [await watched.frame() for _ in range(20)]
            # A piece of a second arrives at once; played, it takes a second.
            passed = frames[-1].arrived - frames[0].arrived
            assert frames[-1].number - frames[0].number < 25 * passed + 15
            await until(lambda: bool(watched.reasons()))
            await watched.frame()

        reasons = watch(f"http://127.0.0.1:{server.port}/live.m3u8", story).reasons()
    assert reasons[0] == "no picture for 0.5 s"


def test_a_stream_may_change_its_size_and_its_clock_and_comes_back_with_another_codec(tmp_path: Path) -> None:
    """MPEG-TS in one connection: frames of another size whose clock jumps by 11 hours and back, then another codec."""
    hours = range(1_000_000, 1_000_025)
    small, large = make_video(tmp_path / "1.ts", 25), make_video(tmp_path / "2.ts", 25, size=(320, 240), times=hours)
    other = make_video(tmp_path / "3.ts", 50, size=(200, 150), codec="mpeg2video")
    folder = tmp_path / "served"
    folder.mkdir()
    live = folder / "live.ts"
    live.write_bytes(b"".join(path.read_bytes() for path in (small, large, small, other)))
    seen: list[CameraFrame] = []

    async def story(watched: Watched) -> None:
        async def until_shape(*shape: int) -> None:
            while not seen or seen[-1].pixels.shape != shape:
                seen.append(await watched.frame())

        await until_shape(120, 160, 3)
        await until_shape(240, 320, 3)
        await until_shape(120, 160, 3)
        assert watched.reasons() == []
        live.write_bytes(other.read_bytes())
        await until_shape(150, 200, 3)
        await until(lambda: watched.camera.state.info is not None and watched.camera.state.info.codec == "mpeg2video")

    with HttpCamera(folder) as server:
        server.pause = 0.02
        watch(f"http://127.0.0.1:{server.port}/live.ts", story, PATIENT)
    assert [frame.number for frame in seen] == sorted({frame.number for frame in seen})
    times = [frame.time for frame in seen]  # of arrival, whatever the stream's clock says
    assert times == sorted(times)
    assert times[-1] - times[0] < 3600


def test_a_playlist_cannot_open_files_of_this_machine(tmp_path: Path) -> None:
    secret = make_video(tmp_path / "secret.ts", 50)
    folder = tmp_path / "served"
    folder.mkdir()
    lines = ("#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:2,", f"file://{secret}", "#EXT-X-ENDLIST", "")
    (folder / "live.m3u8").write_text("\n".join(lines), "utf-8")
    with HttpCamera(folder) as server:

        async def story(watched: Watched) -> None:
            await until(lambda: bool(watched.reasons()))

        watched = watch(f"http://127.0.0.1:{server.port}/live.m3u8", story, CameraTimes(connect=5, first_pause=60))
    assert watched.camera.state.decoded == 0


def test_an_rtsp_camera_that_reboots_comes_back_with_another_codec_and_size() -> None:
    with rtsp_server() as port:
        pass

    async def story(watched: Watched) -> None:
        with rtsp_server(port=port):
            assert (await watched.frame()).pixels.shape == (120, 160, 3)
        await until(lambda: bool(watched.reasons()))
        with rtsp_server((320, 240), "jpeg", port=port):
            assert (await watched.frame()).pixels.shape == (240, 320, 3)

    watched = watch(f"rtsp://127.0.0.1:{port}/live", story)
    assert watched.camera.state.info is not None
    assert watched.camera.state.info.codec == "mjpeg"


def test_an_rtsp_camera_wants_a_password() -> None:
    with rtsp_server(codec="jpeg", login=("joe", "s3cret")) as port:

        async def right(watched: Watched) -> None:
            await watched.frame()

        async def wrong(watched: Watched) -> None:
            await until(lambda: bool(watched.reasons()))

        watch(f"rtsp://joe:s3cret@127.0.0.1:{port}/live", right)
        bad = watch(f"rtsp://joe:wr0ng@127.0.0.1:{port}/live", wrong)
    assert bad.reasons()[0] == "Server returned 401 Unauthorized (authorization failed)"
    assert "wr0ng" not in str(bad.states)
