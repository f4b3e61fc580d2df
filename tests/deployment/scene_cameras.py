"""Cameras by MJPEG over HTTP, before which the people of `Scene` sway: all who connect see the same at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.deployment.crowd import ARRIVALS, HEIGHT, SCORES, Scene
from tests.deployment.marked import jpeg_picture
from tests.people import standing

_NAME = "camera-"


class SceneCameras:
    """An HTTP server on the loopback with /camera-00.mjpg and so on. A context manager.

    present: how many of ARRIVALS are before each camera. watched, opened: how many connections read each camera now,
    and how many there were.
    """

    def __init__(self, number: int, *, fps: float = 5.0) -> None:
        self.scenes = {f"{_NAME}{n:02}": Scene(n) for n in range(number)}
        self.present = 1
        self.watched: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self._fps = fps
        self._open = True
        cameras = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(OSError):
                    cameras._play(self, self.path.strip("/").removesuffix(".mjpg"))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="scene-cameras", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._server.shutdown()
        self._server.server_close()

    def url(self, name: str) -> str:
        """The source of a camera."""
        return f"http://127.0.0.1:{self.port}/{name}.mjpg"

    def toml(self, options: str = "") -> str:
        """The file of all cameras. options: further members of each."""
        return "\n".join(f'[cameras.{name}]\nsource = "{self.url(name)}"\n{options}\n' for name in self.scenes)

    def _play(self, request: BaseHTTPRequestHandler, name: str) -> None:
        scene = self.scenes[name]
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        self.watched[name] += 1
        self.opened[name] += 1
        due = time.monotonic()
        try:
            while self._open:
                places = scene.places(time.time())
                data = jpeg_picture([(standing(*places[n], HEIGHT), SCORES[n]) for n in ARRIVALS[: self.present]])
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                request.wfile.write(head.encode() + data + b"\r\n")
                due = max(due + 1 / self._fps, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
        finally:
            self.watched[name] -= 1
