"""A web server on this machine that publishes one file, with the failures it is configured for."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Publisher(ThreadingHTTPServer):
    """Serves `content` at every path that is not in `contents`.

    version: the header that names the content's version. shift: how far its ranges start from where they should.
    break_after, stall_after: bytes after which it hangs up, or waits for `go_on`. missing: paths that are not found.
    asked, paths: the headers and the paths of all requests.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = CONTENT
        self.contents: dict[str, bytes] = {}
        self.version: tuple[str, str] | None = ("ETag", '"1"')
        self.ranges = True
        self.shift = 0
        self.announce_length = True
        self.status = 200
        self.location = ""
        self.break_after: int | None = None
        self.stall_after: int | None = None
        self.go_on = threading.Event()
        self.missing: set[str] = set()
        self.asked: list[dict[str, str]] = []
        self.paths: list[str] = []

    def url(self, name: str = "model.onnx") -> str:
        """A URL of the content that ends in `name`."""
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def asked_start(self, request: int) -> int:
        """The first byte requested by the request with this index."""
        return int(self.asked[request].get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of killed clients, which are part of these tests."""


class _Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        publisher, start, status = self.server, 0, self.server.status
        publisher.asked.append(dict(self.headers))
        publisher.paths.append(self.path)
        if self.path in publisher.missing:
            self.send_error(404)
            return
        if publisher.ranges and publisher.version and self.headers["If-Range"] == publisher.version[1]:
            start = publisher.asked_start(-1) + publisher.shift
            status = 206 if start < len(publisher.content) else 416
        body = publisher.contents.get(self.path, publisher.content)[start:]
        self.send_response(status)
        if publisher.location:
            self.send_header("Location", publisher.location)
        if publisher.version:
            self.send_header(*publisher.version)
        if status in (206, 416):
            span = f"{start}-{len(publisher.content) - 1}" if status == 206 else "*"
            self.send_header("Content-Range", f"bytes {span}/{len(publisher.content)}")
        if publisher.announce_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if publisher.stall_after is not None:
            self.wfile.write(body[: publisher.stall_after])
            self.wfile.flush()
            publisher.go_on.wait(10)
            body = body[publisher.stall_after :]
        self.wfile.write(body[: publisher.break_after])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass
