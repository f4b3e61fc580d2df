"""The events of one frame as they leave the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from engines.poses import Poses
from service.events.event import PublishedEvent, event_id
from service.events.events import Events
from service.formats.people import keypoint_rows
from service.tracking.events import TrackingEvent


class FrameOfEvents(Protocol):
    """A frame of `width` x `height` pixels that was looked at, such as `ProcessedFrame`."""

    @property
    def events(self) -> Sequence[TrackingEvent]: ...
    @property
    def poses(self) -> Poses: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


@dataclass(frozen=True, slots=True)
class EventSource:
    """Where events come from. name: "cameras/NAME" or "streams/SESSION". session: in which people's ids are unique.

    client: whose rate of events counts; "" for that of the source itself. picture: URL of the camera's newest picture,
    where its entry switches that on; None for no reference.
    """

    name: str
    session: str
    client: str = ""
    picture: str | None = None

    def publisher(self, events: Events) -> Callable[[FrameOfEvents], Awaitable[None]]:
        """Return what publishes the events of a frame, and returns once they are in the journal."""

        async def publish(frame: FrameOfEvents) -> None:
            if events.active:
                await events.add(self.of_frame(frame, keypoints=events.keypoints), self.client or self.name)

        return publish

    def of_frame(self, frame: FrameOfEvents, *, keypoints: bool) -> list[PublishedEvent]:
        """Return the events of a frame. keypoints: with those of the person."""
        return [self._of_event(event, frame, keypoints=keypoints) for event in frame.events]

    def _of_event(self, event: TrackingEvent, frame: FrameOfEvents, *, keypoints: bool) -> PublishedEvent:
        number = event_id(self.session, event.kind, event.name, event.id, event.number)
        data: dict[str, Any] = {name: value for name, value in event.document().items() if name != "kind"}
        data |= {"width": frame.width, "height": frame.height}
        if self.picture is not None:
            data["picture"] = self.picture
        poses = frame.poses
        if poses.ids is not None and event.id is not None:
            for n in np.flatnonzero(poses.ids == event.id)[:1]:  # nobody, if the person has left
                data["box"] = poses.boxes[n].round(2).tolist()
                if keypoints:
                    data["skeleton"] = poses.skeleton.name
                    rows = keypoint_rows(poses.keypoints[n, None], poses.keypoint_scores[n, None])
                    data["keypoints"] = rows[0].tolist()
        return PublishedEvent(number, self.name, event.timestamp, event.kind, data)
