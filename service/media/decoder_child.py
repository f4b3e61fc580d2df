"""A decoder process: python -m service.media.decoder_child SOCKET MEMORY CPU_SECONDS

One thread, one picture after the other. It is ended by the kernel where a picture takes more than CPU_SECONDS of
processor time, and when the server is gone, however that came: the server holds the other end of its standard input.
Allocations beyond MEMORY bytes fail.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from service.media.errors import ImageError, ImageTooLargeError, corrupt
from service.media.limits import ImageLimits
from service.media.pillow import PillowFile
from service.media.wire import receive, receive_document, send_document

_NICE = 10
_GO = b"+"


class _DeclinedError(Exception):
    """The server does not want the pixels."""


def serve(connection: socket.socket, memory: int, cpu_seconds: int) -> None:
    """Decode pictures until there are no more."""
    while True:
        try:
            request = receive_document(connection)
            data = bytes(receive(connection, request["bytes"]))
        except EOFError:
            return
        _grant_time(cpu_seconds)
        try:
            _decode(connection, request, data, memory)
        except _DeclinedError:
            continue
        except ImageError as error:
            send_document(connection, error=type(error).__name__, message=str(error))
        except MemoryError:
            send_document(
                connection,
                error=ImageTooLargeError.__name__,
                message="decoding this image takes more memory than a picture may take; send it smaller",
            )
        except OSError:
            raise  # the server is gone
        except Exception:  # noqa: BLE001 - whatever a library raises for hostile bytes
            complaint = corrupt(request["kind"], "it cannot be decoded")
            send_document(connection, error=type(complaint).__name__, message=str(complaint))


def _decode(connection: socket.socket, request: dict[str, Any], data: bytes, memory: int) -> None:
    kind, needs = request["kind"], request["needs"] and tuple(request["needs"])
    limits = ImageLimits(len(data), request["max_pixels"], request["max_side"])
    if kind == "JPEG" and _decode_jpeg(connection, data, limits, needs):
        return
    file = PillowFile.read(kind, data, limits, needs, memory)
    _ask(connection, 3 * max(1, file.width // file.scale) * max(1, file.height // file.scale))
    image = file.decode()
    _send(connection, image.tobytes(), image.size, file.scale, (file.width, file.height))


def _decode_jpeg(connection: socket.socket, data: bytes, limits: ImageLimits, needs: tuple[int, int] | None) -> bool:
    """False for a JPEG that TurboJPEG does not take."""
    from service.media.jpeg import JpegFile, UnusualJpegError  # most processes never need numpy and OpenCV

    file = JpegFile.read(data, limits)
    try:
        image = file.decode(needs)
    except UnusualJpegError:
        return False
    _ask(connection, image.pixels.nbytes)
    height, width = image.pixels.shape[:2]
    _send(connection, image.pixels.data.cast("B"), (width, height), image.scale, (image.width, image.height))
    return True


def _ask(connection: socket.socket, size: int) -> None:
    """Wait until the server has memory for so many bytes of pixels."""
    send_document(connection, bytes=size)
    if receive(connection, 1) != _GO:
        raise _DeclinedError


def _send(
    connection: socket.socket, pixels: bytes | memoryview, size: tuple[int, int], scale: int, whole: tuple[int, int]
) -> None:
    send_document(connection, columns=size[0], rows=size[1], scale=scale, width=whole[0], height=whole[1])
    connection.sendall(pixels)


def _grant_time(seconds: int) -> None:
    """Let the kernel end this process once it has used so much more processor time, rounded up."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, hard))


def _end_with_the_server() -> None:
    """Have the kernel end this process when standard input is closed, even within native code."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(sys.stdin, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sys.stdin, fcntl.F_SETFL, fcntl.fcntl(sys.stdin, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([sys.stdin], [], [], 0)[0]:  # it was closed before
        sys.exit()


def main() -> None:
    """Serve the server that has started this process."""
    descriptor, memory, cpu_seconds = map(int, sys.argv[1:])
    _end_with_the_server()
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the server, which still has answers to give
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # a sandbox may deny it
        os.nice(_NICE)
    with contextlib.suppress(OSError):  # rather this one than the server, where memory runs out
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(OSError):
        serve(connection, memory, cpu_seconds)


if __name__ == "__main__":
    main()
