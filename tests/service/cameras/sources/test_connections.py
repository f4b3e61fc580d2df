"""What a source by RTSP may lead to, whatever it answers. Needs a kernel that can ask about connections."""

from __future__ import annotations

import asyncio
import platform
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from service.cameras.sources.address import SourceAddress, SourceOptions
from service.cameras.sources.reader_process import ReaderProcess
from tests.camera_servers import rtsp_server
from tests.service.cameras.sources.reading import read
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="connections are not confined here",
)
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"
)


@contextmanager
def scripted(answer: Callable[[str, str], str], host: str = "127.0.0.1") -> Iterator[tuple[int, list[str]]]:
    """An RTSP server that answers by a script. answer: of the request's first line and CSeq. Yields port, requests."""
    requests: list[str] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            text = b""
            while data := connection.recv(4096):
                text += data
                while b"\r\n\r\n" in text:
                    head, _, text = text.partition(b"\r\n\r\n")
                    lines = head.decode().split("\r\n")
                    requests.append(lines[0])
                    number = next(line for line in lines if line.startswith("CSeq"))
                    connection.sendall(answer(head.decode(), number).encode())

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server((host, 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], requests
        listener.shutdown(socket.SHUT_RDWR)


def moved_to(target: str) -> Callable[[str, str], str]:
    return lambda _, number: f"RTSP/1.0 302 Moved\r\n{number}\r\nLocation: {target}\r\n\r\n"


def test_a_redirect_to_another_host_is_not_connected_to() -> None:
    with socket.create_server(("127.0.0.2", 0)) as other:
        target = f"rtsp://127.0.0.2:{other.getsockname()[1]}/live"
        with scripted(lambda _, number: f"RTSP/1.0 302 Moved\r\n{number}\r\nLocation: {target}\r\n\r\n") as (
            port,
            seen,
        ):
            source = f"rtsp://127.0.0.1:{port}/live"
            reason = read(source).reason
        assert seen
        assert "127.0.0.2 may not be connected to: the setting camera_hosts does not list it" in reason
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_a_redirect_to_a_listed_host_is_followed() -> None:
    listed = SourceOptions(hosts=("127.0.0.2",))
    with (
        rtsp_server(codec="jpeg", host="127.0.0.2") as target,
        scripted(moved_to(f"rtsp://127.0.0.2:{target}/live")) as (port, _),
    ):
        assert read(f"rtsp://127.0.0.1:{port}/live", options=listed).frames


def test_packets_are_sent_to_no_other_host_than_the_camera() -> None:
    """With UDP, the camera says where its packets come from, and FFmpeg sends some there to open firewalls."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        transport = f"RTP/AVP;unicast;client_port=5000-5001;server_port={other.getsockname()[1]}-9;source=127.0.0.2"

        def answer(head: str, number: str) -> str:
            start = f"RTSP/1.0 200 OK\r\n{number}\r\nSession: 1\r\n"
            if head.startswith("DESCRIBE"):
                return f"{start}Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n{SDP}"
            if head.startswith("SETUP"):
                return f"{start}Transport: {transport}\r\n\r\n"
            return f"{start}Public: DESCRIBE, SETUP, PLAY\r\n\r\n"

        async def play(how: SourceOptions) -> None:
            with scripted(answer) as (port, seen):
                address = SourceAddress.parse(f"rtsp://127.0.0.1:{port}/live")
                async with ReaderProcess(address, how):
                    await until(lambda: any(request.startswith("PLAY") for request in seen))

        other.settimeout(0)
        asyncio.run(play(SourceOptions("udp")))
        with pytest.raises(BlockingIOError):
            other.recv(1)
        asyncio.run(play(SourceOptions("udp", hosts=("127.0.0.2",))))
        assert other.recv(1)


def test_a_source_that_an_admin_named_needs_its_host_to_be_listed() -> None:
    with rtsp_server(codec="jpeg") as port:
        source = f"rtsp://127.0.0.1:{port}/live"
        assert "camera_hosts does not list it" in read(source, options=SourceOptions(own_host=False)).reason
        assert read(source, options=SourceOptions(own_host=False, hosts=("127.0.0.1",))).frames
        named = source.replace("127.0.0.1", "localhost")
        reason = read(named, options=SourceOptions(own_host=False, hosts=("localhost",))).reason
        assert "does not list its address" in reason
        assert read(named).frames
