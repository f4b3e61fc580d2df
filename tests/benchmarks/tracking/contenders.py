"""The trackers that are compared. Peers have several settings, of which the best on the measured data counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.tracking import PoseTracker, TrackerConfig
from service.tracking.joining import TrackJoiner, rename
from tests.benchmarks.peers.greedy import greedy_iou
from tests.benchmarks.peers.tracked import NORFAIR, TRACKERS_PACKAGE, Ids, PeerIds, PeerVideo, track_all
from tests.benchmarks.tracking.regimes import Video

Settings = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Contender:
    """A tracker. grid: its settings. track: returns the ids by setting and video."""

    name: str
    grid: Sequence[Settings]
    track: Callable[[Sequence[Settings], Sequence[Video]], list[list[PeerIds]]]


def _grid(fixed: Settings, **choices: Sequence[object]) -> list[Settings]:
    """All combinations of the choices."""
    return [{**fixed, **dict(zip(choices, values, strict=True))} for values in product(*choices.values())]


def _posewire(config: TrackerConfig, pixels: bool, video: Video) -> PeerIds:
    tracker = PoseTracker(COCO_17, config)
    ids: Ids = []
    took = 0.0
    for n, (poses, moment) in enumerate(zip(video.people(), video.times, strict=True)):
        picture = video.picture(n) if pixels else None
        began = time.process_time()
        tracked = tracker.update(poses, picture, float(moment))
        took += time.process_time() - began
        ids.append(np.full(len(poses), -1) if tracked.ids is None else tracked.ids)
    return PeerIds(ids, took)


def _offline(config: TrackerConfig, video: Video) -> PeerIds:
    """As `posewire video --offline-identities` does: ids are joined after the fact."""
    tracker, joiner = PoseTracker(COCO_17, config), TrackJoiner(COCO_17)
    took = 0.0
    complete: list[Poses] = []
    for n, (poses, moment) in enumerate(zip(video.people(), video.times.tolist(), strict=True)):
        picture = video.picture(n)
        began = time.process_time()
        tracked = tracker.update(poses, picture, moment)
        joiner.add(tracked, picture, moment)
        complete.append(tracked)
        took += time.process_time() - began
    began = time.process_time()
    firsts = joiner.joined()
    renamed = [rename(poses, firsts).ids for poses in complete]
    ids = [np.zeros(0, np.int64) if given is None else given for given in renamed]
    return PeerIds(ids, took + time.process_time() - began)


def _greedy_iou(least: float, memory: float, video: Video) -> PeerIds:
    began = time.process_time()
    ids = greedy_iou(video.people(), video.times, least, memory)
    return PeerIds(ids, time.process_time() - began)


def _each(track: Callable[..., PeerIds], settings: Sequence[Settings], videos: Sequence[Video]) -> list[list[PeerIds]]:
    return [[track(**options, video=video) for video in videos] for options in settings]


def _peer(
    name: str, requirement: str, script: str, settings: Sequence[Settings], videos: Sequence[Video]
) -> list[list[PeerIds]]:
    given = [
        PeerVideo(
            video.people(),
            video.times.tolist(),
            video.fps,
            [
                "" if dark else str(video.sequence.pictures[n])
                for n, dark in zip(video.frames, video.covered, strict=True)
            ]
            if (video.shrunk == 1).all()
            else [""] * len(video),
        )
        for video in videos
    ]
    return track_all(name, requirement, script, settings, given)


_BOXES = partial(_peer, "trackers", TRACKERS_PACKAGE, "boxes_tracker.py")
_SOON = {"minimum_consecutive_frames": 1}
_LONG: Mapping[str, Sequence[object]] = {"lost_track_buffer": (150,), "high_conf_det_threshold": (0.2, 0.3)}
_COMMON = {**_LONG, "lost_track_buffer": (30, 150)}
"""A buffer is counted in frames at 30 a second: these keep people unseen for one and for five seconds."""


def ours() -> list[Contender]:
    """This project's tracker, whose settings are its defaults: with pixels, without flow, and without pixels."""
    return [
        Contender("posewire", [{"config": TrackerConfig(), "pixels": True}], partial(_each, _posewire)),
        Contender(
            "posewire video, offline identities",
            [{"config": TrackerConfig()}],
            partial(_each, _offline),
        ),
        Contender(
            "posewire, without flow",
            [{"config": TrackerConfig(use_flow=False), "pixels": True}],
            partial(_each, _posewire),
        ),
        Contender(
            "posewire, without pixels", [{"config": TrackerConfig(), "pixels": False}], partial(_each, _posewire)
        ),
    ]


def peers() -> list[Contender]:
    """The others."""
    overlaps = {"iou": ("IoU", "DIoU"), "minimum_iou_threshold": (0.05, 0.15)}
    bytetrack = _grid(
        {"tracker": "ByteTrackTracker", **_SOON, "track_activation_threshold": 0.3}, **_COMMON, **overlaps
    )
    ocsort = _grid({"tracker": "OCSORTTracker", **_SOON}, **_COMMON, **overlaps)
    firm = {**_SOON, "track_activation_threshold": 0.3, "minimum_iou_threshold_unconfirmed_assoc": 0.1}
    cbiou = _grid(
        {"tracker": "CBIoUTracker", **firm},
        **_COMMON,
        minimum_iou_threshold_first_assoc=(0.05, 0.2),
        buffer_ratio_first=(0.3, 0.6),
    )
    botsort = _grid({"tracker": "BoTSORTTracker", **firm}, **_COMMON, minimum_iou_threshold_first_assoc=(0.05, 0.2))
    botsort = [
        *[{**settings, "enable_cmc": False} for settings in botsort],
        {**botsort[0], "enable_cmc": True, "lost_track_buffer": 150},
    ]
    norfair = _grid(
        {"detection_threshold": 0.3},
        speed=(270.0, 540.0, 1080.0),
        memory=(1.0, 5.0),
        distance_threshold=(0.35,),
        initialization_delay=(0,),
    )
    return [
        Contender("ByteTrack", bytetrack, _BOXES),
        Contender("OC-SORT", ocsort, _BOXES),
        Contender("C-BIoU", cbiou, _BOXES),
        Contender("BoT-SORT", botsort, _BOXES),
        Contender("norfair", norfair, partial(_peer, "norfair", NORFAIR, "norfair_tracker.py")),
        Contender("greedy IoU", _grid({}, least=(0.1, 0.3), memory=(1.0, 5.0)), partial(_each, _greedy_iou)),
    ]
