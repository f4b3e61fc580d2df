"""The process that reads one source: python -m service.cameras.sources.reader SOCKET PARENT

The owner, `camera.Camera`, sends the source's kind, target and options, and then bytes: WANTED for each frame that it
wants, EXPECTED if it wants to know when there is one. This process decodes every packet, keeps the newest frame, and
converts and sends only the frames that are wanted. Messages are JSON documents (see `media.decoder_wire`): `opened`,
`status` at the beginning and once a second, `arrived`, `frame` (followed by its pixels), and `ended`, the last one.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time

from av.video.reformatter import VideoReformatter

from service.cameras.sources.address import SourceOptions
from service.cameras.sources.kinds import SOURCES, SourceError, SourceInfo
from service.cameras.sources.newest import DecodedFrame, NewestFrame
from service.media.confinement import limit_memory
from service.media.decoder_wire import receive, receive_document, send_document
from service.media.pixels import upright
from service.media.video_reader import orientation
from service.media.yuv import to_rgb
from service.process.memory import memory_limit
from service.process.parent import die_with_parent

WANTED, EXPECTED = b"+", b"?"
STATUS_S = 1.0
"""Time between two `status` messages."""
_LEAST_MEMORY, _MOST_MEMORY = 768 << 20, 2 << 30
"""Bytes that this process may allocate: a quarter of the container's, within these. A decoder of frames of the largest
size needs less than the most.
"""
_NICE = 5
"""Below the server's, so that a camera that keeps its reader busy does not slow what others wait for."""


class _Conversation:
    """Answers the owner until the source ends. Everything is sent by the thread that runs `run`."""

    def __init__(self, connection: socket.socket, newest: NewestFrame) -> None:
        self._connection = connection
        self._newest = newest
        self._info: SourceInfo | None = None
        self._wanted = False
        self._expected = False
        self._end: str | None = None
        self._reformatter = VideoReformatter()
        self._size = 0, 0
        self._orientation = 1

    def opened(self, info: SourceInfo) -> None:
        """The source has been opened."""
        self._info = info
        self._notify()

    def ended(self, reason: str) -> None:
        """The source has ended. reason: why it failed, or ""."""
        self._end = reason
        self._notify()

    def listen(self) -> None:
        """Receive the owner's requests. Ends this process if the owner is gone."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                if receive(self._connection, 1) == EXPECTED:
                    self._expected = True
                else:
                    self._wanted = True
                self._notify()
        os._exit(0)

    def run(self) -> None:
        """Send messages until the source has ended. Raises OSError if the owner is gone."""
        sent, reported = 0, -math.inf  # a first report says that this process has started
        while True:
            with self._newest.changed:
                self._newest.changed.wait_for(
                    lambda: self._info or self._end is not None or (self._asked and self._newest.decoded > sent),  # noqa: B023
                    max(0.0, reported + STATUS_S - time.monotonic()),
                )
                info, self._info = self._info, None
                end, frame = self._end, self._newest.frame
                is_new = frame is not None and frame.number > sent
                wanted, expected = self._wanted and is_new, self._expected and is_new
                self._wanted, self._expected = self._wanted and not wanted, self._expected and not expected
            if info is not None:
                message = {"width": info.width, "height": info.height, "codec": info.codec, "rate": info.rate}
                send_document(self._connection, opened=message)
            if expected:
                send_document(self._connection, arrived={})
            if wanted and frame is not None:
                self._send(frame)
                sent = frame.number
            if time.monotonic() >= reported + STATUS_S or end is not None:
                self._report()
                reported = time.monotonic()
            if end is not None:
                send_document(self._connection, ended=end)
                return

    @property
    def _asked(self) -> bool:
        return self._wanted or self._expected

    def _notify(self) -> None:
        with self._newest.changed:
            self._newest.changed.notify_all()

    def _report(self) -> None:
        frame = self._newest.frame
        age = None if frame is None else time.monotonic() - frame.arrived
        send_document(
            self._connection, status={"decoded": self._newest.decoded, "damaged": self._newest.damaged, "age": age}
        )

    def _send(self, frame: DecodedFrame) -> None:
        size = frame.picture.width, frame.picture.height
        if size != self._size:
            # Not of each frame: what is asked for this belongs to a cycle, and would be kept until it is collected
            self._size, self._orientation = size, orientation(frame.picture)
        pixels = upright(to_rgb(frame.picture, *size, self._reformatter), self._orientation)
        height, width = pixels.shape[:2]
        age = time.monotonic() - frame.arrived
        message = {"number": frame.number, "width": width, "height": height, "time": frame.time, "age": age}
        send_document(self._connection, frame=message)
        self._connection.sendall(pixels.data.cast("B"))


def serve(connection: socket.socket) -> None:
    """Read the source that the owner names, until it ends."""
    request = receive_document(connection)
    source = SOURCES[request["kind"]](request["target"], SourceOptions(**request["options"]))
    newest = NewestFrame()
    conversation = _Conversation(connection, newest)

    def read() -> None:
        reason = "the reader failed"
        try:
            source.run(newest, conversation.opened)
            reason = ""
        except SourceError as error:
            reason = str(error) or type(error).__name__
        except MemoryError:
            reason = "its frames take more memory than a camera may take"
        finally:
            conversation.ended(reason)

    threading.Thread(target=conversation.listen, name="posewire-requests", daemon=True).start()
    threading.Thread(target=read, name="posewire-source", daemon=True).start()
    conversation.run()


def main() -> None:
    """Read for the process that started this one."""
    descriptor, parent = map(int, sys.argv[1:])
    die_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM):  # the owner handles them
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # a sandbox may deny it
        os.nice(_NICE)
    limit_memory(min(max(_LEAST_MEMORY, memory_limit() // 4), _MOST_MEMORY))
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(OSError, EOFError):
        serve(connection)
    os._exit(0)  # the threads may be in native code


if __name__ == "__main__":
    main()
