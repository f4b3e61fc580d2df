"""Sources as users name them, and as they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cameras.sources.address import SourceAddress


@pytest.mark.parametrize(
    ("text", "kind", "target", "name"),
    [
        ("0", "device", "/dev/video0", "/dev/video0"),
        ("/dev/video2", "device", "/dev/video2", "/dev/video2"),
        ("rtsp://10.0.0.5/live", "rtsp", "rtsp://10.0.0.5/live", "rtsp://10.0.0.5/live"),
        ("RTSPS://joe:s3cret@cam:322/live", "rtsp", "RTSPS://joe:s3cret@cam:322/live", "rtsps://cam:322/live"),
        (
            "http://cam/v.cgi?user=joe&pwd=s3cret",
            "http",
            "http://cam/v.cgi?user=joe&pwd=s3cret",
            "http://cam/v.cgi?...",
        ),
        ("rtsp://cam/user=joe_password=s3cret/1", "rtsp", "rtsp://cam/user=joe_password=s3cret/1", "rtsp://cam/.../1"),
        ("https://joe@[::1]:8443/a.m3u8", "http", "https://joe@[::1]:8443/a.m3u8", "https://[::1]:8443/a.m3u8"),
    ],
)
def test_sources_are_named_without_their_secrets(text: str, kind: str, target: str, name: str) -> None:
    address = SourceAddress.parse(text)
    assert (address.kind, address.target, address.name) == (kind, target, name)
    assert "s3cret" not in repr(address)


def test_a_file_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x")
    assert SourceAddress.parse(str(tmp_path / "clip.mp4")).kind == "file"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nowhere.mp4", "nowhere.mp4 is not a file; name a camera as 0"),
        ("ftp://cam/live", "a source cannot begin with ftp://; these can: rtsp, rtsps, http, https"),
        ("rtsp://", "no valid URL"),
        ("rtsp://joe:s3cret@cam:port/live", "no valid URL"),
    ],
)
def test_other_texts_are_refused_without_showing_secrets(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        SourceAddress.parse(text)
    assert "s3cret" not in str(refused.value)


def test_messages_are_redacted() -> None:
    address = SourceAddress.parse("http://joe:p%40ss@cam/video?token=abcdef")
    said = "http://joe:p%40ss@cam/video?token=abcdef refused p@ss of joe with token=abcdef"
    assert address.redact(said) == "http://cam/video?... refused ... of ... with ..."
