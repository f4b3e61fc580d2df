"""What a stream remembers from frame to frame: who is where, who is in which zone, and how far smoothing is."""

from __future__ import annotations

from dataclasses import dataclass

from service.tracking import TrackerState
from service.tracking.smoothing import SmoothingState
from service.tracking.zones import ZonesState


@dataclass(frozen=True, slots=True)
class Memory:
    """Enough to go on with a stream elsewhere. places: names the zones and lines that `zones` is about.

    smoothing: None where nobody is smoothed.
    """

    tracker: TrackerState
    zones: ZonesState
    places: str = ""
    smoothing: SmoothingState | None = None
