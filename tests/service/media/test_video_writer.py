"""Written videos are read with the same times, colours and sound."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from service.media.video_reader import VideoError, VideoFrame, VideoReader
from service.media.video_writer import VIDEO_SUFFIXES, VideoWriter
from tests.service.media.videos import make_frames, make_video, set_display_matrix, shade, shift_clock


def copy(source: Path, target: Path) -> None:
    with VideoReader(source) as video, VideoWriter(target, target.suffix, video.info, source) as out:
        for picture in video:
            out.write(picture.pixels, picture.pts)


def pictures(path: Path) -> list[VideoFrame]:
    with VideoReader(path) as video:
        return list(video)


def sound(path: Path) -> list[bytes]:
    with av.open(path) as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.dts is not None]


def heard_seconds(path: Path) -> float:
    with av.open(path) as file:
        return sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_frames_keep_their_times_and_their_colours(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / "a.mp4", 12)
    copy(source, tmp_path / f"b{suffix}")
    before, after = pictures(source), pictures(tmp_path / f"b{suffix}")
    assert [p.seconds for p in after] == pytest.approx([p.seconds for p in before], abs=1e-3)
    for a, b in zip(before, after, strict=True):
        assert np.abs(a.pixels.astype(int) - b.pixels).mean() < 6


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_frame_rate_is_kept(tmp_path: Path, suffix: str) -> None:
    times = [0, 20, 70, 71, 200, 1000, 5000]
    source = make_video(tmp_path / "a.mkv", times=times, tick=Fraction(1, 1000))
    copy(source, tmp_path / f"b{suffix}")
    assert [p.seconds for p in pictures(tmp_path / f"b{suffix}")] == pytest.approx([t / 1000 for t in times])


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_sound_is_copied_unchanged(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / "a.mp4", 50, sound="aac")
    copy(source, tmp_path / f"b{suffix}")
    assert sound(tmp_path / f"b{suffix}") == sound(source)


@pytest.mark.parametrize(
    ("source", "codec", "target"),
    [("a.mp4", "aac", "b.webm"), ("a.avi", "adpcm_ima_wav", "b.mp4"), ("a.mkv", "pcm_s16le", "b.webm")],
)
def test_sound_that_the_file_cannot_hold_is_re_encoded(tmp_path: Path, source: str, codec: str, target: str) -> None:
    copy(make_video(tmp_path / source, 50, sound=codec), tmp_path / target)
    assert heard_seconds(tmp_path / target) == pytest.approx(2.0, abs=0.1)


def test_sound_and_frames_stay_in_sync_if_the_video_starts_late(tmp_path: Path) -> None:
    def sound_after_picture(path: Path) -> float:
        with av.open(path) as file:
            begins = {
                s.type: s.start_time * s.time_base for s in file.streams if s.time_base and s.start_time is not None
            }
        return float(begins["audio"] - begins["video"])

    source = make_video(tmp_path / "a.ts", times=range(250, 300), sound="mp2")
    copy(source, tmp_path / "b.mp4")
    assert sound_after_picture(tmp_path / "b.mp4") == pytest.approx(sound_after_picture(source), abs=0.05)


def test_frames_are_written_upright(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", 3)
    set_display_matrix(source, 0, 1, -1, 0)
    copy(source, tmp_path / "b.mp4")
    with av.open(tmp_path / "b.mp4") as file:
        frame = next(file.decode(video=0))
    assert (frame.width, frame.height, frame.rotation) == (120, 160, 0)


def test_odd_sizes_lose_their_last_row_or_column(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 3, size=(101, 75), codec="ffv1")
    copy(source, tmp_path / "b.mp4")
    (first, *_) = pictures(tmp_path / "b.mp4")
    assert first.pixels.shape == (74, 100, 3)
    assert first.pixels[-10, -10] == pytest.approx([shade(0)] * 3, abs=5)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 2)])
def test_a_single_row_or_column_is_doubled(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    source = make_frames(tmp_path / "a.mov", "png", "rgb24", size)
    copy(source, tmp_path / f"b{suffix}")
    assert {p.pixels.shape for p in pictures(tmp_path / f"b{suffix}")} == {(max(2, size[1]), 2, 3)}


def test_frames_that_the_encoder_refuses_are_named(tmp_path: Path) -> None:
    source = make_frames(tmp_path / "a.mov", "png", "rgb24", (20_000, 4), frames=1)
    with pytest.raises(VideoError, match=r"does not take frames of 20000 x 4 pixels; write to a .webm file"):
        copy(source, tmp_path / "b.mp4")
    copy(source, tmp_path / "b.webm")


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "http:x.mp4", "file:x.mp4", "-x.mp4", "%03d.mp4", os.fsdecode(b"\xe9.mp4")]
)
def test_names_have_no_special_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    source = make_video(tmp_path / "a.mp4", 3)
    copy(source, Path(name))
    assert len(pictures(Path(name))) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_step_of_hours_between_frames_is_kept(tmp_path: Path, suffix: str) -> None:
    times = [0, 2000, 36_000 * 50_000, 36_000 * 50_000 + 2000]
    source = make_video(tmp_path / "a.nut", times=times, tick=Fraction(1, 50_000), codec="mpeg4", rate=25)
    copy(source, tmp_path / f"b{suffix}")
    found = [p.seconds for p in pictures(tmp_path / f"b{suffix}")]
    assert found == pytest.approx([0, 0.04, 36_000, 36_000.04], abs=2e-3)


def test_the_written_clock_starts_at_0(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.ts", 30, sound="aac")
    shift_clock(source, lambda *_: (1 << 33) / 90_000 - 1.9)  # the source's clock wraps
    copy(source, tmp_path / "b.mp4")
    with av.open(tmp_path / "b.mp4") as file:
        assert file.start_time == 0
        assert float(file.duration or 0) / av.time_base == pytest.approx(1.2, abs=0.1)


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", 30, sound="aac")
    for name in ("b.mp4", "c.mp4"):
        copy(source, tmp_path / name)
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", 3)
    with pytest.raises(VideoError, match=r"cannot write .*nowhere/b.mp4: No such file or directory"):
        copy(source, tmp_path / "nowhere" / "b.mp4")
