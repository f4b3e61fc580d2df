"""Correcting timestamps: the clock of a media file, rebased where it jumps, and the times of its frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar, cast

T = TypeVar("T")
N = TypeVar("N", Fraction, int)

JUMP_S = 10
"""`dts_delta_threshold` of the ffmpeg program: a larger step is a jump, in formats whose clock may jump."""
ERROR_S = 30 * 3600
"""`dts_error_threshold` of the ffmpeg program: a larger step is an error in any format."""
_BACK_S = Fraction(1, 10)
"""How far a decoding time may be before the preceding one."""
_NEAR_S = Fraction(1, 10)
"""A clock that returns this close to the expected time has not jumped permanently."""


class Pace:
    """The usual step between the times of a stream: the median of the latest few steps."""

    def __init__(self) -> None:
        self._steps: deque[Fraction | int] = deque(maxlen=5)

    def note(self, step: Fraction | int) -> None:
        """Add a step of a clock that did not jump."""
        self._steps.append(step)

    def step(self, otherwise: N) -> N:
        """The usual step, or `otherwise` before the first step."""
        return cast("N", sorted(self._steps)[len(self._steps) // 2]) if self._steps else otherwise


@dataclass(slots=True)
class _Clock:
    """The decoding times of one stream, in seconds.

    last: time of the last packet. next: when the following packet is due; None if it may come at any time.
    own: offset of this stream alone. left: when the next packet would be due if the last had not been late.
    """

    last: Fraction = Fraction(0)
    next: Fraction | None = None
    own: Fraction = Fraction(0)
    left: Fraction | None = None
    pace: Pace = field(default_factory=Pace)

    def advance(self, time: Fraction, duration: Fraction) -> None:
        if self.next is not None and 0 < time - self.last <= JUMP_S:
            self.pace.note(time - self.last)
        duration = self.pace.step(duration)
        late = self.next is not None and time - self.next > _NEAR_S
        self.left = self.next + duration if self.next is not None and late else None
        self.last, self.next = time, time + duration


@dataclass(slots=True)
class Timeline:
    """Computes the offset to add to the timestamps of each packet so that the file's clock runs steadily.

    Follows `ts_discontinuity_detect` of the ffmpeg program (fftools/ffmpeg_demux.c), with three differences. The video
    leads: if the clock jumps, frames follow each other without a gap, and the sound keeps its distance from them. A
    clock that runs backwards is rebased in every format, so that concatenated files of any format play on. A clock that
    returns after a single wrong timestamp gets its former offset back.

    jumps: True if the clock of this format may jump (AVFMT_TS_DISCONT). own: for sound streams with a clock of their
    own, the seconds to add, by stream index.
    """

    jumps: bool
    own: dict[int, Fraction] = field(default_factory=dict)
    _offset: Fraction = Fraction(0)
    _former: Fraction = Fraction(0)
    _video: _Clock = field(default_factory=_Clock)
    _sounds: dict[int, _Clock] = field(default_factory=dict)
    _pending: bool = False

    def video(self, dts: Fraction, duration: Fraction) -> Fraction:
        """Return the seconds to add to the timestamps of a packet of the video."""
        clock = self._video
        if clock.next is not None and (self._pending or self._broken(clock, dts + self._offset)):
            self._rebase(clock.next, dts)
            for sound in self._sounds.values():
                sound.next = None
        self._pending = False
        clock.advance(dts + self._offset, duration)
        return self._offset

    def sound(self, index: int, dts: Fraction, duration: Fraction) -> Fraction:
        """Return the seconds to add to the timestamps of a packet of a sound stream."""
        clock = self._sounds.setdefault(index, _Clock(own=self.own.get(index, Fraction(0))))
        time = dts + self._offset + clock.own
        if clock.next is None:
            far = self._video.next is not None and abs(time - self._video.last) > JUMP_S
            if far and self.jumps and not self._pending:
                clock.own += self._video.last - time
        elif self._broken(clock, time):
            self._rebase(clock.next, dts + clock.own)
            self._pending = True  # the video's next packet tells whether the file's clock has jumped, and by how much
        clock.advance(dts + self._offset + clock.own, duration)
        return self._offset + clock.own

    def _broken(self, clock: _Clock, time: Fraction) -> bool:
        assert clock.next is not None  # noqa: S101 - tells the type checker
        if time + _BACK_S < clock.last:
            return clock.left is None or abs(time - clock.left) > _NEAR_S
        if abs(time - clock.next) > (JUMP_S if self.jumps else ERROR_S):
            return True
        formerly = time - self._offset + self._former
        return time - clock.next > _NEAR_S and self._former != self._offset and abs(formerly - clock.next) < _NEAR_S

    def _rebase(self, due: Fraction, dts: Fraction) -> None:
        """Set the offset so that a packet with `dts` comes at `due`."""
        if abs(dts + self._former - due) < _NEAR_S and self._former != self._offset:
            self._offset = self._former
        else:
            self._former, self._offset = self._offset, due - dts


@dataclass(slots=True)
class Guess:
    """Computes the presentation time of decoded frames from the timestamps that are valid.

    As `guess_correct_pts` of libavcodec, except for frames without any pts. A decoder returns a frame when a later
    packet arrives and gives it that packet's dts, so all such frames are late by the same time.
    first: the dts of the first packet, if it has one.
    """

    first: int | None = None
    _lag: int | None = None
    _bad_pts: int = 0
    _bad_dts: int = 0
    _last_pts: int | None = None
    _last_dts: int | None = None

    def time(self, pts: int | None, dts: int | None) -> int | None:
        """Return the time of a frame with these timestamps, or None if neither can be used."""
        if self._lag is None:
            self._lag = dts - self.first if pts is None and dts is not None and self.first is not None else 0
        if dts is not None:
            dts -= self._lag
            self._bad_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._bad_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        return pts if pts is not None and (self._bad_pts <= self._bad_dts or dts is None) else dts


def steady(frames: Iterable[tuple[T, int | None, int]]) -> Iterator[tuple[T, int]]:
    """Give each frame a time in ticks that is later than the frame before.

    frames: each frame with its time, or None, and its duration. A time that is not between those of the neighbouring
    frames is replaced by the time at which the frame was due.
    """
    waiting = iter(frames)
    ahead = next(waiting, None)
    pace = Pace()
    last, due = None, 0
    while ahead is not None:
        frame, time, duration = ahead
        ahead = next(waiting, None)
        after = None if ahead is None else ahead[1]
        step = max(1, pace.step(duration))
        if time is None or (last is not None and _wrong(time, last, due, after, step)):
            room = last is not None and after is not None and after > last + 1
            time = min(due, (last + after) // 2) if room else due  # type: ignore[operator]
        elif last is not None:
            pace.note(time - last)
        yield frame, time
        last, due = time, time + step


def _wrong(time: int, last: int, due: int, after: int | None, step: int) -> bool:
    if time <= last:
        return True
    back = after is not None and last < after < time  # one of the two is wrong: the one further from its due time
    return back and abs(after - due - step) < abs(time - due)  # type: ignore[operator]
