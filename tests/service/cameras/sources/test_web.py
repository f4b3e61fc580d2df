"""What a source by HTTP may lead to: redirects, playlists and their pieces, certificates, passwords."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from service.cameras.sources.address import SourceOptions
from tests import certificates
from tests.camera_servers import HttpCamera, make_hls
from tests.service.cameras.sources.reading import read
from tests.service.media.videos import make_video

OTHER = "127.0.0.2"
"""Another host: an address of the loopback, too."""
ENDLESS = ("#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:2,")


def playlist(folder: Path, *lines: str) -> None:
    (folder / "live.m3u8").write_text("\n".join((*ENDLESS[:2], *lines, "")), "utf-8")


def test_a_redirect_within_the_host_is_followed() -> None:
    with HttpCamera(redirect="/video.mjpg") as camera:
        assert read(f"http://127.0.0.1:{camera.port}/moved", 3).frames[2].pixels.shape == (120, 160, 3)


def test_a_redirect_to_another_host_needs_to_be_listed() -> None:
    with HttpCamera(host=OTHER) as other, HttpCamera(redirect=other.url) as camera:
        source = f"http://127.0.0.1:{camera.port}/moved"
        reading = read(source)
        assert reading.reason == f"{OTHER} may not be connected to: the setting camera_hosts does not list it"
        assert other.requests == []
        assert read(source, options=SourceOptions(hosts=("127.0.0.2/32",))).frames
        assert len(other.requests) == 1


@pytest.mark.parametrize("target", ["file:///etc/hostname", "tcp://127.0.0.1:1", "concat:/etc/hostname", "data:,x"])
def test_a_redirect_to_something_else_than_http_is_refused(target: str) -> None:
    with HttpCamera(redirect=target) as camera:
        assert "which is not opened" in read(f"http://127.0.0.1:{camera.port}/moved").reason


def test_redirects_do_not_go_on_for_ever() -> None:
    with HttpCamera(redirect="/moved") as camera:
        assert read(f"http://127.0.0.1:{camera.port}/moved").reason == "it answers 302 Found"


def test_a_source_that_an_admin_named_needs_its_own_host_to_be_listed() -> None:
    with HttpCamera() as camera:
        assert "camera_hosts does not list it" in read(camera.url, options=SourceOptions(own_host=False)).reason
        assert camera.requests == []
        # The name is listed, but what it means is this machine, which is not.
        named = SourceOptions(own_host=False, hosts=("localhost",))
        reason = read(camera.url.replace("127.0.0.1", "localhost"), options=named).reason
        assert "camera_hosts does not list its address" in reason
        assert camera.requests == []
        assert read(camera.url, options=SourceOptions(own_host=False, hosts=("127.0.0.0/8",))).frames


def test_pieces_of_a_playlist_at_another_host_need_to_be_listed(tmp_path: Path) -> None:
    make_hls(tmp_path)
    with HttpCamera(tmp_path, host=OTHER) as other, HttpCamera(tmp_path) as camera:
        pieces = [f"#EXTINF:1,\nhttp://{OTHER}:{other.port}/live{n}.ts" for n in range(4)]
        playlist(tmp_path, *pieces, "#EXT-X-ENDLIST")
        source = f"http://127.0.0.1:{camera.port}/live.m3u8"
        assert f"{OTHER} may not be connected to" in read(source).reason
        assert other.requests == []
        assert read(source, 5, SourceOptions(hosts=(OTHER,))).frames[4].pixels.shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        ("file://{secret}", "begins with file:"),
        ("concat:{secret}", ""),
        ("subfile,,start,0,end,0,,:{secret}", ""),
        ("tcp://127.0.0.1:{port}/", ""),
        ("data:video/mp2t;base64,AAAA", ""),
        ("crypto+http://127.0.0.1:{port}/live0.ts", "encrypted"),
    ],
)
def test_pieces_of_a_playlist_are_nothing_else_than_http(tmp_path: Path, piece: str, says: str) -> None:
    secret = make_video(tmp_path / "secret.ts", 50)
    folder = tmp_path / "served"
    folder.mkdir()
    with HttpCamera(folder) as camera:
        playlist(folder, "#EXTINF:2,", piece.format(secret=secret, port=camera.port), "#EXT-X-ENDLIST")
        reading = read(f"http://127.0.0.1:{camera.port}/live.m3u8")
        assert reading.frames == []
        assert says in reading.reason
        assert {path for path, _ in camera.requests} == {"/live.m3u8"}


def test_the_key_of_a_playlist_is_no_way_out(tmp_path: Path) -> None:
    make_hls(tmp_path)
    with HttpCamera(host=OTHER) as other, HttpCamera(tmp_path) as camera:
        key = f'#EXT-X-KEY:METHOD=AES-128,URI="http://{OTHER}:{other.port}/key"'
        playlist(tmp_path, key, "#EXTINF:1,", "live0.ts", "#EXT-X-ENDLIST")
        reading = read(f"http://127.0.0.1:{camera.port}/live.m3u8")
        assert (reading.frames, other.requests) == ([], [])
        assert reading.reason


def test_an_answer_that_is_a_session_description_opens_no_socket(tmp_path: Path) -> None:
    description = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n"
    (tmp_path / "live.sdp").write_text(description + "a=rtpmap:96 H264/90000\r\n", "ascii")
    with HttpCamera(tmp_path) as camera:
        assert read(f"http://127.0.0.1:{camera.port}/live.sdp").reason.startswith("Invalid")


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_passwords_go_to_the_camera_alone(scheme: str) -> None:
    with HttpCamera(host=OTHER) as other, HttpCamera(password="p@ss", scheme=scheme) as camera:  # noqa: S106
        login = camera.url.replace("//", "//joe:p%40ss@")
        assert read(login).frames
        assert read(login.replace("p%40ss", "wrong")).reason == "it answers 401 Unauthorized"
        assert read(camera.url).reason == "it answers 401 Unauthorized"
        camera.redirect = other.url
        assert read(login.replace("video.mjpg", "moved"), options=SourceOptions(hosts=(OTHER,))).frames
        assert [login for _, login in other.requests] == [None]


def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = certificates.make(tmp_path, "cam")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    make_hls(tmp_path)
    with HttpCamera(tmp_path, tls=tls) as camera:
        for source in (camera.url, camera.url.replace("video.mjpg", "live.m3u8")):
            reason = read(source).reason
            assert reason.startswith("its certificate is not accepted (self-signed certificate)")
            assert "`verify = false`" in reason
            assert read(source, 2, SourceOptions(verify=False)).frames
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert read(camera.url).frames
        assert read(camera.url.replace("video.mjpg", "live.m3u8"), 2).frames
        assert "mismatch" in read(camera.url.replace("127.0.0.1", "localhost")).reason
