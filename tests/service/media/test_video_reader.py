"""Videos are read frame by frame, upright, with their times. Damaged ones are reported."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.media.video_reader import VideoError, VideoReader
from tests.pictures import photo
from tests.service.media.videos import make_song, make_video, set_display_matrix, shade
from tests.shared import SHARED, needs_shared


def test_every_frame_is_read_once_in_order_with_its_time(tmp_path: Path) -> None:
    with VideoReader(make_video(tmp_path / "a.mp4", 12)) as video:
        pictures = list(video)
    assert [p.number for p in pictures] == list(range(12))
    assert [p.seconds for p in pictures] == pytest.approx([n / 25 for n in range(12)])
    assert [int(p.pixels[-20, -20].mean()) for p in pictures] == pytest.approx([shade(n) for n in range(12)], abs=4)
    assert (video.info.width, video.info.height, float(video.info.rate), video.info.frames) == (160, 120, 25.0, 12)
    assert video.problem == ""


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 20, 70, 71, 200, 1000]
    path = make_video(tmp_path / "a.mkv", times=times, tick=Fraction(1, 1000))
    with VideoReader(path) as video:
        assert [p.seconds for p in video] == pytest.approx([t / 1000 for t in times])


def test_time_counts_from_the_beginning_of_the_video(tmp_path: Path) -> None:
    path = make_video(tmp_path / "late.ts", times=range(250, 262))
    with VideoReader(path) as video:
        pictures = list(video)
    assert pictures[0].pts * video.info.tick > 9
    assert [p.seconds for p in pictures] == pytest.approx([n / 25 for n in range(12)], abs=1e-3)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_exif_orientation_of_pictures_in_a_video_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo().save(tmp_path / "a.jpg", exif=exif, quality=95)
    with VideoReader(tmp_path / "a.jpg") as video:
        [frame] = video
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    assert np.abs(frame.pixels.astype(int) - np.asarray(upright)).mean() < 3


@pytest.mark.parametrize(
    ("matrix", "size", "corner"),
    [
        ((1, 0, 0, 1), (160, 120), "left upper"),
        ((0, 1, -1, 0), (120, 160), "right upper"),  # a quarter turn clockwise, as phones write it
        ((0, -1, 1, 0), (120, 160), "left lower"),
        ((-1, 0, 0, -1), (160, 120), "right lower"),
        ((-1, 0, 0, 1), (160, 120), "right upper"),  # mirrored
        ((0, 1, 1, 0), (120, 160), "left upper"),
    ],
)
def test_rotation_and_mirroring_are_applied(
    tmp_path: Path, matrix: tuple[int, int, int, int], size: tuple[int, int], corner: str
) -> None:
    path = make_video(tmp_path / "a.mp4", 2)
    set_display_matrix(path, *matrix)
    with VideoReader(path) as video:
        pixels = next(iter(video)).pixels
    assert pixels.shape[1::-1] == (video.info.width, video.info.height) == size
    assert pixels.flags.c_contiguous
    y = 10 if "upper" in corner else -10
    x = 10 if "left" in corner else -10
    red = {(v, u) for v in (10, -10) for u in (10, -10) if pixels[v, u, 0] > 180 and pixels[v, u, 1] < 80}
    assert red == {(y, x)}


def test_colours_are_the_written_ones(tmp_path: Path) -> None:
    with VideoReader(make_video(tmp_path / "a.mp4", 1)) as video:
        assert next(iter(video)).pixels[20, 20] == pytest.approx([220, 30, 30], abs=8)


def test_frames_of_other_sizes_are_scaled_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "both.ts"
    small, large = (make_video(tmp_path / f"{w}.ts", 5, size=(w, h)) for w, h in ((160, 120), (320, 240)))
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with VideoReader(path) as video:
        pictures = list(video)
    assert {p.pixels.shape for p in pictures} == {(120, 160, 3)}
    assert len(pictures) == 10
    assert all(b.pts > a.pts for a, b in pairwise(pictures))


@pytest.mark.parametrize(("suffix", "options"), [("mp4", {"movflags": "faststart"}), ("mkv", {})])
def test_a_truncated_file_gives_its_frames_and_a_problem(tmp_path: Path, suffix: str, options: dict[str, str]) -> None:
    path = make_video(tmp_path / f"a.{suffix}", 200, sound="aac", options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VideoReader(path) as video:
        pictures = list(video)
    assert 20 < len(pictures) < 180
    assert "is not whole: it ends after" in video.problem
    assert "of 8.0 s" in video.problem


@pytest.mark.parametrize("sound", ["", "aac"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts", "avi"])
def test_a_whole_file_has_no_problem(tmp_path: Path, suffix: str, sound: str) -> None:
    with VideoReader(make_video(tmp_path / f"a.{suffix}", 60, sound=sound)) as video:
        assert len(list(video)) == 60
    assert video.problem == ""


def test_damage_in_the_middle_is_left_out_or_concealed(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 100, codec="mpeg4")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 40] = bytes(40)
    path.write_bytes(data)
    with VideoReader(path) as video:
        assert len(list(video)) >= 95


def test_a_file_that_is_not_a_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("hello\n" * 50, "utf-8")
    (tmp_path / "empty.mp4").write_bytes(b"")
    whole = make_video(tmp_path / "whole.mp4", 12).read_bytes()
    (tmp_path / "headless.mp4").write_bytes(whole[: len(whole) // 2])  # the index is at the end
    for name in ("notes.mp4", "empty.mp4", "headless.mp4", "nowhere.mp4"):
        with pytest.raises(VideoError, match=rf"{name} cannot be read as a video: "):
            VideoReader(tmp_path / name)


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_not_a_video_even_with_a_cover(tmp_path: Path, cover: bool) -> None:
    path = make_song(tmp_path / "a.m4a", cover=cover)
    with pytest.raises(VideoError, match="has no video in it, only audio"):
        VideoReader(path)


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "none.avi", 0)
    with pytest.raises(VideoError, match="has no frame that can be decoded"):
        VideoReader(path)


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    with pytest.raises(VideoError, match="has no frame that can be decoded"):
        VideoReader(path)


def test_names_in_another_encoding_are_no_error(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 5)
    path.write_bytes(path.read_bytes().replace(b"VideoHandler", b"Vid\xe9oHandler"))
    with VideoReader(path) as video:
        assert len(list(video)) == 5


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(tmp_path / "a.png")
    with VideoReader(tmp_path / "a.png") as video:
        assert [p.pixels.shape for p in video] == [(60, 80, 3)]


@needs_shared
def test_a_real_clip_is_read() -> None:
    with VideoReader(SHARED / "data/video/street_5frames.mp4") as video:
        pictures = list(video)
    assert [p.seconds for p in pictures] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert pictures[0].pixels.shape == (540, 960, 3)
