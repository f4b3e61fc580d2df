"""Real RTSP servers: H.264, H.265 and MJPEG, over TCP and UDP, with TLS, and with packets that are lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from service.cameras.sources.address import SourceOptions, SourceTransport
from tests.rtsp_cameras import rtsp_process, rtsp_server
from tests.service.cameras.sources.reading import read

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("codec", ["h264", "h265", "jpeg"])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_arrive(codec: str, transport: SourceTransport) -> None:
    with rtsp_server(codec=codec) as port:
        reading = read(f"rtsp://127.0.0.1:{port}/live", 5, SourceOptions(transport))
    assert reading.reason == ""
    assert reading.frames[4].pixels.shape == (120, 160, 3)
    assert reading.info is not None
    assert reading.info.codec == {"h264": "h264", "h265": "hevc", "jpeg": "mjpeg"}[codec]


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_lost_packets_damage_pictures_and_no_more(codec: str) -> None:
    with rtsp_server((320, 240), codec, loss=0.1) as port:
        reading = read(f"rtsp://127.0.0.1:{port}/live", 40, SourceOptions("udp"))
    assert len(reading.frames) == 40
    assert {frame.pixels.shape for frame in reading.frames} == {(240, 320, 3)}


@pytest.fixture
def lossy_network() -> Iterator[str]:
    """A network namespace with the address 10.211.7.2, whose packets are lost by netem. Needs root."""
    name = f"posewire-{os.getpid()}"
    inside = ("ip", "netns", "exec", name)
    commands = (
        ("ip", "netns", "add", name),
        ("ip", "link", "add", f"v{os.getpid()}", "type", "veth", "peer", "name", "cam", "netns", name),
        ("ip", "addr", "add", "10.211.7.1/24", "dev", f"v{os.getpid()}"),
        ("ip", "link", "set", f"v{os.getpid()}", "up"),
        (*inside, "ip", "addr", "add", "10.211.7.2/24", "dev", "cam"),
        (*inside, "ip", "link", "set", "cam", "up"),
        (*inside, "tc", "qdisc", "add", "dev", "cam", "root", "netem", "loss", "5%", "delay", "10ms", "5ms"),
    )
    try:
        for command in commands:
            done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8")
            if done.returncode:
                pytest.skip(f"no network namespace with netem here: {command[0]}: {done.stderr.strip()}")
        yield name
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")
    finally:
        subprocess.run(("ip", "netns", "del", name), capture_output=True, check=False)  # and the link with it


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_network_that_loses_packets_is_survived(lossy_network: str, codec: str, transport: SourceTransport) -> None:
    prefix = ("ip", "netns", "exec", lossy_network)
    with rtsp_process((320, 240), codec, host="10.211.7.2", prefix=prefix) as (_, port):
        reading = read(f"rtsp://10.211.7.2:{port}/live", 40, SourceOptions(transport))
    assert len(reading.frames) == 40
