"""How far predictions can be trusted, learnt from the deadlines that were missed in spite of them."""

from __future__ import annotations

_FIRST = 1.5
_LEAST = 1.25
_MOST = 4.0
_UP = 1.1
_DOWN = _UP ** (-1 / 300)
"""One batch with a miss outweighs 300 without: the margin settles where about that share is late."""


class SafetyMargin:
    """The factor by which a result may come later than predicted and still be in time.

    Predictions know nothing of the requests yet to come, which take turns with those that wait, nor of a machine that
    stalls. The factor rises where accepted work is late and sinks slowly where work with little time to spare is not;
    work with time to spare would say nothing about it. Several misses in a row count once, as one stall delays all
    that waits.
    """

    def __init__(self) -> None:
        self.factor = _FIRST
        self._missed = False

    def miss(self) -> None:
        """Work that should have been in time was not."""
        self._missed = True

    def learn(self) -> None:
        """Work with little time to spare has run: take what happened since the last such into account."""
        self.factor = min(max(self.factor * (_UP if self._missed else _DOWN), _LEAST), _MOST)
        self._missed = False
