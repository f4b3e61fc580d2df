"""The tracking worker process: python -m service.tracking_workers.main SOCKET ARENA FRAME_BYTES PARENT

It has one thread and answers one request at a time. It exits when the server closes its end of the socket or dies.
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
from engines.skeletons import Skeleton
from service.process.parent import die_with_parent
from service.tracking_workers.arena import Arena
from service.tracking_workers.stream_tracker import StreamTracker
from service.tracking_workers.wire import LENGTH, EndStream, Failed, Ready, Reply, Request, StartStream, decode, encode


@dataclass(slots=True)
class _Stream:
    tracker: StreamTracker
    skeleton: Skeleton
    frame: Frame | None = None


def _answer(request: Request, streams: dict[int, _Stream], arena: Arena) -> object:
    """Handle a request. streams: by slot."""
    if isinstance(request, StartStream):
        tracker = StreamTracker(request.skeleton, request.options, request.state)
        streams[request.slot] = _Stream(tracker, request.skeleton)
        return None
    if isinstance(request, EndStream):
        streams.pop(request.slot, None)  # it may have failed to start
        return None
    stream = streams[request.slot]
    if stream.frame is None or request.new_frame:
        stream.frame = arena.read(request.offset, request.shape)
    if request.poses is None:
        return stream.tracker.propose(stream.frame, request.timestamp)
    points, point_scores, boxes, scores, metres = request.poses
    poses = Poses(points, point_scores, boxes, scores, stream.skeleton, keypoints_3d=metres)
    return stream.tracker.update(poses, stream.frame, request.timestamp, request.inputs)


def serve(connection: socket.socket, arena: Arena) -> None:
    """Answer requests until the connection is closed."""
    streams: dict[int, _Stream] = {}
    with connection, connection.makefile("rb") as incoming:
        connection.sendall(encode(Ready()))
        while len(head := incoming.read(LENGTH.size)) == LENGTH.size:
            number, request = decode(incoming.read(*LENGTH.unpack(head)))
            started = time.perf_counter()
            try:
                value = _answer(request, streams, arena)
            except Exception:  # noqa: BLE001 - the server raises it
                value = Failed(traceback.format_exc())
            connection.sendall(encode(Reply(number, value, time.perf_counter() - started)))


def main() -> None:
    """Serve the server that has started this process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal signals the whole group; the server still needs its workers
    cv2.setNumThreads(1)
    fd, arena, frame_bytes, parent = map(int, sys.argv[1:])
    die_with_parent(parent)  # a killed server's workers exit at once, even in the middle of a request
    serve(socket.socket(fileno=fd), Arena(frame_bytes, arena))


if __name__ == "__main__":
    main()
