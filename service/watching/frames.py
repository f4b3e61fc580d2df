"""A camera's frame with its people, and the options for finding them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from engines.poses import Poses
from service.cameras.camera import Camera, CameraFrame
from service.formats.posewire import people_list
from service.tracking_workers.state import TrackingOptions


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Which people to report, and how. min_score: 0..1. skeleton: a name, or `native`."""

    min_score: float = 0.3
    max_people: int = 50
    skeleton: str = "native"
    tracking: TrackingOptions = field(default_factory=TrackingOptions)


@dataclass(frozen=True, slots=True, eq=False)
class WatchedFrame:
    """A frame with its people, who have ids. number: of results, from 0. events: at zones and lines, as in streams.

    age_ms: from the frame's arrival on this machine until its people were known. dropped: frames of the camera since
    the last result that were not looked at. members: what rules say about each person. totals: and about the frame.
    """

    frame: CameraFrame
    number: int
    people: Poses
    events: Sequence[Mapping[str, object]]
    age_ms: float
    dropped: int
    members: Sequence[Mapping[str, object]] = ()
    totals: Mapping[str, object] = field(default_factory=dict)

    def document(self, *, with_events: bool) -> dict[str, object]:
        """The result as a stream's message, for orjson with OPT_SERIALIZE_NUMPY. with_events: there are zones."""
        height, width = self.frame.pixels.shape[:2]
        people = people_list(self.people)
        for person, members in zip(people, self.members, strict=False):  # there are none without rules
            person |= members
        return {
            "type": "result",
            "frame": self.number,
            "timestamp": round(1e3 * self.frame.time, 1),
            "age_ms": round(self.age_ms, 1),
            "dropped": self.dropped,
            "width": width,
            "height": height,
            "people": people,
            **self.totals,
            **({"events": self.events} if with_events else {}),
        }


class Watcher(Protocol):
    """Finds the people in a camera's frames."""

    def watch(self, camera: Camera) -> AsyncGenerator[WatchedFrame, None]:
        """Yield frames with their people, as many as there is time for, until the camera ends."""
