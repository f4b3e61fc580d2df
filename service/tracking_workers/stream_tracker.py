"""The tracking of one stream: identities, events at zones and lines, smoothed keypoints, and rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.poses import Detections, Floats, Frame, Poses
from engines.skeletons import Skeleton
from service.rules.results import BodyResults
from service.rules.rules import BodyRules
from service.rules.state import RulesState
from service.tracking import PoseTracker, TrackerConfig, TrackerState
from service.tracking.detector_pace import Attention
from service.tracking.events import EventNumbers, TrackingEvent
from service.tracking.sharing import AbsenceChange
from service.tracking.smoothing import OneEuro
from service.tracking.zones import Zones, ZonesState
from service.tracking_workers.codec import pack, unpack
from service.tracking_workers.state import StreamState, TrackingInputs, TrackingOptions


@dataclass(frozen=True, slots=True, eq=False)
class TrackingResult:
    """The tracking of the N poses of one frame.

    ids: (N,) int64, -1 for an unconfirmed person. keypoints: (N, K, 2) smoothed, or None without smoothing.
    velocities: (N, 2) pixels a second. ages: (N,) seconds since the person was first seen. Both are 0 for unconfirmed
    people, and for everybody unless the options ask for extras. attention: what the next frame needs.
    next_id: the first id that has not been assigned. state: the stream's state after this frame, see `codec`. bodies:
    what the rules say, None without rules. look_at: (M, 4) boxes whose embeddings the next frame should bring.
    absences: of a stream in a group, None of others. spare_ids: how many it can give until it needs more.
    """

    ids: NDArray[np.int64]
    keypoints: Floats | None
    velocities: Floats
    ages: Floats
    events: Sequence[TrackingEvent]
    attention: Attention
    next_id: int
    state: bytes
    bodies: BodyResults | None = None
    look_at: Floats | None = None
    absences: AbsenceChange | None = None
    spare_ids: int = 0


def initial_state(skeleton: Skeleton, options: TrackingOptions) -> StreamState:
    rules = RulesState.initial(options.rules, options.zones, options.lines)
    return StreamState(PoseTracker(skeleton).state(), ZonesState(), options.zones_hash, rules=rules)


class StreamTracker:
    """A stream's tracker, zones, smoothing filter and rules, restored from a packed state.

    Raises StateError if the bytes are not a valid state, and ValueError if the state has another skeleton, or the
    skeleton lacks keypoints that the rules need.
    """

    def __init__(self, skeleton: Skeleton, options: TrackingOptions, state: bytes) -> None:
        self._extras = options.extras
        self._zones_hash = options.zones_hash
        self._grouped, self._embeds = options.grouped, options.embedder is not None
        config = TrackerConfig(
            forget_seconds=options.forget_seconds, embedder=options.embedder, grouped=options.grouped
        )
        self._tracker = PoseTracker(skeleton, config)
        self._zones = Zones(options.zones, options.lines, lost_seconds=self._tracker.config.lost_seconds)
        self._numbers = EventNumbers()
        self._rules = BodyRules(options.rules, skeleton, options.zones, options.lines) if options.rules else None
        self._smoother = None if options.smoothing is None else OneEuro(options.smoothing)
        restored = unpack(state)
        self._tracker.restore(restored.tracker)
        self._numbers.restore(restored.numbers)
        if restored.zones_hash == self._zones_hash:
            self._zones.restore(restored.zones)
        if self._rules is not None:
            self._rules.restore(restored.rules)
        if self._smoother is not None and restored.smoothing is not None:
            self._smoother.restore(restored.smoothing)

    def propose(self, frame: Frame, timestamp: float) -> Detections:
        """Return the boxes where tracked people are expected in the frame. timestamp: seconds, never decreasing."""
        return self._tracker.propose(frame, timestamp)

    def update(
        self, poses: Poses, frame: Frame, timestamp: float, inputs: TrackingInputs | None = None
    ) -> TrackingResult:
        """Track the poses of the next frame. timestamp: seconds, never decreasing."""
        if inputs is not None:
            self._take(inputs)
        poses = self._tracker.update(poses, frame, timestamp)
        assert poses.ids is not None  # noqa: S101 - an update assigns them
        height, width = frame.shape[:2]
        events = self._zones.update(poses, width, height, timestamp)
        tracker, zones = self._tracker.state(), self._zones.state()
        keypoints, smoothing = None, None
        if self._smoother is not None:
            keypoints = self._smoother.smooth(replace(poses, keypoints_3d=None), timestamp).keypoints
            smoothing = self._smoother.state()
        bodies, rules = None, RulesState()
        if self._rules is not None:
            shown = poses if keypoints is None else replace(poses, keypoints=keypoints)
            inside = self._zones.occupancy(timestamp)
            bodies, told = self._rules.update(
                shown, width, height, timestamp, events=events, occupancy=inside, known=_remembered(tracker)
            )
            events, rules = [*events, *told], self._rules.state()
        if events:
            present = [person.id for person in zones.present]
            events = self._numbers.number(events, {*_remembered(tracker).tolist(), *present})
        velocities, ages = self._velocities_and_ages(poses.ids)
        look_at = self._tracker.look_at() if self._embeds else None
        return TrackingResult(
            poses.ids,
            keypoints,
            velocities,
            ages,
            events,
            Attention.of(self._tracker),
            tracker.next_id,
            pack(StreamState(tracker, zones, self._zones_hash, smoothing, self._numbers.state(), rules)),
            bodies,
            look_at,
            self._tracker.absences if self._grouped else None,
            self._tracker.ids.spare(tracker.next_id),
        )

    def _take(self, inputs: TrackingInputs) -> None:
        if inputs.embeddings is not None:
            self._tracker.embed(inputs.embeddings)
        if inputs.ids is not None:
            self._tracker.ids.add(*inputs.ids)
        if inputs.absent is not None:
            self._tracker.share(inputs.absent)

    def _velocities_and_ages(self, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
        velocities, ages = np.zeros((len(ids), 2), np.float32), np.zeros(len(ids), np.float32)
        tracks = {track.id: track for track in self._tracker.tracks} if self._extras else {}
        for n, number in enumerate(ids.tolist()):
            if (track := tracks.get(number)) is not None:
                velocities[n], ages[n] = track.velocity, track.age
        return velocities, ages


def _remembered(tracker: TrackerState) -> NDArray[np.int64]:
    """The ids of the people whom the tracker knows, in sight or absent."""
    ids = tracker.tracks.ids
    return ids if tracker.absent is None else np.concatenate([ids, tracker.absent.ids])
