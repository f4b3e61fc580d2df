"""The tracking of one stream: identities, events at zones and lines, and smoothed keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.poses import Detections, Floats, Frame, Poses
from engines.skeletons import Skeleton
from service.tracking import PoseTracker, TrackerConfig, TrackerState
from service.tracking.detector_pace import Attention
from service.tracking.events import EventNumbers, TrackingEvent
from service.tracking.smoothing import OneEuro
from service.tracking.zones import Zones, ZonesState
from service.tracking_workers.codec import pack, unpack
from service.tracking_workers.state import StreamState, TrackingOptions


@dataclass(frozen=True, slots=True, eq=False)
class TrackingResult:
    """The tracking of the N poses of one frame.

    ids: (N,) int64, -1 for an unconfirmed person. keypoints: (N, K, 2) smoothed, or None without smoothing.
    velocities: (N, 2) pixels a second. ages: (N,) seconds since the person was first seen. Both are 0 for unconfirmed
    people, and for everybody unless the options ask for extras. attention: what the next frame needs.
    next_id: the first id that has not been assigned. state: the stream's state after this frame, see `codec`.
    """

    ids: NDArray[np.int64]
    keypoints: Floats | None
    velocities: Floats
    ages: Floats
    events: Sequence[TrackingEvent]
    attention: Attention
    next_id: int
    state: bytes


def initial_state(skeleton: Skeleton, options: TrackingOptions) -> StreamState:
    return StreamState(PoseTracker(skeleton).state(), ZonesState(), options.zones_hash)


class StreamTracker:
    """A stream's tracker, zones and smoothing filter, restored from a packed state.

    Raises StateError if the bytes are not a valid state, and ValueError if the state has another skeleton.
    """

    def __init__(self, skeleton: Skeleton, options: TrackingOptions, state: bytes) -> None:
        self._extras = options.extras
        self._zones_hash = options.zones_hash
        self._tracker = PoseTracker(skeleton, TrackerConfig(forget_seconds=options.forget_seconds))
        self._zones = Zones(options.zones, options.lines, lost_seconds=self._tracker.config.lost_seconds)
        self._numbers = EventNumbers()
        self._smoother = None if options.smoothing is None else OneEuro(options.smoothing)
        restored = unpack(state)
        self._tracker.restore(restored.tracker)
        self._numbers.restore(restored.numbers)
        if restored.zones_hash == self._zones_hash:
            self._zones.restore(restored.zones)
        if self._smoother is not None and restored.smoothing is not None:
            self._smoother.restore(restored.smoothing)

    def propose(self, frame: Frame, timestamp: float) -> Detections:
        """Return the boxes where tracked people are expected in the frame. timestamp: seconds, never decreasing."""
        return self._tracker.propose(frame, timestamp)

    def update(self, poses: Poses, frame: Frame, timestamp: float) -> TrackingResult:
        """Track the poses of the next frame. timestamp: seconds, never decreasing."""
        poses = self._tracker.update(poses, frame, timestamp)
        assert poses.ids is not None  # noqa: S101 - an update assigns them
        events = self._zones.update(poses, frame.shape[1], frame.shape[0], timestamp)
        tracker, zones = self._tracker.state(), self._zones.state()
        if events:
            events = self._numbers.number(events, _known(tracker, zones))
        keypoints, smoothing = None, None
        if self._smoother is not None:
            keypoints = self._smoother.smooth(replace(poses, keypoints_3d=None), timestamp).keypoints
            smoothing = self._smoother.state()
        velocities, ages = self._velocities_and_ages(poses.ids)
        return TrackingResult(
            poses.ids,
            keypoints,
            velocities,
            ages,
            events,
            Attention.of(self._tracker),
            tracker.next_id,
            pack(StreamState(tracker, zones, self._zones_hash, smoothing, self._numbers.state())),
        )

    def _velocities_and_ages(self, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
        velocities, ages = np.zeros((len(ids), 2), np.float32), np.zeros(len(ids), np.float32)
        tracks = {track.id: track for track in self._tracker.tracks} if self._extras else {}
        for n, number in enumerate(ids.tolist()):
            if (track := tracks.get(number)) is not None:
                velocities[n], ages[n] = track.velocity, track.age
        return velocities, ages


def _known(tracker: TrackerState, zones: ZonesState) -> set[int]:
    """The ids of the people who may have further events."""
    absent = () if tracker.absent is None else tracker.absent.ids.tolist()
    return {*tracker.tracks.ids.tolist(), *absent, *(person.id for person in zones.present)}
