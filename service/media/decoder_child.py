"""A decoder process: python -m service.media.decoder_child SOCKET MEMORY CPU_SECONDS

One thread decodes one image after the other. The kernel ends the process if an image takes more than CPU_SECONDS of
processor time, and when the server ends for any reason: the server holds the other end of its standard input.
Allocations beyond MEMORY bytes fail.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

from service.media.confinement import confine, grant_time
from service.media.decoder_wire import receive, receive_document, send_document
from service.media.image_files import ImageError, ImageLimits, ImageTooLargeError, corrupt
from service.media.pillow import PillowFile

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


def main() -> None:
    """Decode for the server that started this process."""
    descriptor, memory, cpu_seconds = map(int, sys.argv[1:])
    confine(memory)
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(OSError):
        serve(connection, memory, cpu_seconds)


if __name__ == "__main__":
    main()
