"""Small test videos: each frame has its own colour, optionally with a tone."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream

from engines.poses import Frame

HERTZ = 48_000


def shade(number: int) -> int:
    """The grey of frame `number`, which differs clearly from its neighbours'."""
    return 40 + 25 * (number % 8)


def picture(number: int, width: int = 160, height: int = 120) -> Frame:
    """Grey, but red in the upper left quarter, so that rotation and mirroring are visible."""
    pixels = np.full((height, width, 3), shade(number), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 30, 30)
    return pixels


def make_video(
    path: Path,
    frames: int = 12,
    *,
    size: tuple[int, int] = (160, 120),
    times: Sequence[int] | None = None,
    tick: Fraction = Fraction(1, 25),
    rate: int | None = None,
    sound: str = "",
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    draw: Callable[[int, int, int], Frame] = picture,
) -> Path:
    """A video of `frames` frames of an even `size`. times: of the frames in ticks, 0, 1, 2 and so on if not given.

    rate: frames a second that the file says it has; one for each tick if not given.
    sound: the codec of a tone as long as the video; none for "". options: of the container. draw: makes a frame of its
    number, width and height.
    """
    times = range(frames) if times is None else times
    with av.open(path, "w", options=options or {}) as out:
        stream = out.add_stream(codec, rate=rate or round(1 / tick), options={"g": "5"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = tick
        tone = out.add_stream(sound, rate=HERTZ) if sound else None
        out.start_encoding()
        heard = int(next(iter(times), 0) * tick * HERTZ)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw(number, *size), "rgb24")
            frame.pts, frame.time_base = time, tick
            out.mux(stream.encode(frame))
            if isinstance(tone, AudioStream):
                heard = _sing(out, tone, heard, int((time + 1) * tick * HERTZ))
        out.mux(stream.encode(None))
        if isinstance(tone, AudioStream):
            out.mux(tone.encode(None))
    return path


def make_frames(path: Path, codec: str, pixel_format: str, size: tuple[int, int], frames: int = 3) -> Path:
    """Create a video without sound, of any size that the codec supports."""
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24").reformat(format=pixel_format)
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def make_song(path: Path, *, cover: bool = False) -> Path:
    """Create a second of sound without a video, optionally with a cover picture."""
    with av.open(path, "w", format="mp4") as out:
        tone = out.add_stream("aac", rate=HERTZ)
        assert isinstance(tone, AudioStream)
        if cover:
            image = out.add_stream("mjpeg", rate=1)
            assert isinstance(image, av.VideoStream)
            image.width, image.height, image.pix_fmt = 160, 120, "yuvj420p"
            image.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(picture(0), "rgb24")
            frame.pts, frame.time_base = 0, Fraction(1)
            out.mux(image.encode(frame))
        _sing(out, tone, 0, HERTZ)
        out.mux(tone.encode(None))
    return path


def _sing(out: av.container.OutputContainer, tone: AudioStream, start: int, end: int) -> int:
    wave = np.sin(np.arange(start, end) * (440 * 2 * np.pi / HERTZ))
    frame = av.AudioFrame.from_ndarray((wave * 8000).astype(np.int16)[None], "s16", "mono")
    frame.sample_rate, frame.pts, frame.time_base = HERTZ, start, Fraction(1, HERTZ)
    out.mux(tone.encode(frame))
    return end


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Set the display matrix of the mp4 file `path`, in place: (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    track = data.index(b"tkhd") + 4
    assert data[track] == 0, "only version 0 is known here"
    place = track + 40
    one = 1 << 16
    struct.pack_into(">9i", data, place, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def shift_clock(path: Path, shift: Callable[[int, float], float]) -> None:
    """Change the timestamps of the MPEG-TS file `path` in place.

    shift: gives what to add, in seconds, to those of the frame or piece of sound of a number (counted over all streams,
    in the file's order) and a time in seconds.
    """
    data = bytearray(path.read_bytes())
    number = 0
    for packet in range(0, len(data), 188):
        if not data[packet + 1] & 0x40:
            continue  # no packet begins in it
        place = packet + 4 + (1 + data[packet + 4] if data[packet + 3] & 0x20 else 0)
        if data[place : place + 3] != b"\0\0\1":
            continue  # a table
        stamps = data[place + 7] >> 6
        for at in (place + 9, place + 14)[: {0: 0, 2: 1, 3: 2}[stamps]]:
            ticks = _read_stamp(bytes(data[at : at + 5]))
            moved = ticks + round(shift(number, ticks / 90_000) * 90_000)
            data[at : at + 5] = _stamp(data[at] >> 4, moved % (1 << 33))
        number += 1
    path.write_bytes(data)


def _read_stamp(data: bytes) -> int:
    return (data[0] >> 1 & 7) << 30 | data[1] << 22 | data[2] >> 1 << 15 | data[3] << 7 | data[4] >> 1


def _stamp(kind: int, ticks: int) -> bytes:
    parts = kind << 4 | ticks >> 30 << 1 | 1, (ticks >> 15 & 0x7FFF) << 1 | 1, (ticks & 0x7FFF) << 1 | 1
    return struct.pack(">BHH", *parts)


def join(path: Path, *parts: Path) -> Path:
    """Concatenate files as `cat` does."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path
