"""Tracking the frames of a video, with estimates from the networks or from the journal of an earlier run."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from engines.catalogue import load
from engines.poses import Frame, Poses
from engines.skeletons import BLAZEPOSE_33, COCO_17
from service.config import Settings
from service.inference.model_registry import open_serving
from service.media.video_reader import VideoError, VideoFrame, VideoReader
from service.offline.journal import Journal
from service.offline.resumable_tracking import ConcurrentVideoTracker, ServedEstimator, VideoOptions
from service.offline.video_records import JournaledFrame, pack, unpack
from tests.graphs import tiny_catalogue
from tests.pictures import photo
from tests.service.media.videos import make_video

FRAMES = 25


def texture(number: int, width: int, height: int) -> Frame:
    """The same pixels in every frame, with texture that optical flow can track."""
    return np.asarray(photo(width, height))


@dataclass(frozen=True)
class Run:
    """The tracked frames, and the estimates in the journal."""

    frames: list[tuple[VideoFrame, Poses]]
    journaled: list[JournaledFrame]
    notes: tuple[str, ...]


def track(folder: Path, options: VideoOptions, *, model: str = "pair", stop: int = FRAMES, video: str = "a.mp4") -> Run:
    """Track the first `stop` frames of a video, with the journal in `folder`."""
    serving = open_serving(load([folder / "tiny.toml"]), [model], Settings())

    notes: tuple[str, ...] = ()

    async def whole(reader: VideoReader, journal: Journal, pool: ThreadPoolExecutor) -> list[tuple[VideoFrame, Poses]]:
        nonlocal notes
        await serving.start()
        frames = []
        tracker = ConcurrentVideoTracker(reader, ServedEstimator(serving.default), options, journal, pool)
        try:
            async with aclosing(tracker.tracked()) as tracked:
                async for frame in tracked:
                    frames.append(frame)
                    if len(frames) == stop:
                        break
            return frames
        finally:
            notes = tracker.notes
            await serving.close(5.0)

    path = folder / "journal"
    with VideoReader(folder / video) as reader, Journal(path, {}) as journal, ThreadPoolExecutor(3) as pool:
        frames = asyncio.run(whole(reader, journal, pool))
    with Journal(path, {}) as journal:
        journaled = [unpack(record, COCO_17) for _ in range(journal.found) if (record := journal.next()) is not None]
    return Run(frames, journaled, notes)


def prepare(folder: Path) -> Path:
    """Write the models and a video."""
    tiny_catalogue(folder)
    make_video(folder / "a.mp4", FRAMES, draw=texture)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An uninterrupted run that reports everybody."""
    return track(prepare(tmp_path_factory.mktemp("whole")), VideoOptions(min_score=0.0))


def test_frames_are_in_order_and_ids_are_stable(whole: Run) -> None:
    assert [frame.number for frame, _ in whole.frames] == list(range(FRAMES))
    ids = [set(poses.ids.tolist()) for _, poses in whole.frames if poses.ids is not None]
    assert len(ids) == FRAMES
    assert ids[-1] == ids[-5]
    assert min(ids[-1]) > 0
    assert all(frame.detected for frame in whole.journaled)


def test_weak_poses_are_tracked_but_not_reported(folder: Path) -> None:
    run = track(folder, VideoOptions(min_score=0.9))
    assert all(len(frame.poses) for frame in run.journaled)
    assert not any(len(poses) for _, poses in run.frames)


@pytest.mark.parametrize("detect_every", [0.2, None])
def test_the_detector_runs_only_every_so_often(folder: Path, detect_every: float | None) -> None:
    run = track(folder, VideoOptions(min_score=0.0, detect_every=detect_every))
    detections = [n for n, frame in enumerate(run.journaled) if frame.detected]
    assert detections[0] == 0
    assert max(np.diff([*detections, FRAMES])) <= 5  # a fifth of a second; earlier if the tracker is unsettled
    assert len(detections) < 0.8 * FRAMES
    assert all(len(frame.poses) for frame in run.journaled)


def test_a_model_without_a_detector_always_gets_the_whole_frame(folder: Path) -> None:
    run = track(folder, VideoOptions(min_score=0.0, detect_every=0.5), model="tiny")
    assert all((frame.poses.boxes == [[0, 0, 160, 120]]).all() for frame in run.journaled)


@pytest.mark.parametrize("detect_every", [0.0, 0.2, None])
def test_a_resumed_run_gives_the_same_results(folder: Path, detect_every: float | None) -> None:
    options = VideoOptions(min_score=0.0, detect_every=detect_every)
    first = track(folder, options, stop=9)
    assert 9 <= len(first.journaled) < FRAMES
    second = track(folder, options)
    (folder / "journal").unlink()
    whole = track(folder, options)
    assert [frame.detected for frame in second.journaled] == [frame.detected for frame in whole.journaled]
    for (_, a), (_, b) in zip(second.frames, whole.frames, strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_allclose(a.keypoints, b.keypoints, atol=1e-2)


def test_a_journal_of_another_video_is_an_error(folder: Path) -> None:
    track(folder, VideoOptions(), stop=9)
    make_video(folder / "b.mp4", times=range(0, 50, 2), draw=texture)
    with pytest.raises(VideoError, match="does not fit the video; delete it"):
        track(folder, VideoOptions(), video="b.mp4")


@pytest.mark.parametrize(
    "damage", [b"", b"\x01\x02", pack(JournaledFrame(0, True, Poses.empty(BLAZEPOSE_33)))[:-3], b"\x93\x01\x02\x03"]
)
def test_frames_are_estimated_again_from_a_damaged_record_on(folder: Path, whole: Run, damage: bytes) -> None:
    options = VideoOptions(min_score=0.0)
    records = [pack(frame) for frame in whole.journaled]
    with Journal(folder / "journal", {}) as journal:
        for record in [*records[:6], damage, *records[7:20]]:
            journal.append(record)
    again = track(folder, options)
    assert again.notes == ("the journal is damaged after 6 frames, so the rest was done anew",)
    assert [frame.pts for frame in again.journaled] == [frame.pts for frame in whole.journaled]
    assert track(folder, options).notes == ()
