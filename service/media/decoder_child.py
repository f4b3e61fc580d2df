"""A decoder process: python -m service.media.decoder_child SOCKET MEMORY CPU_SECONDS

One thread decodes one image after the other. The kernel ends the process if an image takes more than CPU_SECONDS of
processor time, and when the server ends for any reason: the server holds the other end of its standard input.
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

from service.media.decoder_wire import receive, receive_document, send_document
from service.media.image_files import ImageError, ImageLimits, ImageTooLargeError, corrupt
from service.media.pillow import PillowFile

_NICE = 10
_GO = b"+"


class _DeclinedError(Exception):
    """The server refused the pixels."""


def serve(connection: socket.socket, memory: int, cpu_seconds: int) -> None:
    """Decode images until the server closes the connection."""
    while True:
        try:
            request = receive_document(connection)
            data = bytes(receive(connection, request["bytes"]))
        except EOFError:
            return
        grant_time(cpu_seconds)
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
        except Exception:  # noqa: BLE001 - libraries raise anything for hostile bytes
            refusal = corrupt(request["kind"], "it cannot be decoded")
            send_document(connection, error=type(refusal).__name__, message=str(refusal))


def _decode(connection: socket.socket, request: dict[str, Any], data: bytes, memory: int) -> None:
    kind, needs = request["kind"], request["needs"] and tuple(request["needs"])
    limits = ImageLimits(len(data), request["max_pixels"], request["max_side"])
    if kind == "JPEG" and _decode_jpeg(connection, data, limits, needs):
        return
    file = PillowFile.read(kind, data, limits, needs, memory)
    _request_memory(connection, 3 * max(1, file.width // file.scale) * max(1, file.height // file.scale))
    image = file.decode()
    _send(connection, image.tobytes(), image.size, file.scale, (file.width, file.height))


def _decode_jpeg(connection: socket.socket, data: bytes, limits: ImageLimits, needs: tuple[int, int] | None) -> bool:
    """Decode a JPEG. Returns False if TurboJPEG does not support it."""
    from service.media.jpeg import JpegFile, UnusualJpegError  # most decoder processes never need numpy and OpenCV

    file = JpegFile.read(data, limits)
    try:
        image = file.decode(needs)
    except UnusualJpegError:
        return False
    _request_memory(connection, image.pixels.nbytes)
    height, width = image.pixels.shape[:2]
    _send(connection, image.pixels.data.cast("B"), (width, height), image.scale, (image.width, image.height))
    return True


def _request_memory(connection: socket.socket, size: int) -> None:
    """Wait until the server has memory for `size` bytes of pixels."""
    send_document(connection, bytes=size)
    if receive(connection, 1) != _GO:
        raise _DeclinedError


def _send(
    connection: socket.socket, pixels: bytes | memoryview, size: tuple[int, int], scale: int, whole: tuple[int, int]
) -> None:
    send_document(connection, columns=size[0], rows=size[1], scale=scale, width=whole[0], height=whole[1])
    connection.sendall(pixels)


def grant_time(seconds: int) -> None:
    """Let the kernel end this process after `seconds` more of processor time, rounded up."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, hard))


def _end_with_the_server() -> None:
    """Let the kernel end this process when standard input is closed, even within native code."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(sys.stdin, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sys.stdin, fcntl.F_SETFL, fcntl.fcntl(sys.stdin, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([sys.stdin], [], [], 0)[0]:  # already closed
        sys.exit()


def main() -> None:
    """Decode for the server that started this process."""
    descriptor, memory, cpu_seconds = map(int, sys.argv[1:])
    _end_with_the_server()
    for number in (signal.SIGINT, signal.SIGTERM):  # the server handles them and finishes its requests
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # a sandbox may deny it
        os.nice(_NICE)
    with contextlib.suppress(OSError):  # if memory runs out, kill this process rather than the server
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(OSError):
        serve(connection, memory, cpu_seconds)


if __name__ == "__main__":
    main()
