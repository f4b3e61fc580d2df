"""Sources as users name them, and as they are shown."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
        ("rtsp://cam/1/k3yk3yk3yk3yk3yk3yk3y", "rtsp", "rtsp://cam/1/k3yk3yk3yk3yk3yk3yk3y", "rtsp://cam/1/..."),
        ("srt://cam:9000?passphrase=s3cret", "srt", "srt://cam:9000?passphrase=s3cret", "srt://cam:9000?..."),
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
        ("ftp://cam/live", "a source cannot begin with ftp://; these can: rtsp, rtsps, http, https, srt"),
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


_SECRET = st.text("abcXYZ0189 !$'()*,;:@&=+/?#[]%\"<>\\^`{|}~é", min_size=5, max_size=12)


@given(user=_SECRET, password=_SECRET, token=_SECRET, safe=st.sampled_from(["", "!$'()*,;", "+~"]))
@example(user="%2525%", password="a+b c", token="a&b=c", safe="")  # noqa: S106 - of this test
@example(user="00000", password="00000", token="00;00", safe="!$'()*,;")  # noqa: S106 - of this test
def test_no_form_of_a_secret_is_left_in_any_message(user: str, password: str, token: str, safe: str) -> None:
    login = f"{quote(user, safe=safe)}:{quote(password, safe=safe)}"
    for source in (
        f"rtsp://{login}@cam:554/live/{{}}",
        f"https://{login}@cam/v.cgi?channel=1&pwd={quote(token, safe=safe)}",
        f"http://{login}@cam/user=x_password={quote(token, safe='')}/{{}}",
    ):
        address = SourceAddress.parse(source)
        secrets = [user, password, *([token] if "pwd" in source or "password" in source else [])]
        said = [address.target, base64.b64encode(f"{user}:{password}".encode()).decode()]
        for secret in secrets:
            said += [secret, quote(secret), quote(secret, safe=""), quote(secret, safe="").lower(), quote_plus(secret)]
        for message in said:
            shown = address.redact(f"Failed: {message} (is 404)")
            assert message not in shown
            assert not [secret for secret in secrets if secret in shown]
        assert not [secret for secret in secrets if secret in f"{address!r} {address.name}"]
