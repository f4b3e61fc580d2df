"""Unusual files: frames have steady times whatever else is in the file and whatever its clock does."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from service.media.media_file import MediaFile
from service.media.video_reader import VideoError, VideoReader
from tests.service.media.videos import join, make_frames, make_video, picture, shade, shift_clock
from tests.shared import SHARED, needs_shared

SMALL = (64, 48)


def times(path: Path) -> list[float]:
    """The times of all frames, which must be the written ones in order."""
    with VideoReader(path) as video:
        pictures = list(video)
    return [picture.seconds for picture in pictures]


def steady(path: Path, frames: int) -> bool:
    """Whether the file has `frames` frames, each 1/25 s after the one before."""
    found = times(path)
    return found == pytest.approx([found[0] + n / 25 for n in range(frames)], abs=1e-3) and 0 <= found[0] < 0.1


@pytest.mark.parametrize("sound", ["", "aac"])
@pytest.mark.parametrize(
    "shift",
    [
        pytest.param(lambda n, _: 36_000 if n >= 12 else 0, id="gap of ten hours"),
        pytest.param(lambda n, _: 9_000 if n == 12 else 0, id="outlier in the future"),
        pytest.param(lambda n, _: -9_000 if n == 12 else 0, id="outlier in the past"),
        pytest.param(lambda n, _: -12 if n >= 12 else 0, id="backwards"),
        pytest.param(lambda *_: (1 << 33) / 90_000 - 1.9, id="wrap"),
        pytest.param(lambda n, _: (1 << 33) / 90_000 - 1.9 if n < 5 else -1.9, id="wrap at a frame"),
        pytest.param(lambda n, _: 20 * (n // 7), id="one jump after the other"),
        pytest.param(lambda n, _: 9_000 if n in (1, 2) else 0, id="outliers at the beginning"),
    ],
)
def test_a_clock_that_jumps_is_made_steady(tmp_path: Path, shift: Callable[[int, float], float], sound: str) -> None:
    path = make_video(tmp_path / "a.ts", 30, size=SMALL, codec="mpeg2video", sound=sound)
    shift_clock(path, shift)
    assert steady(path, 30)


def test_frames_of_a_clock_that_stands_still_get_the_usual_rate(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.ts", 30, size=SMALL, codec="mpeg2video")
    beginning = 1.4
    shift_clock(path, lambda n, time: beginning + 0.2 - time if n >= 5 else 0)
    found = times(path)
    assert len(found) == 30
    assert [b - a for a, b in pairwise(found[8:])] == pytest.approx([0.04] * 21, abs=1e-3)


@pytest.mark.parametrize("sound", ["", "aac"])
@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_concatenated_files_are_read_as_one(tmp_path: Path, suffix: str, sound: str) -> None:
    one = make_video(tmp_path / f"one.{suffix}", 20, size=SMALL, sound=sound)
    assert steady(join(tmp_path / f"joined.{suffix}", one, one), 40)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "libx264"), ("a.h264", "libx264"), ("a.flv", "libx264"), ("a.mpg", "mpeg2video")]
)
def test_frames_without_timestamps_get_the_files_rate(tmp_path: Path, name: str, codec: str) -> None:
    assert steady(make_video(tmp_path / name, 25, size=SMALL, codec=codec), 25)


def test_every_stream_has_its_own_decoder(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(path, "w") as out:  # sound, cover pictures and subtitles before and after the video
        tone = out.add_stream("aac", rate=48_000)
        video = out.add_stream("libx264", rate=25)
        assert isinstance(tone, av.AudioStream)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = *SMALL, "yuv420p"
        out.add_attachment("cover.jpg", "image/jpeg", _jpeg())
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(picture(number, *SMALL), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    with VideoReader(path) as reader:
        pictures = list(reader)
    assert [int(p.pixels[-5, -5].mean()) for p in pictures] == pytest.approx([shade(n) for n in range(30)], abs=6)


def test_an_unknown_sound_codec_is_ignored(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 30, size=SMALL, sound="aac")
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"zsds"))
    assert steady(path, 30)
    with MediaFile(path) as file:
        assert (len(file.sounds), file.unknown) == (0, 1)


def test_of_several_videos_the_largest_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    with av.open(path, "w") as out:
        for size in ((32, 16), SMALL, (16, 16)):
            stream = out.add_stream("mpeg2video", rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        out.start_encoding()
        for number in range(5):
            for stream in out.streams.video:
                frame = av.VideoFrame.from_ndarray(picture(number, stream.width, stream.height), "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                out.mux(stream.encode(frame))
        for stream in out.streams.video:
            out.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert [p.pixels.shape for p in reader] == [(48, 64, 3)] * 5


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (101, 75)])
def test_any_size_can_be_read(tmp_path: Path, size: tuple[int, int]) -> None:
    with VideoReader(make_frames(tmp_path / "a.mov", "png", "rgb24", size)) as video:
        assert [p.pixels.shape for p in video] == [(size[1], size[0], 3)] * 3


NAMES = [
    "a:b.mp4",
    "http:x.mp4",
    "file:x.mp4",
    "pipe:0.mp4",
    "-x.mp4",
    "a%03d.mp4",
    "concat:a|b.mp4",
    os.fsdecode(b"\xe9.mp4"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_have_no_special_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "a.mp4", 3, size=SMALL).rename(name)
    assert len(times(Path(name))) == 3


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n", "ffconcat version 1.0\nfile '{}'\n"]
)
def test_a_playlist_opens_no_other_file(tmp_path: Path, text: str) -> None:
    make_video(tmp_path / "other.mp4", 3, size=SMALL)
    for name in ("a.mp4", "a.m3u8"):
        (tmp_path / name).write_text(text.format("other.mp4"), "utf-8")
        with pytest.raises(VideoError, match="cannot be read as a video"):
            VideoReader(tmp_path / name)


def test_a_path_that_is_not_a_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("pipe.mp4", "folder.mp4"):
        with pytest.raises(VideoError, match=rf"{name} is not a file; save the video to a file first"):
            VideoReader(tmp_path / name)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match=r"empty.mp4 cannot be read as a video: it is empty"):
        VideoReader(tmp_path / "empty.mp4")


@pytest.mark.parametrize("name", ["notes.txt", "screen.ans"])
def test_text_is_no_video(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("hello\n" * 1000, "utf-8")
    with pytest.raises(VideoError, match=rf"{name} cannot be read as a video: it is text"):
        VideoReader(tmp_path / name)


def test_frames_that_would_take_all_memory_are_refused(tmp_path: Path) -> None:
    Image.new("1", (15_000, 15_000)).save(tmp_path / "a.png")
    with pytest.raises(VideoError, match="has frames of 15000 x 15000 pixels, which is too large"):
        VideoReader(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["ts", "avi", "flv", "mkv"])
def test_every_frame_of_a_truncated_file_is_read(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0)
    path = make_video(
        tmp_path / f"a.{suffix}", 60, size=SMALL, draw=lambda _, w, h: noise.integers(0, 255, (h, w, 3), dtype=np.uint8)
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10 | 1])
    with av.open(path) as file:
        whole = 0
        for packet in file.demux(video=0):
            with suppress(av.FFmpegError):
                whole += len(packet.decode())
    with VideoReader(path) as video:
        assert len(list(video)) == whole > 30
    assert "is not whole" in video.problem


def _jpeg() -> bytes:
    made = av.CodecContext.create("mjpeg", "w")
    assert isinstance(made, av.VideoCodecContext)
    made.width, made.height, made.pix_fmt, made.time_base = *SMALL, "yuvj420p", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture(0, *SMALL), "rgb24").reformat(format="yuvj420p")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*made.encode(frame), *made.encode(None)])


@needs_shared
@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("forty.ts", 40),
        ("cat_silent.ts", 40),
        ("cat_sound.ts", 40),
        ("gap_10h.ts", 40),
        ("outlier_future.ts", 40),
        ("outlier_past.ts", 40),
        ("wrap.ts", 40),
        ("h264_bframes.avi", 25),
        ("pcm_sound.mkv", 25),
        ("sound_first.mp4", 30),
        ("unknown_sound.mp4", 30),
        ("video_then_data.mp4", 25),
        ("video_then_data.ts", 25),
    ],
)
def test_former_failures_are_steady(name: str, frames: int) -> None:
    assert steady(SHARED / "cases/video" / name, frames)
