"""When a frame was taken, on a clock that the server can trust."""

from __future__ import annotations

import math

_LATEST = 5.0
"""Seconds that a frame may be on its way before its client's clock is taken to have been set back."""


class FrameClock:
    """Places a client's timestamps on the server's clock, on which time never runs backwards.

    Capture times are better for a tracker than arrivals, which bear the network's jitter; but a client's clock has any
    origin, may be set, and starts anew when its page is loaded again. So only differences count: the offset is that of
    the frame that was quickest on its way, and is found anew where a frame would be older than 5 s.

    last: the time of the last frame, for a stream that is resumed; NaN where there was none.
    """

    def __init__(self, last: float = math.nan) -> None:
        self._last = -math.inf if math.isnan(last) else last
        self._offset: float | None = None

    def place(self, stamp: float | None, arrived: float) -> float:
        """The time of a frame in seconds: of `stamp` on the client's clock, or its arrival where it has none."""
        taken = arrived
        if stamp is not None:
            if self._offset is not None and arrived - _LATEST <= stamp + self._offset <= arrived:
                taken = stamp + self._offset
            else:
                self._offset = arrived - stamp  # a sum with huge stamps would not give `arrived` back
        self._last = max(taken, self._last)
        return self._last
