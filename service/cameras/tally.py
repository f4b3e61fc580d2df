"""What a camera has done: counts since the server knows it, and what they were per second of late."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_SAMPLES = 6
"""Taken once a second, so rates are those of the last five seconds."""


@dataclass(frozen=True, slots=True)
class _Sample:
    time: float
    decoded: int
    done: int
    ages: float


@dataclass(slots=True, eq=False)
class CameraTally:
    """decoded: frames that the source has given. done: frames with a result. failed: frames that had an error.

    damaged: packets that could not be decoded. lost: how often the source was lost after it was live. ages: of all
    results, seconds from a frame's arrival until its people were known, added up. fps_in, fps_done: decoded frames and
    results a second of late. age: the mean of late, None without a result.
    """

    decoded: int = 0
    damaged: int = 0
    done: int = 0
    failed: int = 0
    lost: int = 0
    ages: float = 0.0
    fps_in: float = 0.0
    fps_done: float = 0.0
    age: float | None = None
    _samples: deque[_Sample] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    @property
    def dropped(self) -> int:
        """Frames that were decoded, and not looked at."""
        return max(0, self.decoded - self.done - self.failed)

    def sample(self, now: float) -> None:
        """Work out the rates. now: monotonic seconds. Called once a second."""
        newest = _Sample(now, self.decoded, self.done, self.ages)
        self._samples.append(newest)
        oldest = self._samples[0]
        seconds, done = newest.time - oldest.time, newest.done - oldest.done
        if seconds > 0:
            self.fps_in = (newest.decoded - oldest.decoded) / seconds
            self.fps_done = done / seconds
        self.age = (newest.ages - oldest.ages) / done if done else None
