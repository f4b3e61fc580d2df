"""What is done with a video: its outputs, and how people are found, tracked and drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engines.skeletons import Skeleton
from service.formats.frames import POSES_SUFFIXES
from service.media.draw import DrawOptions
from service.media.video_writer import VIDEO_SUFFIXES
from service.offline.resumable_tracking import PIXEL_BYTES, VideoOptions
from service.offline.video_events import EVENTS_SUFFIX
from service.tracking.smoothing import OneEuroConfig
from service.tracking_workers.state import TrackingOptions


@dataclass(frozen=True, slots=True)
class VideoTask:
    """The input, outputs and options of one run.

    out: the video to write, with skeletons drawn. poses: the poses file to write. events: the file of events to write.
    At least one of the three is required. places: zones, lines and rules.
    trails: length of the drawn trails in seconds. smoothing: of the drawn keypoints, None for none. smooth_poses: the
    poses file is smoothed, too. name: of the video, for the poses file and the user; the source's by default.
    skeleton: of the outputs; the model's own by default. pixel_bytes: memory limit for the pixels of the frames that
    are estimated at once, and for those of the frames that wait to be smoothed. look: how people are drawn.
    blur: blur all faces. heat_map: draw for how long people have stood where. offline_identities: ids
    are joined after the fact, when all frames have been tracked.
    """

    source: Path
    out: Path | None
    poses: Path | None
    options: VideoOptions
    trails: float = 0.0
    smoothing: OneEuroConfig | None = field(default_factory=OneEuroConfig)
    smooth_poses: bool = False
    name: str = ""
    skeleton: Skeleton | None = None
    pixel_bytes: int = PIXEL_BYTES
    look: DrawOptions = field(default_factory=DrawOptions)
    blur: bool = False
    heat_map: bool = False
    offline_identities: bool = False
    events: Path | None = None
    places: TrackingOptions = field(default_factory=TrackingOptions)

    @property
    def watches(self) -> bool:
        """True if there are zones, lines or rules."""
        return bool(self.places.zones or self.places.lines or self.places.rules)

    def problem(self) -> str:
        """A message for the user if the paths make no sense; "" otherwise."""
        if self.out is None and self.poses is None and self.events is None:
            return "there is nothing to write; name a video with --out, a file of poses with --poses, or both"
        if self.events is not None and not self.watches:
            return "--events needs zones, lines or rules; name their file with --zones"
        if self.watches and self.events is None and (self.poses is None or self.poses.suffix.lower() == ".csv"):
            return "--zones is for --events, and for --poses as .json or .ndjson; name one of them"
        if self.blur and self.out is None:
            return "--blur is for the video that is drawn; name it with --out"
        outputs = ((self.out, VIDEO_SUFFIXES), (self.poses, POSES_SUFFIXES), (self.events, (EVENTS_SUFFIX,)))
        for path, suffixes in outputs:
            if path is None:
                continue
            if path.suffix.lower() not in suffixes:
                listed = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
                return f"cannot write {path.name}: the name must end in {listed}"
            if path.exists() and path.samefile(self.source):
                return f"{path} is the video itself; write to another file"
        return ""

    @property
    def passes(self) -> int:
        """How often each frame advances the run: a second time if a video is drawn after all frames were tracked."""
        return 2 if self.offline_identities and self.out is not None else 1

    @property
    def journal(self) -> Path:
        """The path of the journal, which exists until the run is complete."""
        beside = self.out or self.poses or self.events
        if beside is None:
            raise ValueError(self.problem())
        return beside.with_name(beside.name + ".journal")
