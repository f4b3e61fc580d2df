"""The process that decodes one stream's video: python -m service.media.video_child SOCKET MEMORY CPU_SECONDS

It is confined as the processes that decode pictures are. The kernel ends it if the chunks of one request take more than
CPU_SECONDS of processor time.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

import av
from av.codec.context import Flags

from service.media.confinement import confine, grant_time
from service.media.decoder_wire import receive, receive_document, send_document
from service.media.image_files import ImageTooLargeError, UndecodableImageError
from service.media.yuv import to_rgb

_DECODERS = {"vp8": "vp8", "vp9": "vp9", "h264": "h264", "av1": "libdav1d"}
_GO = b"+"
_NICE = 2
"""Less than decoders of pictures: every chunk must be decoded, and streams are live."""


class ChunkDecoder:
    """The decoder's state. Gives each frame as soon as its chunk is there."""

    def __init__(self, codec: str, max_pixels: int) -> None:
        # FFmpeg refuses larger frames before it allocates them. `explode`: damage is an error, and not concealed.
        options = {"max_pixels": str(max_pixels), "err_detect": "explode"}
        context = av.CodecContext.create(_DECODERS[codec], "r")
        assert isinstance(context, av.VideoCodecContext)  # noqa: S101 - of a video codec
        context.options = options
        context.thread_count = 1  # several would hold frames back
        context.flags |= Flags.low_delay
        self._context = context

    def decode(self, chunk: bytes) -> av.VideoFrame | None:
        """Decode a chunk. Returns its frame, or None if it has none to show. Raises av.FFmpegError."""
        frames = self._context.decode(av.Packet(chunk))
        return frames[-1] if frames else None


def serve(connection: socket.socket, cpu_seconds: int) -> None:
    """Decode chunks until the server closes the connection."""
    decoder: ChunkDecoder | None = None
    while True:
        try:
            request = receive_document(connection)
            chunks = [bytes(receive(connection, size)) for size in request["sizes"]]
        except EOFError:
            return
        grant_time(cpu_seconds)
        try:
            decoder = decoder or ChunkDecoder(request["codec"], request["max_pixels"])
            frame = None
            for chunk in chunks:
                frame = decoder.decode(chunk) or frame
            _answer(connection, request, frame)
        except MemoryError:
            message = "decoding this video takes more memory than a stream may take; send it smaller"
            send_document(connection, error=ImageTooLargeError.__name__, message=message)
            decoder = None
        except (av.FFmpegError, ValueError, EOFError) as error:
            message = f"a chunk cannot be decoded as {request['codec']}: {getattr(error, 'strerror', None) or error}"
            send_document(connection, error=UndecodableImageError.__name__, message=message)
            decoder = None


def _answer(connection: socket.socket, request: dict[str, Any], frame: av.VideoFrame | None) -> None:
    """Send the size of a frame, and its pixels if the server accepts that."""
    if frame is None:
        send_document(connection, bytes=0)
        return
    width, height = frame.width, frame.height
    if frame.is_corrupt:
        raise ValueError("it is damaged")
    if width * height > request["max_pixels"] or max(width, height) > request["max_side"]:
        message = f"the video has {width:,} x {height:,} pixels; send it smaller"
        send_document(connection, error=ImageTooLargeError.__name__, message=message)
        return
    pixels = to_rgb(frame, width, height)
    send_document(connection, bytes=pixels.nbytes, width=width, height=height)
    if receive(connection, 1) == _GO:
        connection.sendall(pixels.data.cast("B"))


def main() -> None:
    """Decode for the server that started this process."""
    descriptor, memory, cpu_seconds = map(int, sys.argv[1:])
    confine(memory, _NICE)
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(OSError, EOFError):
        serve(connection, cpu_seconds)


if __name__ == "__main__":
    main()
