"""Cameras for tests by RTSP: a real server, and one that answers by a script."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest

_PYTHON = "/usr/bin/python3"
RtspScript = Callable[[str, str], bytes | Iterable[bytes]]
"""What is answered to a request: of its method, and its line with CSeq."""


def session_description(kind: str = "video", codec: str = "96 H264/90000") -> str:
    """What an RTSP server says about its only stream."""
    number = codec.partition(" ")[0]
    lines = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=x", "c=IN IP4 0.0.0.0", "t=0 0", f"m={kind} 0 RTP/AVP {number}")
    return "\r\n".join((*lines, f"a=rtpmap:{codec}", "a=control:track1", ""))


def rtsp_answer(method: str, number: str, *, transport: str = "", description: str = "") -> bytes:
    """What a good RTSP server answers. number: the line with CSeq. transport: of SETUP, else over TCP."""
    start = f"RTSP/1.0 200 OK\r\n{number}\r\nSession: 1\r\n"
    if method == "DESCRIBE":
        body = description or session_description()
        return f"{start}Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    if method == "SETUP":
        return f"{start}Transport: {transport or 'RTP/AVP/TCP;unicast;interleaved=0-1'}\r\n\r\n".encode()
    return f"{start}Public: DESCRIBE, SETUP, PLAY\r\n\r\n".encode()


@contextmanager
def scripted_rtsp(answer: RtspScript, port: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Run an RTSP server that answers by a script. Yields its port, and the methods that were asked for.

    If a script gives several pieces, they are sent one after another.
    """
    requests: list[str] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            text = b""
            while data := connection.recv(4096):
                text += data
                while b"\r\n\r\n" in text:
                    head, _, text = text.partition(b"\r\n\r\n")
                    lines = head.decode("latin-1").split("\r\n")
                    number = next((line for line in lines if line.startswith("CSeq")), "")
                    requests.append(lines[0].partition(" ")[0])
                    pieces = answer(requests[-1], number)
                    for piece in (pieces,) if isinstance(pieces, bytes) else pieces:
                        connection.sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", port)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], requests
        listener.shutdown(socket.SHUT_RDWR)


def noise(*, framed: bool, pause: float = 0.0) -> RtspScript:
    """A script: after PLAY, noise without an end, as RTP or as nothing at all. pause: seconds after each packet."""
    random = np.random.default_rng(7)

    def answer(method: str, number: str) -> Iterator[bytes]:
        yield rtsp_answer(method, number)
        while method == "PLAY":
            data = random.bytes(1000)
            yield b"$" + bytes([random.integers(0, 4)]) + len(data).to_bytes(2, "big") + data if framed else data
            time.sleep(pause)

    return answer


@cache
def _has_rtsp_server() -> bool:
    program = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer\n"
    check = "Gst.init(None); raise SystemExit(not all(map(Gst.ElementFactory.find, ('x264enc', 'jpegenc'))))"
    try:
        return subprocess.run([_PYTHON, "-c", program + check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextmanager
def rtsp_server(
    size: tuple[int, int] = (160, 120),
    codec: str = "h264",
    *,
    login: tuple[str, str] = ("", ""),
    port: int = 0,
    host: str = "127.0.0.1",
    loss: float = 0.0,
) -> Iterator[int]:
    """Run a real RTSP server on the loopback with the path /live. Yields its port. Skips the test without GStreamer.

    loss: the part of its packets that it does not send.
    """
    with rtsp_process(size, codec, login=login, port=port, host=host, loss=loss) as (_, bound):
        yield bound


@contextmanager
def rtsp_process(
    size: tuple[int, int],
    codec: str,
    *,
    login: tuple[str, str] = ("", ""),
    port: int = 0,
    host: str = "127.0.0.1",
    loss: float = 0.0,
    fps: int = 20,
    prefix: Sequence[str] = (),
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """As `rtsp_server`. Yields its process, too. prefix: a command that runs it."""
    if not _has_rtsp_server():
        pytest.skip("GStreamer's RTSP server is not installed (gir1.2-gst-rtsp-server-1.0, see .ci/run)")
    script = Path(__file__).with_name("rtsp_server.py")
    command = [*prefix, _PYTHON, str(script), *map(str, size), codec, *login, str(port), host, str(loss), str(fps)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()
