"""The settings of a tracker. Times are in seconds, similarities in 0..1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from service.tracking.embeddings import EmbeddingSpace


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """The settings of one PoseTracker.

    birth_score: a pose with this score becomes a person at once. Others need `confirm_seconds` of being seen.
    confirm_seconds: see birth_score.
    weak_score: poses below this score are matched after all others, and never become a person.
    keypoint_score: keypoints below this score are used neither for flow nor for comparisons.
    match_evidence: least logarithm of the odds that a pose is a known person, for somebody unseen for 1.5 s; sooner
        less is enough. See evidence.md.
    duplicate_oks: a pose this similar to a person in the same frame does not become a person.
    lost_seconds: how long a person out of sight is searched for, not counting gaps between frames.
    forget_seconds: how long a person is remembered, counting gaps between frames, but at least `lost_seconds`. Somebody
        who is out of sight for more than `lost_seconds`, or has left the picture, is known again only by appearance.
    max_absent: most people who are remembered by appearance alone.
    max_tracks: most people that are remembered. Those unseen for the longest time are dropped first.
    history: number of a person's poses that a new pose is compared with (the paper's queue of L frames).
    use_flow: propagate people by optical flow if there are pixels.
    assignment: "optimal", the greatest sum of evidence, or "greedy", the best pair first as in the paper.
    fill_keypoints: replace keypoints below `keypoint_score` by their positions according to flow.
    embedder: of the embeddings that `PoseTracker.embed` gets; None for none.
    grouped: one of several trackers that share ids and absent people, see `PoseTracker.share`.
    """

    birth_score: float = 0.5
    confirm_seconds: float = 0.3
    weak_score: float = 0.2
    keypoint_score: float = 0.2
    match_evidence: float = -4.0
    duplicate_oks: float = 0.6
    lost_seconds: float = 5.0
    forget_seconds: float = 60.0
    max_tracks: int = 256
    max_absent: int = 64
    history: int = 3
    use_flow: bool = True
    assignment: Literal["greedy", "optimal"] = "optimal"
    fill_keypoints: bool = False
    embedder: EmbeddingSpace | None = None
    grouped: bool = False

    def __post_init__(self) -> None:
        for name in ("birth_score", "weak_score", "keypoint_score", "duplicate_oks"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in 0..1")
        for name in ("confirm_seconds", "lost_seconds", "forget_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        for name in ("max_tracks", "max_absent", "history"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not math.isfinite(self.match_evidence):
            raise ValueError(f"match_evidence is {self.match_evidence}; it must be a number")
        if self.assignment not in ("greedy", "optimal"):
            raise ValueError(f"assignment is {self.assignment!r}; it must be greedy or optimal")
