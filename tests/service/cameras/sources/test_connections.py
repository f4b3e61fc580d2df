"""What a source by RTSP may lead to, whatever it answers. Needs a kernel that can ask about connections."""

from __future__ import annotations

import asyncio
import platform
import socket
import sys
from collections.abc import Callable

import pytest

from service.cameras.sources.address import SourceAddress, SourceOptions
from service.cameras.sources.reader_process import ReaderProcess
from tests.rtsp_cameras import rtsp_answer, rtsp_server, scripted_rtsp
from tests.service.cameras.sources.reading import read
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="connections are not confined here",
)


def moved_to(target: str) -> Callable[[str, str], bytes]:
    return lambda _, number: f"RTSP/1.0 302 Moved\r\n{number}\r\nLocation: {target}\r\n\r\n".encode()


def test_a_redirect_to_another_host_is_not_connected_to() -> None:
    with socket.create_server(("127.0.0.2", 0)) as other:
        target = f"rtsp://127.0.0.2:{other.getsockname()[1]}/live"
        with scripted_rtsp(moved_to(target)) as (port, seen):
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
        scripted_rtsp(moved_to(f"rtsp://127.0.0.2:{target}/live")) as (port, _),
    ):
        assert read(f"rtsp://127.0.0.1:{port}/live", options=listed).frames


def test_packets_are_sent_to_no_other_host_than_the_camera() -> None:
    """With UDP, the camera says where its packets come from, and FFmpeg sends some there to open firewalls."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        transport = f"RTP/AVP;unicast;client_port=5000-5001;server_port={other.getsockname()[1]}-9;source=127.0.0.2"

        def answer(method: str, number: str) -> bytes:
            return rtsp_answer(method, number, transport=transport)

        async def play(how: SourceOptions) -> None:
            with scripted_rtsp(answer) as (port, seen):
                address = SourceAddress.parse(f"rtsp://127.0.0.1:{port}/live")
                async with ReaderProcess(address, how):
                    await until(lambda: any(request == "PLAY" for request in seen))

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
