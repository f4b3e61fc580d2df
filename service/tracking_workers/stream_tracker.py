"""What one stream follows from frame to frame: people with identities, what they do in zones, smoothed keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.poses import Floats, Frame, Poses
from engines.skeletons import Skeleton
from service.streams.codec import pack, unpack
from service.streams.protocol import Hello
from service.streams.state import Memory
from service.tracking import PoseTracker
from service.tracking.smoothing import OneEuro
from service.tracking.zones import ZoneEvent, Zones, ZonesState


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """What is known of the N poses of one frame.

    ids: (N,) int64, -1 for who is nobody yet. keypoints: (N, K, 2) smoothed, None where they are not.
    velocities: (N, 2) pixels a second, and ages: (N,) seconds since each was first seen; 0 for nobody, and unless the
    hello asks for extras. unsettled: see `PoseTracker`. next_id: the first id that nobody has had.
    state: all of it as bytes, for whoever goes on.
    """

    ids: NDArray[np.int64]
    keypoints: Floats | None
    velocities: Floats
    ages: Floats
    events: Sequence[ZoneEvent]
    unsettled: bool
    next_id: int
    state: bytes


def beginning(skeleton: Skeleton, hello: Hello) -> Memory:
    """What is remembered before the first frame."""
    return Memory(PoseTracker(skeleton).state(), ZonesState(), hello.places)


class StreamTracker:
    """One stream's tracker, zones and smoothing. state: to go on from.

    Raises StateError for bytes that are no state, and ValueError for one of another skeleton.
    """

    def __init__(self, skeleton: Skeleton, hello: Hello, state: bytes) -> None:
        self._hello = hello
        self._tracker = PoseTracker(skeleton)
        self._zones = Zones(hello.zones, hello.lines, lost_seconds=self._tracker.config.lost_seconds)
        self._smoother = OneEuro() if hello.smoothing else None
        memory = unpack(state)
        self._tracker.restore(memory.tracker)
        if memory.places == hello.places:
            self._zones.restore(memory.zones)
        if self._smoother is not None and memory.smoothing is not None:
            self._smoother.restore(memory.smoothing)

    def expected(self, frame: Frame, taken: float) -> Floats:
        """(N, 4) boxes of people who are known, best first, in this frame. taken: seconds, never running backwards."""
        return self._tracker.propose(frame, taken).boxes

    def follow(self, poses: Poses, frame: Frame, taken: float) -> Followed:
        """What is known of the poses of a frame. taken: seconds, never running backwards."""
        poses = self._tracker.update(poses, frame, taken)
        assert poses.ids is not None  # noqa: S101 - an update gives them
        events = self._zones.update(poses, frame.shape[1], frame.shape[0], taken)
        tracker = self._tracker.state()
        smoothed, smoothing = None, None
        if self._smoother is not None:
            smoothed = self._smoother.smooth(replace(poses, keypoints_3d=None), taken).keypoints
            smoothing = self._smoother.state()
        velocities, ages = self._tracks_of(poses.ids)
        return Followed(
            poses.ids,
            smoothed,
            velocities,
            ages,
            events,
            self._tracker.unsettled,
            tracker.next_id,
            pack(Memory(tracker, self._zones.state(), self._hello.places, smoothing)),
        )

    def _tracks_of(self, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
        velocities, ages = np.zeros((len(ids), 2), np.float32), np.zeros(len(ids), np.float32)
        tracks = {track.id: track for track in self._tracker.tracks} if self._hello.extras else {}
        for n, number in enumerate(ids.tolist()):
            if (track := tracks.get(number)) is not None:
                velocities[n], ages[n] = track.velocity, track.age
        return velocities, ages
