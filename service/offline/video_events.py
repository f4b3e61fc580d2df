"""What happens in a video at zones and lines and by rules: a file of events, and members of the poses file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from engines.poses import Poses
from engines.skeletons import Skeleton
from service.media.video_reader import VideoFrame, VideoInfo
from service.rules.results import BodyResults
from service.rules.rules import BodyRules
from service.tracking.zones import Zones
from service.tracking_workers.state import TrackingOptions

EVENTS_SUFFIX = ".ndjson"


class VideoEvents:
    """Watches the people of one video. A context manager.

    places: its zones, lines and rules. path: of the file of events, None for no file. Raises ValueError if the skeleton
    lacks keypoints that the rules need, and OSError.
    """

    def __init__(self, places: TrackingOptions, info: VideoInfo, skeleton: Skeleton, path: Path | None) -> None:
        self._size = info.width, info.height
        self._zones = Zones(places.zones, places.lines)
        self._rules = BodyRules(places.rules, skeleton, places.zones, places.lines)
        self._file = None if path is None else path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def update(self, frame: VideoFrame, people: Poses) -> tuple[Sequence[Mapping[str, object]], Mapping[str, Any]]:
        """Write the events of the next frame. Returns what the rules say of each person, and of the frame."""
        events = self._zones.update(people, *self._size, frame.seconds)
        inside = self._zones.occupancy(frame.seconds)
        bodies: BodyResults
        bodies, told = self._rules.update(people, *self._size, frame.seconds, events=events, occupancy=inside)
        if self._file is not None:
            about = {"frame": frame.number, "time": round(frame.seconds, 6)}
            options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
            for event in (*events, *told):
                self._file.write(orjson.dumps({**about, **event.document()}, option=options))
            self._file.flush()
        return bodies.people_documents(len(people)), bodies.frame_document()
