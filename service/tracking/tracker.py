"""Who is who from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.poses import Detections, Frame, Poses
from engines.skeletons import Skeleton
from service.tracking.config import TrackerConfig
from service.tracking.state import Track, TrackerState

_DEFAULTS = TrackerConfig()


class PoseTracker:
    """Gives the poses of one stream identities that hold over time.

    skeleton: of all the poses to come. config: see TrackerConfig.
    """

    def __init__(self, skeleton: Skeleton, config: TrackerConfig = _DEFAULTS) -> None:
        self.skeleton = skeleton
        self.config = config

    @property
    def unsettled(self) -> bool:
        """Whether the last frame calls for a detector: somebody in sight was lost, or flow broke down."""
        raise NotImplementedError

    @property
    def filled(self) -> NDArray[np.bool_]:
        """(N, K): which keypoints of the last update were replaced; all False unless config.fill_keypoints."""
        raise NotImplementedError

    @property
    def tracks(self) -> Sequence[Track]:
        """Everybody with an id that the tracker remembers, in sight or not."""
        raise NotImplementedError

    def propose(self, frame: Frame | None, timestamp: float) -> Detections:
        """Where the people in sight are in this frame, best first, carried by optical flow; by motion without pixels.

        frame: (height, width, 3) uint8 RGB, or None. timestamp: seconds. An `update` with the same frame costs no
        second flow. Raises ValueError as `update` does.
        """
        raise NotImplementedError

    def update(self, poses: Poses, frame: Frame | None, timestamp: float) -> Poses:
        """The same people in the same order with their `ids`: 1 or higher, -1 for a pose that is nobody yet.

        Ids are never reused. Nothing else of the poses changes (unless config.fill_keypoints).
        frame: (height, width, 3) uint8 RGB, or None. timestamp: seconds on any clock that does not run backwards; two
        of the same timestamp are one instant. Raises ValueError for poses of another skeleton, a frame that is none,
        and a timestamp that is not finite or before the last.
        """
        raise NotImplementedError

    def state(self) -> TrackerState:
        """What `restore` needs to go on elsewhere, in arrays of its own."""
        raise NotImplementedError

    def restore(self, state: TrackerState) -> None:
        """Go on from `state`, forgetting all else. Raises ValueError if it is of another skeleton or broken."""
        raise NotImplementedError
