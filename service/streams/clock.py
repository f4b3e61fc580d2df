"""The capture time of frames, on a clock that the server can trust."""

from __future__ import annotations

import math

_MAX_DELAY = 5.0
"""Seconds from capture to arrival. If a frame seems to have taken longer, its client's clock was set back."""


class FrameClock:
    """Converts a client's timestamps to the server's clock. Its times never decrease.

    Capture times suit a tracker better than arrival times, which contain the network's jitter. But a client's clock may
    have any origin, may be set, and starts over when its page is reloaded. So only differences between timestamps are
    used: the offset is that of the frame with the shortest delay so far, and is determined again when a frame would be
    more than 5 s old.

    last: the time of the last frame of a resumed stream, NaN if there was none.
    """

    def __init__(self, last: float = math.nan) -> None:
        self._last = -math.inf if math.isnan(last) else last
        self._offset: float | None = None

    def convert(self, timestamp: float | None, arrived: float) -> float:
        """Return a frame's time in seconds. timestamp: of the client's clock; without one, the arrival time is used."""
        taken = arrived
        if timestamp is not None:
            if self._offset is not None and arrived - _MAX_DELAY <= timestamp + self._offset <= arrived:
                taken = timestamp + self._offset
            else:
                self._offset = arrived - timestamp  # adding it to a huge timestamp would not give `arrived` exactly
        self._last = max(taken, self._last)
        return self._last
