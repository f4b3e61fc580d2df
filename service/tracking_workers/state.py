"""The tracking options of a stream, and its state between frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from engines.poses import Floats
from service.rules.definition import Rules
from service.rules.state import RulesState
from service.tracking import AbsentState, TrackerConfig, TrackerState
from service.tracking.embeddings import EmbeddingSpace
from service.tracking.events import Numbers
from service.tracking.smoothing import OneEuroConfig, SmoothingState
from service.tracking.zones import Line, Zone, ZonesState

MOST_IDS = 2**32 - 1
"""The largest id that a resume token can hold. A stream that has assigned more ids continues, but cannot be resumed."""


@dataclass(frozen=True, slots=True)
class TrackingOptions:
    """The part of a stream's hello that concerns tracking.

    smoothing: how keypoints are smoothed, None for not at all. extras: velocities and ages are reported.
    forget_seconds: how long people who are out of sight are remembered. embedder: of the embeddings that come with
    frames, None for none. grouped: ids and absent people are shared with other streams.
    """

    smoothing: OneEuroConfig | None = None
    extras: bool = False
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    forget_seconds: float = TrackerConfig().forget_seconds
    rules: Rules = field(default_factory=Rules)
    embedder: EmbeddingSpace | None = None
    grouped: bool = False

    @property
    def zones_hash(self) -> str:
        """Identifies the zones and lines; empty if there are none."""
        if not (self.zones or self.lines):
            return ""
        return hashlib.sha256(repr((self.zones, self.lines)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class TrackingInputs:
    """What a tracker gets beside the poses and the frame.

    embeddings: (M, D) of the people at `TrackingResult.look_at` of the last frame, None if there are none. ids: those
    that it may give from now on, as (first, end), and absent: everybody absent from the streams of its group, for
    `PoseTracker.ids` and `share`; None if nothing has changed.
    """

    embeddings: Floats | None = None
    ids: tuple[int, int] | None = None
    absent: AbsentState | None = None


@dataclass(frozen=True, slots=True)
class StreamState:
    """Everything needed to continue a stream in another process or on another server.

    zones_hash: of the zones and lines that `zones` refers to. smoothing: None if nobody is smoothed.
    numbers: of the events so far. rules: what rules remember; it names those that it belongs to.
    """

    tracker: TrackerState
    zones: ZonesState
    zones_hash: str = ""
    smoothing: SmoothingState | None = None
    numbers: Numbers = field(default_factory=dict)
    rules: RulesState = field(default_factory=RulesState)

    def fits(self, options: TrackingOptions) -> bool:
        """Return False if the state names zones, lines or rules of `options`, but holds another number of them."""
        if not self.rules.fits(options.rules, options.zones, options.lines):
            return False
        wanted = len(options.zones), len(options.lines)
        return self.zones_hash != options.zones_hash or all(
            (len(person.visits), len(person.places)) == wanted for person in self.zones.present
        )
