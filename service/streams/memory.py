"""What a stream remembers from frame to frame: who is where, and who is in which zone."""

from __future__ import annotations

from dataclasses import dataclass

from service.tracking import TrackerState
from service.tracking.zones import ZonesState


@dataclass(frozen=True, slots=True)
class Memory:
    """Enough to go on with a stream elsewhere. places: names the zones and lines that `zones` is about."""

    tracker: TrackerState
    zones: ZonesState
    places: str = ""
