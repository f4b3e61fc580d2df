"""Who is who from frame to frame.

After "Simple Baselines for Human Pose Estimation and Tracking" (Xiao, Wu, Wei, ECCV 2018), section 2: people are
carried into the new frame by optical flow and matched with its poses by OKS. Beyond the paper: constant velocity has a
say where people cross and the only one where they are out of sight, and all times are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engines.poses import Detections, Frame, Poses
from engines.skeletons import Skeleton
from service.tracking import colours, motion
from service.tracking.config import TrackerConfig
from service.tracking.flow import Carried, Flow
from service.tracking.matching import HOLD, PAUSE, Scene, match, singles
from service.tracking.similarity import Observed
from service.tracking.state import UNCONFIRMED, Track, TrackerState, TrackState

_DEFAULTS = TrackerConfig()

_STALE = 0.5
"""Seconds after which a person's earlier poses say nothing any more."""
_GLANCE = 0.5
"""The most seconds out of sight that one frame may add: before it nobody looked."""
_BROKEN = 0.3
"""The part of keypoints under which flow has broken down."""
_MARGIN = 0.15
"""By how much the box around a person's keypoints is widened to be a proposal (section 3.2 of the paper)."""


class PoseTracker:
    """Gives the poses of one stream identities that hold over time.

    skeleton: of all the poses to come. config: see TrackerConfig.
    """

    def __init__(self, skeleton: Skeleton, config: TrackerConfig = _DEFAULTS) -> None:
        self.skeleton = skeleton
        self.config = config
        self._tracks = TrackState.zeros(0, config.history, len(skeleton))
        self._flow = Flow()
        self._frame: Frame | None = None
        self._now = math.nan
        self._size = (0, 0)
        self._next_id = 1
        self._held = np.zeros(0, np.float32)
        self._elapsed = 0.0
        self._broken = False
        self._unsettled = True
        self._filled = np.zeros((0, len(skeleton)), np.bool_)

    @property
    def unsettled(self) -> bool:
        """Whether the last frame calls for a detector.

        Somebody in sight was lost or hardly recognised, flow broke down, the frames paused, or there was none yet.
        """
        return self._unsettled

    @property
    def filled(self) -> NDArray[np.bool_]:
        """(N, K): which keypoints of the last update were replaced; all False unless config.fill_keypoints."""
        return self._filled

    @property
    def tracks(self) -> Sequence[Track]:
        """Everybody with an id that the tracker remembers, in sight or not."""
        known = self._tracks.select(self._tracks.ids != UNCONFIRMED)
        return [
            Track(
                id=int(known.ids[n]),
                age=self._now - float(known.born[n]),
                last_seen=float(known.seen[n]),
                velocity=(float(known.velocities[n, 0]), float(known.velocities[n, 1])),
                box=tuple(known.boxes[n].tolist()),
                visible=bool(known.missed[n] == 0),
            )
            for n in range(len(known))
        ]

    def propose(self, frame: Frame | None, timestamp: float) -> Detections:
        """Where the people in sight are in this frame, best first, carried by optical flow; by motion without pixels.

        frame: (height, width, 3) uint8 RGB, or None. timestamp: seconds. An `update` with the same frame costs no
        second flow. Raises ValueError as `update` does.
        """
        self._advance(frame, timestamp)
        tracks = self._tracks.select((self._tracks.ids != UNCONFIRMED) & (self._tracks.missed < HOLD))
        boxes = _around(tracks)
        order = np.argsort(-tracks.scores, kind="stable")
        return Detections(boxes[order], tracks.scores[order])

    def update(self, poses: Poses, frame: Frame | None, timestamp: float) -> Poses:
        """The same people in the same order with their `ids`: 1 or higher, -1 for a pose that is nobody yet.

        Ids are never reused. Nothing else of the poses changes (unless config.fill_keypoints).
        frame: (height, width, 3) uint8 RGB, or None. timestamp: seconds on any clock that does not run backwards; two
        of the same timestamp are one instant. Raises ValueError for poses of another skeleton, a frame that is none,
        and a timestamp that is not finite or before the last.
        """
        if poses.skeleton != self.skeleton:
            raise ValueError(f"these poses are {poses.skeleton.name}; this tracker follows {self.skeleton.name}")
        self._advance(frame, timestamp)
        seen = Observed.of(
            poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, self.config.keypoint_score
        )
        worn = None if frame is None else colours.look(frame, seen.points, seen.boxes, seen.areas)
        scene = Scene(seen, worn, self._held, self._now)
        rows, chosen = match(self._tracks, scene, self.config, self.skeleton.sigmas)
        self._filled = np.zeros(poses.keypoint_scores.shape, np.bool_)
        if self.config.fill_keypoints:
            poses = self._fill(poses, rows, chosen)
        ids = self._remember(scene, rows, chosen)
        return replace(poses, ids=ids)

    def state(self) -> TrackerState:
        """What `restore` needs to go on elsewhere, in arrays of its own."""
        width, height = self._size
        return TrackerState(self.skeleton.name, self._next_id, self._now, width, height, self._tracks.copy())

    def restore(self, state: TrackerState) -> None:
        """Go on from `state`, forgetting all else. Raises ValueError if it is of another skeleton or broken."""
        if state.skeleton != self.skeleton.name:
            raise ValueError(f"this state is of {state.skeleton}; this tracker follows {self.skeleton.name}")
        self._tracks = state.tracks.fitted(self.config.history, len(self.skeleton))
        self._next_id, self._now, self._size = state.next_id, state.timestamp, (state.width, state.height)
        self._frame, self._held = None, np.zeros(len(self._tracks), np.float32)
        self._flow.forget()
        self._unsettled = True

    def _advance(self, frame: Frame | None, timestamp: float) -> None:
        """Carry everybody to this frame, unless they are there already."""
        if not math.isfinite(timestamp):
            raise ValueError(f"the timestamp is {timestamp}; it must be a number of seconds")
        if timestamp < self._now:
            raise ValueError(f"the timestamp {timestamp} is before the last one, {self._now}; time runs forwards")
        if frame is not None and (frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8):
            raise ValueError(f"a frame is (height, width, 3) uint8, not {frame.shape} {frame.dtype}")
        if timestamp == self._now and (frame is None or frame is self._frame):
            return
        elapsed = 0.0 if math.isnan(self._now) else timestamp - self._now
        carried = None
        if frame is not None:
            self._resize(frame.shape[1], frame.shape[0])
            if self.config.use_flow:
                carried = self._follow(frame)
        share = motion.carry(self._tracks, elapsed, carried)
        motion.let_go(self._tracks, self._tracks.missed >= HOLD)
        in_view = self._tracks.missed == 0
        lost_hold = carried is not None and in_view.any() and float(share[in_view].mean()) < _BROKEN
        self._held = share if carried is None else share * motion.trust(self._tracks, elapsed)
        self._broken = bool(lost_hold) or elapsed > PAUSE
        # Two looks at one instant are one frame: what the first elapsed still counts.
        self._elapsed = elapsed if timestamp > self._now or math.isnan(self._now) else self._elapsed
        self._frame, self._now = frame, timestamp

    def _follow(self, frame: Frame) -> Carried | None:
        tracks = self._tracks
        newest = tracks.poses[:, 0]
        known = (newest[..., 2] > 0) & (tracks.missed < HOLD)[:, None]
        return self._flow.follow(frame, newest[..., :2], known, tracks.boxes)

    def _resize(self, width: int, height: int) -> None:
        """The stream changed its frame size: everybody moves along."""
        before, self._size = self._size, (width, height)
        if 0 in before or before == self._size:
            return
        scale = np.array([width / before[0], height / before[1]], np.float32)
        self._tracks.poses[..., :2] *= scale
        self._tracks.boxes[:] *= np.tile(scale, 2)
        self._tracks.velocities[:] *= scale
        self._tracks.drifts[:] *= scale

    def _remember(self, scene: Scene, rows: NDArray[np.intp], chosen: NDArray[np.intp]) -> NDArray[np.int64]:
        """Bring everybody up to date, let the new be born and the old go; gives the ids of the poses."""
        tracks, config, seen = self._tracks, self.config, scene.seen
        was_in_view = (tracks.missed == 0) & (tracks.ids != UNCONFIRMED)
        missing = np.ones(len(tracks), np.bool_)
        missing[rows] = False
        returned = rows[tracks.missed[rows] > _STALE]
        if scene.worn is not None:
            colours.learn(tracks.colours, rows, scene.worn, chosen, (self._now - tracks.seen[rows]).astype(np.float32))
        motion.observe(tracks, rows, seen, chosen, self._now)
        tracks.poses[returned, 1:, :, 2] = 0
        tracks.missed[missing] += min(self._elapsed, _GLANCE)
        hardly = was_in_view & (missing | (tracks.scores < config.weak_score))
        self._unsettled = self._broken or bool(hardly.any())
        self._elapsed = 0.0

        ids = np.full(len(seen.scores), UNCONFIRMED, np.int64)
        ids[chosen] = tracks.ids[rows]
        left = seen.scores >= config.weak_score
        left[chosen] = False
        grown = self._now - tracks.born[rows] >= config.confirm_seconds
        ripe = (ids[chosen] == UNCONFIRMED) & (grown | (seen.scores[chosen] >= config.birth_score))
        taken = np.flatnonzero(ids != UNCONFIRMED)
        for place in np.flatnonzero(ripe):
            tracks.ids[rows[place]] = ids[chosen[place]] = self._new_id()
        self._let_go()
        if left.any():
            fresh = singles(seen, np.flatnonzero(left), taken, config.duplicate_oks, self.skeleton.sigmas)
            for pose in np.sort(fresh[seen.scores[fresh] >= config.birth_score]):
                ids[pose] = self._new_id()
            self._bear(scene, fresh, ids)
        self._held = np.zeros(len(self._tracks), np.float32)
        return ids

    def _bear(self, scene: Scene, fresh: NDArray[np.intp], ids: NDArray[np.int64]) -> None:
        """Take the poses `fresh` as new people; of too many, those out of sight the longest make room."""
        seen = scene.seen
        born = TrackState.zeros(len(fresh), self.config.history, len(self.skeleton))
        born.ids[:] = ids[fresh]
        born.born[:] = born.seen[:] = self._now
        born.boxes[:] = seen.boxes[fresh]
        born.scores[:] = seen.scores[fresh]
        born.poses[:, 0] = seen.points[fresh]
        if scene.worn is not None:
            colours.learn(born.colours, np.arange(len(fresh)), scene.worn, fresh, np.zeros(len(fresh), np.float32))
        tracks = TrackState.join([self._tracks, born])
        if len(tracks) > self.config.max_tracks:
            latest = np.argsort(-tracks.seen, kind="stable")[: self.config.max_tracks]
            tracks = tracks.select(np.sort(latest))
        self._tracks = tracks

    def _let_go(self) -> None:
        """Forget who is gone too long."""
        tracks, config = self._tracks, self.config
        patience = np.where(tracks.ids == UNCONFIRMED, 0.0, config.lost_seconds)
        gone = (tracks.missed > patience) | (self._now - tracks.seen > config.forget_seconds)
        if gone.any():
            self._tracks = tracks.select(~gone)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _fill(self, poses: Poses, rows: NDArray[np.intp], chosen: NDArray[np.intp]) -> Poses:
        """Weak keypoints where flow has carried them from a confident one of the queue, with half its score."""
        keypoints, scores = poses.keypoints.copy(), poses.keypoint_scores.copy()
        for row, pose in zip(rows, chosen, strict=True):
            for past in self._tracks.poses[row]:
                weak = (scores[pose] < self.config.keypoint_score) & (past[:, 2] * 0.5 > scores[pose])
                keypoints[pose, weak], scores[pose, weak] = past[weak, :2], past[weak, 2] * 0.5
                self._filled[pose] |= weak
        return replace(poses, keypoints=keypoints, keypoint_scores=scores)


def _around(tracks: TrackState) -> NDArray[np.float32]:
    """(T, 4) boxes around the keypoints, a margin wider; the carried box where few keypoints are known."""
    newest = tracks.poses[:, 0]
    known = newest[..., 2] > 0
    low = np.where(known[..., None], newest[..., :2], np.inf).min(axis=1)
    high = np.where(known[..., None], newest[..., :2], -np.inf).max(axis=1)
    enough = known.mean(axis=1) > 0.5
    margin = (high - low) * np.float32(_MARGIN)
    wide = np.concatenate([low - margin, high + margin], axis=1)
    return np.where(enough[:, None], wide, tracks.boxes).astype(np.float32)
