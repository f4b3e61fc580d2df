"""The process that follows streams: python -m service.tracking_workers.main SOCKET ARENA FRAME_BYTES PARENT

One thread, one request after the other. It ends when the server's end of the socket is closed, or the server is gone.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass

import cv2

from engines.poses import Frame, Poses
from engines.skeletons import SKELETONS, Skeleton
from service.process.parent import die_with_parent
from service.tracking_workers.arena import Arena
from service.tracking_workers.stream_tracker import StreamTracker
from service.tracking_workers.wire import LENGTH, Begin, End, Expect, Failed, Ready, Reply, Request, decode, encode


@dataclass(slots=True)
class _Stream:
    stream_tracker: StreamTracker
    skeleton: Skeleton
    frame: Frame | None = None


class _Streams:
    """The streams by slot."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._streams: dict[int, _Stream] = {}

    def answer(self, request: Request) -> object:
        if isinstance(request, Begin):
            skeleton = SKELETONS[request.skeleton]
            self._streams[request.slot] = _Stream(StreamTracker(skeleton, request.hello, request.state), skeleton)
            return None
        if isinstance(request, End):
            self._streams.pop(request.slot, None)  # its beginning may have failed
            return None
        stream = self._streams[request.slot]
        if stream.frame is None or isinstance(request, Expect) or request.fresh:
            stream.frame = self._arena.read(request.offset, request.shape)
        if isinstance(request, Expect):
            return stream.stream_tracker.expected(stream.frame, request.taken)
        poses = Poses(
            request.keypoints,
            request.keypoint_scores,
            request.boxes,
            request.scores,
            stream.skeleton,
            keypoints_3d=request.keypoints_3d,
        )
        return stream.stream_tracker.follow(poses, stream.frame, request.taken)


def serve(connection: socket.socket, arena: Arena) -> None:
    """Answer requests until there are no more."""
    streams = _Streams(arena)
    with connection, connection.makefile("rb") as incoming:
        connection.sendall(encode(Ready()))
        while len(head := incoming.read(LENGTH.size)) == LENGTH.size:
            number, request = decode(incoming.read(*LENGTH.unpack(head)))
            started = time.perf_counter()
            try:
                value = streams.answer(request)
            except Exception:  # noqa: BLE001 - the server tells of it
                value = Failed(traceback.format_exc())
            connection.sendall(encode(Reply(number, value, time.perf_counter() - started)))


def main() -> None:
    """Serve the server that has started this process."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # meant for the server, which still needs this process
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    fd, arena, frame_bytes, parent = map(int, sys.argv[1:])
    die_with_parent(parent)  # who kills the server should not have to wait for a request to be done
    serve(socket.socket(fileno=fd), Arena(frame_bytes, arena))


if __name__ == "__main__":
    main()
