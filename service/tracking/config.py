"""What can be set on a tracker. All times in seconds, all similarities in 0..1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """The settings of one PoseTracker.

    birth_score: a pose this confident becomes a person at once; one below it after `confirm_seconds` of being seen.
    confirm_seconds: see birth_score.
    weak_score: poses below it are matched only after all the others, and never become a person.
    keypoint_score: keypoints below it neither carry nor compare.
    match_oks: the least similarity, 0..1, of a pose with a person in sight.
    match_lost: the least similarity, 0..1, of a pose with a person out of sight.
    duplicate_oks: a pose this similar to another of its frame that is a person already does not become one.
    lost_seconds: how long the tracker looks for a person out of sight; gaps between frames do not count.
    forget_seconds: how long it remembers a person at all, gaps between frames included.
    max_tracks: how many people it remembers at most; the longest unseen go first.
    history: the poses of a person that a new one is compared with (the paper's queue of L frames).
    use_flow: carry people by optical flow where there are pixels.
    assignment: "greedy", the best pair first as in the paper, or "optimal", the best sum of similarities.
    fill_keypoints: replace keypoints below `keypoint_score` by where flow has carried them; off, no pose is altered.
    """

    birth_score: float = 0.5
    confirm_seconds: float = 0.3
    weak_score: float = 0.2
    keypoint_score: float = 0.2
    match_oks: float = 0.3
    match_lost: float = 0.5
    duplicate_oks: float = 0.6
    lost_seconds: float = 5.0
    forget_seconds: float = 60.0
    max_tracks: int = 256
    history: int = 3
    use_flow: bool = True
    assignment: Literal["greedy", "optimal"] = "greedy"
    fill_keypoints: bool = False

    def __post_init__(self) -> None:
        for name in ("birth_score", "weak_score", "keypoint_score", "match_oks", "match_lost", "duplicate_oks"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in 0..1")
        for name in ("confirm_seconds", "lost_seconds", "forget_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        for name in ("max_tracks", "history"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.assignment not in ("greedy", "optimal"):
            raise ValueError(f"assignment is {self.assignment!r}; it must be greedy or optimal")
