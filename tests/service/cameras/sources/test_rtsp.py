"""Real RTSP servers: H.264, H.265 and MJPEG, over TCP and UDP, with TLS, and with packets that are lost."""

from __future__ import annotations

import pytest

from service.cameras.sources.address import SourceOptions, SourceTransport
from tests.rtsp_cameras import rtsp_server
from tests.service.cameras.sources.reading import read


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
