"""SRT between real programs of the SRT project: a listener that sends what PyAV encodes, and the source."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import pytest

from service.cameras.sources.address import SourceOptions
from service.cameras.sources.errors import SourceError
from service.cameras.sources.kinds import SourceInfo, SrtSource
from service.cameras.sources.newest import NewestFrame
from service.cameras.sources.srt import PROGRAM
from tests.service.media.videos import picture
from tests.waiting import wait_for

needs_srt = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="needs srt-live-transmit, of Debian's srt-tools")
LOCAL = SourceOptions(hosts=("127.0.0.1",))


class _Pipe:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        self._stdin = process.stdin

    def write(self, data: bytes) -> int:
        self._stdin.write(data)
        return len(data)


@contextmanager
def listening(parameters: str = "") -> Iterator[int]:
    """A sender of MPEG-TS, on the port that this gives, which sends until the end of the context."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PROGRAM, "-q", "file://con", f"srt://127.0.0.1:{port}?mode=listener{parameters}"]
    with subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        ended = threading.Event()

        def send() -> None:
            with suppress(av.FFmpegError, OSError), av.open(_Pipe(process), "w", format="mpegts") as out:
                stream = out.add_stream("libx264", rate=25, options={"g": "5", "tune": "zerolatency"})
                stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
                number = 0
                while not ended.wait(0.04):
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), "rgb24")))
                    number += 1

        sender = threading.Thread(target=send, name="srt-sender")
        sender.start()
        try:
            yield port
        finally:
            ended.set()
            process.kill()
            sender.join()


def run(url: str, newest: NewestFrame, opened: list[SourceInfo]) -> list[str]:
    """Run a source until it ends. Returns why it failed."""
    try:
        SrtSource(url, LOCAL).run(newest, opened.append)
    except SourceError as error:
        return [str(error)]
    return []


@needs_srt
@pytest.mark.parametrize(
    ("listens", "calls"),
    [("", "?latency=50&streamid=#!::r=hall"), ("&passphrase=s3cret-s3cret&pbkeylen=16", "?passphrase=s3cret-s3cret")],
    ids=["plain", "encrypted"],
)
def test_frames_arrive_until_the_camera_ends(listens: str, calls: str) -> None:
    newest, opened, failures = NewestFrame(), list[SourceInfo](), list[str]()
    with listening(listens) as port:
        url = f"srt://127.0.0.1:{port}{calls}"
        reading = threading.Thread(target=lambda: failures.extend(run(url, newest, opened)), name="srt-reader")
        reading.start()
        wait_for(lambda: newest.decoded >= 10)
    reading.join(60)
    assert not reading.is_alive()
    assert [(info.width, info.height, info.codec) for info in opened] == [(160, 120, "h264")]
    assert all("s3cret" not in failure for failure in failures)


@needs_srt
def test_nobody_there_is_said() -> None:
    assert run("srt://127.0.0.1:9", NewestFrame(), []) == [
        "there is no connection: nobody answers, it was refused, or it has ended"
    ]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("srt://127.0.0.1", "needs a port"),
        ("srt://127.0.0.1:9000?mode=listener", "mode may be caller alone"),
        ("srt://127.0.0.1:9000?adapter=0.0.0.0&latency=9", "passphrase, pbkeylen, streamid; not adapter"),
        ("srt://127.0.0.1:9000?streamid=a%26mode=listener", "cannot have an &"),
        ("srt://192.0.2.1:9000", "the setting camera_hosts does not list it"),
    ],
)
def test_what_cannot_be_read_is_said(url: str, says: str) -> None:
    how = SourceOptions(hosts=("127.0.0.1",), own_host=False)
    with pytest.raises(SourceError, match=says):
        SrtSource(url, how).run(NewestFrame(), lambda _: None)


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match=r"needs the program srt-live-transmit.*srt-tools"):
        SrtSource("srt://127.0.0.1:9000", LOCAL).run(NewestFrame(), lambda _: None)
