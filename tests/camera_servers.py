"""Cameras for tests by HTTP: MJPEG and HLS, which can hang, die, send garbage and come back."""

from __future__ import annotations

import base64
import hashlib
import ssl
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, Self
from urllib.request import parse_http_list, parse_keqv_list

import av
import numpy as np

from service.media.pixels import encode
from tests.service.media.videos import picture

_ENTRIES = {
    "door": """
[cameras.door]
source = "{url}"
detect_every = 0

[[cameras.door.zones]]
name = "all"
polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]
""",
    "masked": """
[cameras.masked]
source = "{url}"
blur = "faces"
""",
    "dark": """
[cameras.dark]
source = "http://127.0.0.1:9/video.mjpg"
""",
}
Mode = Literal["play", "hang", "silent", "garbage", "die", "flood", "head", "part", "huge", "bomb"]


class HttpCamera:
    """An HTTP server on the loopback with /video.mjpg, and the files of `folder`. A context manager.

    mode: what it does with /video.mjpg now: play pictures, never answer, send nothing more, send garbage, close
    connections, play without pauses, send a head or a part without an end, declare a huge part or a huge picture.
    size: of its pictures. fps: of /video.mjpg. password: of the user `joe`, if it has one, who logs in by `scheme`.
    redirect: where /moved leads. requests: the path and Authorization of each. pause: seconds after 2 kB of a file.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        fps: float = 12.5,
        host: str = "127.0.0.1",
        password: str = "",
        scheme: str = "basic",
        redirect: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.mode: Mode = "play"
        self.size = (160, 120)
        self.redirect = redirect
        self.pause = 0.0
        self._interval = 1 / fps
        self.requests: list[tuple[str, str | None]] = []
        self._password = password
        self._scheme = scheme
        self._folder = folder
        self._open = True
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://{host}:{self.port}/video.mjpg"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="http-camera", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append((request.path, request.headers.get("Authorization")))
        with suppress(OSError):
            if request.path == "/moved" and self.redirect:
                request.send_response(302)
                request.send_header("Location", self.redirect)
                request.end_headers()
            elif self._password and not self._may_enter(request):
                request.send_response(401)
                digest = ', nonce="n0nce", qop="auth"' if self._scheme == "digest" else ""
                request.send_header("WWW-Authenticate", f'{self._scheme.title()} realm="camera"{digest}')
                request.end_headers()
            elif request.path.startswith("/video.mjpg"):
                self._play(request)
            elif self._folder is not None and (file := self._folder / request.path.lstrip("/")).is_file():
                request.send_response(200)
                request.end_headers()
                with file.open("rb") as opened:
                    while self._open and (piece := opened.read(2_000 if self.pause else -1)):
                        request.wfile.write(piece)
                        time.sleep(self.pause)
            else:
                request.send_error(404)

    def _may_enter(self, request: BaseHTTPRequestHandler) -> bool:
        scheme, _, given = (request.headers.get("Authorization") or "").partition(" ")
        if self._scheme == "basic":
            return given == base64.b64encode(f"joe:{self._password}".encode()).decode()
        if scheme != "Digest":
            return False
        parts = parse_keqv_list(parse_http_list(given))
        first, second = (_md5(text) for text in (f"joe:camera:{self._password}", f"GET:{request.path}"))
        return parts["response"] == _md5(f"{first}:n0nce:{parts['nc']}:{parts['cnonce']}:auth:{second}")

    def _play(self, request: BaseHTTPRequestHandler) -> None:
        while self._open and self.mode == "hang":
            time.sleep(0.02)
        while self._open and self.mode == "head":
            request.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 1000)
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        noise = np.random.default_rng(1)
        number = 0
        while self._open and self.mode != "die":
            if self.mode == "garbage":
                request.wfile.write(noise.bytes(5000))
            elif self.mode == "part":
                request.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n")
                while self._open and self.mode == "part":
                    request.wfile.write(noise.bytes(1 << 20))
            elif self.mode != "silent":
                data = encode(picture(number, *self.size), "image/jpeg")
                if self.mode == "bomb":  # the height and width of the frame's header
                    start = data.index(b"\xff\xc0") + 5
                    data = data[:start] + b"\xff\xdc\xff\xdc" + data[start + 4 :]
                length = 2 * 10**9 if self.mode == "huge" else len(data)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n"
                request.wfile.write(head.encode() + data + b"\r\n")
                number += 1
            if self.mode != "flood":
                time.sleep(self._interval)


def camera_file(folder: Path, url: str, *names: str) -> Path:
    """Write a file of cameras: `door` and `masked` with this source, and `dark`, out of reach; or some of them."""
    path = folder / "cameras.toml"
    path.write_text("".join(_ENTRIES[name].format(url=url) for name in names or _ENTRIES), "utf-8")
    return path


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def make_hls(folder: Path, frames: int = 100) -> Path:
    """Write a playlist of pieces of one second at 25 frames a second, without an end, as of a live stream."""
    playlist = folder / "live.m3u8"
    options = {"hls_time": "1", "hls_list_size": "0"}
    with av.open(str(playlist), "w", format="hls", options=options) as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "25", "tune": "zerolatency"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), "rgb24")))
        out.mux(stream.encode(None))
    playlist.write_text(playlist.read_text("utf-8").replace("#EXT-X-ENDLIST\n", ""), "utf-8")
    return playlist
