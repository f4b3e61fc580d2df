"""The sound of a video is copied, re-encoded, or left out with a message. It never stops the video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from service.media.video_reader import VideoReader
from service.media.video_writer import VideoWriter
from tests.service.media.videos import HERTZ, join, make_video, picture, shift_clock
from tests.shared import SHARED, needs_shared

SMALL = (64, 48)


def copy(source: Path, target: Path) -> list[str]:
    """The messages about the sound, after checking that all frames are there."""
    with VideoReader(source) as video, VideoWriter(target, target.suffix, video.info, source) as out:
        before = []
        for frame in video:
            out.write(frame.pixels, frame.pts)
            before.append(frame.seconds)
    with VideoReader(target) as video:
        after = [picture.seconds for picture in video]
    assert after == pytest.approx(before, abs=2e-3)
    return out.notes


def heard(path: Path) -> tuple[str, float]:
    """The codec of the sound and its length in seconds."""
    with av.open(path) as file:
        length = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))
        return file.streams.audio[0].codec_context.name, length


def make_parts(path: Path, parts: list[tuple[str, int]]) -> Path:
    """A Matroska file whose uncompressed sound changes: one second of each channel layout and rate."""
    with av.open(path, "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = *SMALL, "yuv420p"
        tone = out.add_stream("pcm_s16le", rate=parts[0][1])
        assert isinstance(tone, av.AudioStream)
        tone.layout = parts[0][0]
        for number in range(25 * len(parts)):
            frame = av.VideoFrame.from_ndarray(picture(number, *SMALL), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for second, (layout, rate) in enumerate(parts):
            channels = av.AudioLayout(layout).nb_channels
            sound = av.AudioFrame.from_ndarray(np.zeros((1, rate * channels), np.int16), "s16", layout)
            sound.sample_rate, sound.pts, sound.time_base = rate, second * rate, Fraction(1, rate)
            out.mux(tone.encode(sound))
        out.mux(tone.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "sound", "target", "becomes"),
    [
        ("mkv", "pcm_s16le", "mp4", "aac"),  # channels without a known layout, which MP4 refuses at its end
        ("mkv", "pcm_f32le", "webm", "opus"),
        ("avi", "mp2", "mp4", "mp3"),
        ("mkv", "libopus", "mp4", "opus"),
        ("mkv", "flac", "mov", "aac"),
        ("ts", "aac", "mkv", "aac"),
        ("ts", "ac3", "webm", "opus"),
        ("mkv", "libmp3lame", "webm", "opus"),
    ],
)
def test_sound_that_the_container_refuses_is_re_encoded(
    tmp_path: Path, suffix: str, sound: str, target: str, becomes: str
) -> None:
    source = make_video(tmp_path / f"a.{suffix}", 25, size=SMALL, sound=sound)
    if sound == "pcm_s16le":
        source = make_parts(tmp_path / "b.mkv", [("stereo", HERTZ)])
    assert copy(source, tmp_path / f"out.{target}") == []
    codec, seconds = heard(tmp_path / f"out.{target}")
    assert codec.startswith(becomes)
    assert seconds == pytest.approx(1.0, abs=0.1)


def test_sound_of_an_unknown_codec_is_left_out_with_a_message(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", 25, size=SMALL, sound="aac")
    source.write_bytes(source.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"zsds"))
    assert copy(source, tmp_path / "b.mp4") == ["sound tracks of an unsupported codec were left out: 1"]


@pytest.mark.parametrize("target", ["mp4", "webm"])
def test_sound_of_concatenated_files_stays_in_sync(tmp_path: Path, target: str) -> None:
    one = make_video(tmp_path / "one.ts", 50, size=SMALL, sound="aac")
    out = tmp_path / f"out.{target}"
    assert copy(join(tmp_path / "joined.ts", one, one), out) == []
    assert heard(out)[1] == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize("target", ["mp4", "webm"])
def test_a_jump_of_the_sounds_clock_alone_is_no_error(tmp_path: Path, target: str) -> None:
    source = make_video(tmp_path / "a.ts", 50, size=SMALL, sound="mp2")
    shift_clock(source, lambda n, _: 5000 if n % 7 == 3 else 0)
    assert copy(source, tmp_path / f"out.{target}") == []
    assert heard(tmp_path / f"out.{target}")[1] == pytest.approx(2.0, abs=0.3)


def test_sound_that_starts_later_keeps_its_time(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    with av.open(source, "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = *SMALL, "yuv420p"
        tone = out.add_stream("aac", rate=HERTZ)
        assert isinstance(tone, av.AudioStream)
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(picture(number, *SMALL), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, HERTZ), np.int16), "s16", "mono")
        sound.sample_rate, sound.pts, sound.time_base = HERTZ, 3 * HERTZ, Fraction(1, HERTZ)
        out.mux(tone.encode(sound))
        out.mux(tone.encode(None))
        out.mux(video.encode(None))
    for suffix in ("mp4", "webm"):
        assert copy(source, tmp_path / f"b.{suffix}") == []
        with av.open(tmp_path / f"b.{suffix}") as file:
            first = next(file.decode(audio=0))
        assert first.time == pytest.approx(3.0, abs=0.1)


def test_damaged_sound_is_left_out_and_all_frames_are_kept(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 50, size=SMALL, sound="aac", codec="mpeg4")
    data = bytearray(source.read_bytes())
    with av.open(source) as file:
        places = [(p.pos, p.size) for p in file.demux(audio=0) if p.pos is not None and p.size > 20]
    for place, size in places[10:20]:
        data[place + 10 : place + size] = bytes(size - 10)
    source.write_bytes(data)
    for suffix in ("mp4", "webm"):
        copy(source, tmp_path / f"b.{suffix}")


@needs_shared
@pytest.mark.parametrize(
    ("name", "sound"),
    [
        ("cat_sound.ts", 1.6),
        ("h264_bframes.avi", 1.0),
        ("pcm_sound.mkv", 1.0),
        ("sound_first.mp4", 1.2),
        ("video_then_data.mp4", 1.0),
        ("video_then_data.ts", 1.0),
    ],
)
def test_former_failures_keep_their_sound(tmp_path: Path, name: str, sound: float) -> None:
    assert copy(SHARED / "cases/video" / name, tmp_path / "out.mp4") == []
    assert heard(tmp_path / "out.mp4")[1] == pytest.approx(sound, abs=0.1)


@needs_shared
def test_a_former_failure_loses_its_unknown_sound_with_a_message(tmp_path: Path) -> None:
    notes = copy(SHARED / "cases/video/unknown_sound.mp4", tmp_path / "out.mp4")
    assert notes == ["sound tracks of an unsupported codec were left out: 1"]
