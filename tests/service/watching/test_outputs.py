"""What is printed and recorded of a camera."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.cameras.camera import CameraFrame, CameraState
from service.client import Keypoint, Person
from service.media.media_file import VideoError
from service.watching.frames import WatchedFrame
from service.watching.outputs import Printer, Recording, fitted
from service.watching.remote import poses_of


def watched(number: int = 0, *, seconds: float = 0.0, size: tuple[int, int] = (64, 48)) -> WatchedFrame:
    """A grey frame without people, at `seconds` after some time."""
    pixels = np.full((size[1], size[0], 3), 128, np.uint8)
    frame = CameraFrame(number + 1, pixels, 1_700_000_000 + seconds, 0.0)
    return WatchedFrame(frame, number, poses_of((), COCO_17), [{"kind": "enter", "name": "hall", "id": 1}], 12.34, 0)


def never_drawn() -> np.ndarray:
    raise AssertionError("nobody needs a drawing")


def test_results_are_lines_of_the_stream_protocol() -> None:
    lines: list[bytes] = []
    printer = Printer("results", True, lines.append)
    printer.write(watched(3), never_drawn)
    printer.change(CameraState("lost", reason="it left"), 2.0)
    assert [json.loads(line) for line in lines] == [
        {
            "type": "result",
            "frame": 3,
            "timestamp": 1_700_000_000_000.0,
            "age_ms": 12.3,
            "dropped": 0,
            "width": 64,
            "height": 48,
            "people": [],
            "events": [{"kind": "enter", "name": "hall", "id": 1}],
        },
        {"type": "camera", "timestamp": 2000.0, "state": "lost", "reason": "it left"},
    ]
    assert all(line.endswith(b"}\n") for line in lines)


def test_events_alone_or_nothing_is_printed() -> None:
    lines: list[bytes] = []
    Printer("events", True, lines.append).write(watched(), never_drawn)
    assert json.loads(lines[0]) == {
        "type": "event",
        "timestamp": 1_700_000_000_000.0,
        "kind": "enter",
        "name": "hall",
        "id": 1,
    }
    silent = Printer("nothing", True, lines.append)
    silent.write(watched(), never_drawn)
    silent.change(CameraState(), 0.0)
    assert len(lines) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_recording_keeps_times_and_the_first_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    recording = Recording(path, plain=True)
    for number, (seconds, size) in enumerate([(0.0, (64, 48)), (0.5, (64, 48)), (0.5, (128, 32)), (2.0, (32, 24))]):
        recording.write(watched(number, seconds=seconds, size=size), never_drawn)
    recording.close()
    recording.close()
    with av.open(str(path)) as video:
        frames = list(video.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(64, 48)] * 4
    assert [frame.time for frame in frames] == pytest.approx([0, 0.5, 0.501, 2], abs=0.002)


def test_a_recording_that_cannot_be_written_is_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="cannot write"):
        Recording(tmp_path / "nowhere" / "out.mp4", plain=True).write(watched(), never_drawn)


def test_frames_of_another_shape_get_bars() -> None:
    wide = fitted(np.full((10, 40, 3), 255, np.uint8), 20, 20)
    assert wide[:, 10, 0].tolist() == [0] * 7 + [255] * 5 + [0] * 8
    assert fitted(np.full((40, 10, 3), 255, np.uint8), 20, 20)[10, :, 0].tolist() == [0] * 7 + [255] * 5 + [0] * 8
    same = np.zeros((20, 20, 3), np.uint8)
    assert fitted(same, 20, 20) is same


def test_people_of_a_server_become_arrays() -> None:
    keypoints = tuple(Keypoint(n, n + 0.5, 0.9) for n in range(17))
    poses = poses_of((Person(0.8, (1, 2, 3, 4), keypoints, id=7), Person(0.4, (5, 6, 7, 8), keypoints)), COCO_17)
    assert isinstance(poses, Poses)
    assert poses.ids is not None
    assert (poses.ids.tolist(), poses.boxes.tolist()) == ([7, -1], [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert poses.keypoints[1, 3].tolist() == [3, 3.5]
    assert poses.keypoints_3d is None
    assert len(poses_of((), COCO_17)) == 0
