"""Assigning ids to the poses of successive frames.

After "Simple Baselines for Human Pose Estimation and Tracking" (Xiao, Wu, Wei, ECCV 2018), section 2: optical flow
propagates people to the new frame, where they are matched with its poses by OKS. Beyond the paper, constant velocity is
also used where people cross, and alone for people out of sight. All times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engines.poses import Detections, Frame, Poses
from engines.skeletons import Skeleton
from service.tracking import colours, gallery, motion
from service.tracking.config import TrackerConfig
from service.tracking.embeddings import Lookout
from service.tracking.flow import Carried, Flow
from service.tracking.matching import PAUSE, Scene, match, singles, waits_for_id
from service.tracking.sharing import AbsenceChange, IdBlocks, shared_with
from service.tracking.similarity import Observed
from service.tracking.state import UNCONFIRMED, AbsentState, Track, TrackerState, TrackState

_DEFAULTS = TrackerConfig()

_HOLD, _HOLD_FRAMES = 0.25, 2.5
"""Seconds, and times the interval between frames, without a pose for which a person still counts as in sight."""
_PACE = 0.2
"""The weight of the newest interval in the average interval between frames."""
_STALE = 0.5
"""Seconds out of sight after which a person's earlier poses are dropped."""
_MAX_UNSEEN_STEP = 0.5
"""Cap on the unseen time that one frame adds: in a longer gap there were no frames to see the person in."""
_BROKEN = 0.3
"""Share of found keypoints below which flow has failed."""


class PoseTracker:
    """Assigns ids to the poses of one stream.

    skeleton: the skeleton of all poses. config: see TrackerConfig. ids: those that a tracker of a group may give to new
    people, who wait for an id while there are none. absences: of the last update.
    """

    def __init__(self, skeleton: Skeleton, config: TrackerConfig = _DEFAULTS) -> None:
        self.skeleton = skeleton
        self.config = config
        self._embedder, self._width = ("", 0) if (space := config.embedder) is None else (space.name, space.size)
        self._tracks = TrackState.zeros(0, config.history, len(skeleton), self._width)
        self._absent = AbsentState.nobody(len(skeleton), self._width)
        self._lookout = Lookout(config.embedder)
        self.ids = IdBlocks()
        self._unchanged = self.absences = AbsenceChange(self._absent, ())
        self._flow = Flow()
        self._frame: Frame | None = None
        self._now = math.nan
        self._size = (0, 0)
        self._next_id = 1
        self._held = np.zeros(0, np.float32)
        self._elapsed = 0.0
        self._interval = 0.0
        self._broken = False
        self._unsettled = True
        self._filled = np.zeros((0, len(skeleton)), np.bool_)
        self._followed = motion.followed(skeleton)
        self._sides = colours.sides(skeleton)

    @property
    def _hold(self) -> float:
        """Seconds without a pose for which flow is trusted and people still count as in sight."""
        return max(_HOLD, _HOLD_FRAMES * self._interval)

    @property
    def unsettled(self) -> bool:
        """True if the detector should run on the next frame.

        True before the first frame, after a long gap between frames, after flow failed, and when a visible person was
        lost or scored low.
        """
        return self._unsettled

    @property
    def newcomers(self) -> bool:
        """True if somebody was seen who is not confirmed yet."""
        return bool((self._tracks.ids == UNCONFIRMED).any())

    @property
    def filled(self) -> NDArray[np.bool_]:
        """The keypoints (N, K) that the last update replaced; all False unless config.fill_keypoints."""
        return self._filled

    @property
    def tracks(self) -> Sequence[Track]:
        """All people with an id, in sight or not."""
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

    def share(self, absent: AbsentState) -> None:
        """Replace the people whom a tracker of a group remembers by everybody absent from its streams.

        absent: with times on this tracker's clock, and boxes of zeros. The boxes of those who left here are kept.
        """
        ids = self._tracks.ids
        self._absent = shared_with(self._absent, absent, ids[ids != UNCONFIRMED].tolist())

    def look_at(self) -> NDArray[np.float32]:
        """Return the boxes (M, 4) of the people of the last update whose embeddings should be computed, for `embed`."""
        waiting = waits_for_id(self._tracks, self.config)
        return self._lookout.choose(self._tracks, waiting, self._now, self._size)

    def embed(self, vectors: NDArray[np.float32]) -> None:
        """Take the embeddings (M, D) of the people that `look_at` has returned since the last update; zeros for
        unknown ones."""
        self._lookout.learn(self._tracks, vectors)

    def propose(self, frame: Frame | None, timestamp: float) -> Detections:
        """Predict the boxes of the people in sight, confirmed or not, by optical flow, or by velocity without pixels.

        Best first. The score of each box is that of the box in which the person's last pose was found, so that poses
        that are found in proposals score as before: a pose's score is that of its box times the mean of its keypoints.
        frame: (height, width, 3) uint8 RGB, or None. timestamp: seconds. A following `update` with the same frame does
        not compute the flow again. Raises ValueError as `update` does.
        """
        self._advance(frame, timestamp)
        tracks = self._tracks.select(self._tracks.missed < self._hold)
        tracks = tracks.select(np.argsort(-tracks.scores, kind="stable"))
        scores = tracks.poses[:, 0, :, 2]
        means = scores.sum(axis=1) / np.maximum((scores > 0).sum(axis=1), 1)
        return Detections(
            motion.around(tracks), np.minimum(tracks.scores / np.maximum(means, 1e-6), 1).astype(np.float32)
        )

    def update(self, poses: Poses, frame: Frame | None, timestamp: float) -> Poses:
        """Return the poses in the same order with `ids`: at least 1, or -1 for poses that are not confirmed yet.

        Ids are never reused. Nothing else of the poses changes (unless config.fill_keypoints).
        frame: (height, width, 3) uint8 RGB, or None. timestamp: seconds on any clock that does not run backwards; equal
        timestamps are one instant. Raises ValueError for poses of another skeleton, an invalid frame, and a timestamp
        that is not finite or before the last.
        """
        if poses.skeleton != self.skeleton:
            raise ValueError(f"these poses are {poses.skeleton.name}; this tracker follows {self.skeleton.name}")
        self._advance(frame, timestamp)
        seen = Observed.of(
            poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, self.config.keypoint_score
        )
        appearance = None if frame is None else colours.sample(frame, seen.points, seen.boxes, seen.areas)
        scene = Scene(seen, appearance, self._held, self._now, self._hold)
        rows, chosen = match(self._tracks, scene, self.config, self.skeleton.sigmas)
        self._filled = np.zeros(poses.keypoint_scores.shape, np.bool_)
        if self.config.fill_keypoints:
            poses, self._filled = motion.fill(self._tracks, poses, rows, chosen, self.config.keypoint_score)
        self.absences = self._unchanged
        ids = self._remember(scene, rows, chosen)
        return replace(poses, ids=ids)

    def state(self) -> TrackerState:
        """Return the state for `restore`, as a copy."""
        width, height = self._size
        return TrackerState(
            self.skeleton.name,
            self._next_id,
            self._now,
            width,
            height,
            self._tracks.copy(),
            # Those whom other trackers of the group have seen last come back with the next `share`.
            self._absent.select(self._absent.ids < self._next_id) if self.config.grouped else self._absent,
            self._embedder,
        )

    def restore(self, state: TrackerState) -> None:
        """Replace the state. Raises ValueError if `state` has another skeleton or is inconsistent."""
        if state.skeleton != self.skeleton.name:
            raise ValueError(f"this state is of {state.skeleton}; this tracker follows {self.skeleton.name}")
        state = state.with_embeddings(self._embedder, self._width)
        self._tracks = state.tracks.fitted(self.config.history, len(self.skeleton))
        nobody = AbsentState.nobody(len(self.skeleton), self._width)
        self._absent = nobody if state.absent is None else state.absent
        self._lookout.forget()
        self._next_id, self._now, self._size = state.next_id, state.timestamp, (state.width, state.height)
        self._frame, self._held = None, np.zeros(len(self._tracks), np.float32)
        self._flow.forget()
        self._unsettled = True

    def _advance(self, frame: Frame | None, timestamp: float) -> None:
        """Propagate all tracks to this frame; does nothing if already done."""
        if not math.isfinite(timestamp):
            raise ValueError(f"the timestamp is {timestamp}; it must be a number of seconds")
        if timestamp < self._now:
            raise ValueError(f"the timestamp {timestamp} is before the last one, {self._now}; time runs forwards")
        if frame is not None and (frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8):
            raise ValueError(f"a frame is (height, width, 3) uint8, not {frame.shape} {frame.dtype}")
        if timestamp == self._now and (frame is None or frame is self._frame):
            return
        elapsed = 0.0 if math.isnan(self._now) else timestamp - self._now
        if 0 < elapsed <= PAUSE:
            self._interval += (elapsed - self._interval) * (_PACE if self._interval else 1)
        carried = None
        if frame is not None:
            self._resize(frame.shape[1], frame.shape[0])
            if self.config.use_flow:
                carried = self._track_points(frame)
        share = motion.carry(self._tracks, elapsed, carried, self._followed)
        motion.discard_flow(self._tracks, self._tracks.missed >= self._hold)
        in_view = self._tracks.missed == 0
        lost_hold = carried is not None and in_view.any() and float(share[in_view].mean()) < _BROKEN
        self._held = share if carried is None else share * motion.trust(self._tracks, elapsed)
        self._broken = bool(lost_hold) or elapsed > PAUSE
        # Two calls at one instant are one frame, so the first call's elapsed time still counts.
        self._elapsed = elapsed if timestamp > self._now or math.isnan(self._now) else self._elapsed
        self._frame, self._now = frame, timestamp

    def _track_points(self, frame: Frame) -> Carried | None:
        tracks = self._tracks
        newest = tracks.poses[:, 0]
        known = (newest[..., 2] > 0) & (tracks.missed < self._hold)[:, None] & self._followed
        return self._flow.follow(frame, newest[..., :2], known, tracks.boxes)

    def _resize(self, width: int, height: int) -> None:
        """Scale all positions if the stream changes its frame size."""
        before, self._size = self._size, (width, height)
        if 0 in before or before == self._size:
            return
        scale = np.array([width / before[0], height / before[1]], np.float32)
        self._tracks.poses[..., :2] *= scale
        self._tracks.boxes[:] *= np.tile(scale, 2)
        self._tracks.velocities[:] *= scale
        self._tracks.drifts[:] *= scale
        self._absent = replace(self._absent, boxes=self._absent.boxes * np.tile(scale, 2))

    def _remember(self, scene: Scene, rows: NDArray[np.intp], chosen: NDArray[np.intp]) -> NDArray[np.int64]:
        """Update all people, add new ones and remove old ones. Returns the ids of the poses."""
        tracks, config, seen = self._tracks, self.config, scene.seen
        was_in_view = (tracks.missed == 0) & (tracks.ids != UNCONFIRMED)
        missing = np.ones(len(tracks), np.bool_)
        missing[rows] = False
        returned = rows[tracks.missed[rows] > _STALE]
        if scene.appearance is not None:
            elapsed, ages = self._now - tracks.seen[rows], tracks.seen[rows] - tracks.born[rows]
            new = tracks.ids[rows] == UNCONFIRMED
            colours.learn(tracks.colours, rows, scene.appearance, chosen, elapsed, ages, new)
        motion.observe(tracks, rows, seen, chosen, self._now)
        tracks.poses[returned, 1:, :, 2] = 0
        tracks.missed[missing] += min(self._elapsed, _MAX_UNSEEN_STEP)
        hardly = was_in_view & (missing | (tracks.scores < config.weak_score))
        self._unsettled = self._broken or bool(hardly.any())
        self._elapsed = 0.0

        ids = np.full(len(seen.scores), UNCONFIRMED, np.int64)
        ids[chosen] = tracks.ids[rows]
        left = seen.scores >= config.weak_score
        left[chosen] = False
        grown = self._now - tracks.born[rows] >= config.confirm_seconds
        ripe = (ids[chosen] == UNCONFIRMED) & (grown | (seen.scores >= config.birth_score)[chosen])
        fresh = np.flatnonzero(left)
        if len(fresh):
            taken = np.flatnonzero(ids != UNCONFIRMED)
            fresh = np.sort(singles(seen, fresh, taken, config.duplicate_oks, self.skeleton.sigmas))
        born = len(tracks) + np.flatnonzero((seen.scores >= config.birth_score)[fresh])
        self._add_tracks(scene, fresh)
        confirmed = np.concatenate([rows[ripe], born])
        self._confirm(confirmed)
        ids[chosen], ids[fresh] = self._tracks.ids[rows], self._tracks.ids[len(tracks) :]
        self._drop_lost()
        self._held = np.zeros(len(self._tracks), np.float32)
        return ids

    def _add_tracks(self, scene: Scene, fresh: NDArray[np.intp]) -> None:
        """Start an unconfirmed track for each new pose."""
        if not len(fresh):
            return
        seen = scene.seen
        born = TrackState.zeros(len(fresh), self.config.history, len(self.skeleton), self._width)
        born.ids[:] = UNCONFIRMED
        born.born[:] = born.seen[:] = self._now
        born.boxes[:] = seen.boxes[fresh]
        born.scores[:] = seen.scores[fresh]
        born.poses[:, 0] = seen.points[fresh]
        if scene.appearance is not None:
            none = np.zeros(len(fresh))
            colours.learn(born.colours, np.arange(len(fresh)), scene.appearance, fresh, none, none, none == 0)
        self._tracks = TrackState.join([self._tracks, born])

    def _confirm(self, rows: NDArray[np.intp]) -> None:
        """Give ids to people: their old ids to those who have returned, new ids to others. Some have to wait."""
        if not len(rows):
            return
        tracks = self._tracks
        confirmed = tracks.ids != UNCONFIRMED
        recent = self._now - tracks.seen <= self.config.forget_seconds
        lost = np.flatnonzero(confirmed & recent & (tracks.missed >= self._hold))
        away = AbsentState.join([self._absent, gallery.as_absent(tracks.select(lost))])
        ages = self._now - tracks.born[rows]
        newcomers = gallery.Newcomers(tracks.colours[rows], tracks.boxes[rows], ages, tracks.embeddings[rows])
        others = tracks.select((tracks.missed == 0) & confirmed)
        found = gallery.recognise(
            away, others, newcomers, self._now, self._size, self._sides, space=self.config.embedder
        )
        for row, who in zip(rows, found, strict=True):
            if who >= 0:
                tracks.ids[row], tracks.born[row] = away.ids[who], away.born[who]
            elif who == gallery.STRANGER or self._frame is None:
                number = self.ids.take(self._next_id) if self.config.grouped else self._next_id
                if number is not None:
                    tracks.ids[row], self._next_id = number, number + 1
        back = away.ids[found[found >= 0]]
        if len(back):
            self.absences = replace(self.absences, back=back.tolist())
            tracks.ids[lost[np.isin(tracks.ids[lost], back)]] = UNCONFIRMED
            self._absent = self._absent.select(~np.isin(self._absent.ids, back))
            self._next_id = max(self._next_id, int(back.max()) + 1)  # an id of another tracker of the group

    def _drop_lost(self) -> None:
        """Remove people who were out of sight for too long or have left the picture, and remember their appearance.

        Above `max_tracks`, remove the people unseen for the longest time.
        """
        tracks, config = self._tracks, self.config
        confirmed = tracks.ids != UNCONFIRMED
        gone = missing = tracks.missed > 0
        if missing.any():
            waiting = ~confirmed & waits_for_id(tracks, config)
            gone = tracks.missed > np.where(confirmed, config.lost_seconds, np.where(waiting, self._hold, 0.0))
            gone |= motion.outside(tracks, self._size) & confirmed & missing
            gone |= self._now - tracks.seen > max(config.forget_seconds, config.lost_seconds)
        if len(tracks) > config.max_tracks:
            gone[np.argsort(-tracks.seen, kind="stable")[config.max_tracks :]] = True
        if gone.any():
            left = gallery.as_absent(tracks.select(gone & confirmed))
            self._absent = gallery.remember(self._absent, left, config.max_absent)
            self.absences = replace(self.absences, left=left)
            self._tracks = tracks.select(~gone)
        if len(self._absent):
            self._absent = self._absent.select(self._now - self._absent.seen <= config.forget_seconds)
