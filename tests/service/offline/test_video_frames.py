"""A video's people, frame by frame: in order, from the networks or from the journal of an earlier run."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from engines.catalogue.models import load
from engines.poses import Frame, Poses
from engines.skeletons import BLAZEPOSE_33, COCO_17
from service.config import Settings
from service.inference.model_registry import open_serving
from service.media.video import VideoError, VideoFrame, VideoReader
from service.offline.journal import Journal
from service.offline.video_frames import FramePoses, Seek
from service.offline.video_journal import JournaledFrame, fingerprint, pack, unpack
from tests.graphs import tiny_catalogue
from tests.pictures import photo
from tests.service.media.videos import make_video
from tests.service.tracking.walkers import standing

FRAMES = 25


def texture(number: int, width: int, height: int) -> Frame:
    """The same in every frame, for flow to hold on to."""
    return np.asarray(photo(width, height))


@dataclass(frozen=True)
class Run:
    """What came out, and the looks that the journal has of it."""

    frames: list[tuple[VideoFrame, Poses]]
    looks: list[JournaledFrame]
    notes: tuple[str, ...]


def follow(folder: Path, seek: Seek, *, model: str = "pair", stop: int = FRAMES, video: str = "a.mp4") -> Run:
    """Go through the first `stop` frames of a video, as far as the journal in `folder` does not know them."""
    serving = open_serving(load([folder / "tiny.toml"]), [model], Settings())

    notes: tuple[str, ...] = ()

    async def whole(reader: VideoReader, journal: Journal, pool: ThreadPoolExecutor) -> list[tuple[VideoFrame, Poses]]:
        nonlocal notes
        await serving.start()
        frames = []
        poses = FramePoses(reader, serving.default, seek, journal, pool)
        try:
            async with aclosing(poses.tracked()) as tracked:
                async for frame in tracked:
                    frames.append(frame)
                    if len(frames) == stop:
                        break
            return frames
        finally:
            notes = poses.notes
            await serving.close(5.0)

    path = folder / "journal"
    with VideoReader(folder / video) as reader, Journal(path, {}) as journal, ThreadPoolExecutor(3) as pool:
        frames = asyncio.run(whole(reader, journal, pool))
    with Journal(path, {}) as journal:
        looks = [unpack(record, COCO_17) for _ in range(journal.found) if (record := journal.next()) is not None]
    return Run(frames, looks, notes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_catalogue(tmp_path)
    make_video(tmp_path / "a.mp4", FRAMES, draw=texture)
    return tmp_path


def test_frames_come_in_order_with_identities_that_hold(folder: Path) -> None:
    run = follow(folder, Seek(min_score=0.0))
    assert [picture.number for picture, _ in run.frames] == list(range(FRAMES))
    ids = [set(poses.ids.tolist()) for _, poses in run.frames if poses.ids is not None]
    assert len(ids) == FRAMES
    assert ids[-1] == ids[-5]
    assert min(ids[-1]) > 0
    assert all(look.detected for look in run.looks)


def test_what_is_told_scores_enough_and_what_is_tracked_may_score_less(folder: Path) -> None:
    run = follow(folder, Seek(min_score=0.9))
    assert all(len(look.poses) for look in run.looks)
    assert not any(len(poses) for _, poses in run.frames)


def test_the_detector_rests_between_its_turns(folder: Path) -> None:
    run = follow(folder, Seek(min_score=0.0, detect_every=0.2))
    turns = [n for n, look in enumerate(run.looks) if look.detected]
    assert turns[0] == 0
    assert max(np.diff([*turns, FRAMES])) <= 5  # a fifth of a second; earlier where the tracker is unsure
    assert len(turns) < 0.8 * FRAMES
    assert all(len(look.poses) for look in run.looks)


def test_a_model_without_a_detector_always_sees_the_whole_frame(folder: Path) -> None:
    run = follow(folder, Seek(min_score=0.0, detect_every=0.5), model="tiny")
    assert all((look.poses.boxes == [[0, 0, 160, 120]]).all() for look in run.looks)


@pytest.mark.parametrize("detect_every", [0.0, 0.2])
def test_going_on_with_a_journal_gives_what_would_have_been(folder: Path, detect_every: float) -> None:
    seek = Seek(min_score=0.0, detect_every=detect_every)
    first = follow(folder, seek, stop=9)
    assert 9 <= len(first.looks) < FRAMES
    second = follow(folder, seek)
    (folder / "journal").unlink()
    whole = follow(folder, seek)
    assert [look.detected for look in second.looks] == [look.detected for look in whole.looks]
    for (_, a), (_, b) in zip(second.frames, whole.frames, strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_allclose(a.keypoints, b.keypoints, atol=1e-2)


def test_a_journal_of_another_video_does_not_go_unnoticed(folder: Path) -> None:
    follow(folder, Seek(), stop=9)
    make_video(folder / "b.mp4", times=range(0, 50, 2), draw=texture)
    with pytest.raises(VideoError, match="does not fit the video; delete it"):
        follow(folder, Seek(), video="b.mp4")


@pytest.mark.parametrize(
    "damage", [b"", b"\x01\x02", pack(JournaledFrame(0, True, Poses.empty(BLAZEPOSE_33)))[:-3], b"\x93\x01\x02\x03"]
)
def test_from_a_damaged_record_on_the_journal_is_made_anew(folder: Path, damage: bytes) -> None:
    seek = Seek(min_score=0.0)
    whole = follow(folder, seek)
    records = [pack(look) for look in whole.looks]
    (folder / "journal").unlink()
    with Journal(folder / "journal", {}) as journal:
        for record in [*records[:6], damage, *records[7:20]]:
            journal.append(record)
    again = follow(folder, seek)
    assert again.notes == ("the journal is damaged after 6 frames, so the rest was done anew",)
    assert [look.pts for look in again.looks] == [look.pts for look in whole.looks]
    assert follow(folder, seek).notes == ()


def test_poses_come_out_of_a_record_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    poses = Poses(
        rng.random((3, 33, 2), np.float32),
        rng.random((3, 33), np.float32),
        rng.random((3, 4), np.float32),
        rng.random(3, np.float32),
        BLAZEPOSE_33,
        keypoints_3d=rng.random((3, 33, 3), np.float32),
    )
    look = unpack(pack(JournaledFrame(12_345, False, poses)), BLAZEPOSE_33)
    assert (look.pts, look.detected) == (12_345, False)
    for name in ("keypoints", "keypoint_scores", "boxes", "scores", "keypoints_3d"):
        np.testing.assert_array_equal(getattr(look.poses, name), getattr(poses, name))


def test_nobody_can_be_recorded_too() -> None:
    assert len(unpack(pack(JournaledFrame(0, True, Poses.empty(COCO_17))), COCO_17).poses) == 0
    one = replace(standing({1: (5.0, 5.0)}), ids=None)
    assert unpack(pack(JournaledFrame(0, True, one)), COCO_17).poses.keypoints_3d is None


def test_files_are_told_apart_by_any_part_of_them_that_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a"
    prints = set()
    for content in (b"", b"a", b"b", b"ab", bytes(3_000_000), bytes(2_999_999) + b"1", b"1" + bytes(2_999_999)):
        path.write_bytes(content)
        prints.add(fingerprint(path))
    assert len(prints) == 7
