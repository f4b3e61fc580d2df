"""When the detector of a stream or a video runs. In between, people are estimated in the boxes the tracker predicts."""

from __future__ import annotations

from dataclasses import dataclass

from service.tracking.tracker import PoseTracker

DetectEvery = float | None
"""Seconds between two runs of the detector, 0 for every frame; None decides by itself."""

_TURN, _SOON = 4.0, 2.0
"""How many times as long as it takes the detector waits for its next run: usually, and while somebody needs it."""
_LONGEST_S = 0.5
"""New people are found after this time at the latest."""
_ROUNDING_S = 1e-4
"""How early the detector may run. Frame times are rounded, so a frame can seem to come slightly too soon."""


@dataclass(frozen=True, slots=True)
class Attention:
    """What the tracker wants of the detector. lost: see `PoseTracker.unsettled`. new: see `PoseTracker.newcomers`."""

    lost: bool = True
    new: bool = False

    @staticmethod
    def of(tracker: PoseTracker) -> Attention:
        return Attention(tracker.unsettled, tracker.newcomers)


def detector_is_due(every: DetectEvery, passed: float, attention: Attention, cost: float) -> bool:
    """Return True if the detector runs on this frame.

    passed: seconds since the frame of its last run, infinite before the first. cost: seconds that a run takes now, with
    its wait in the queue.

    every: if a number, the detector runs at this interval, and on the next frame if somebody was lost. If None, it runs

    - after four times its cost, so that it takes a quarter of the stream's time at most: on every frame where that is
      fast, and more rarely the slower it is and the more others use the network;
    - after twice its cost while somebody is lost, unsure or new, as a confirmation needs several looks;
    - after half a second in any case.
    """
    if every is not None:
        wait = 0.0 if attention.lost else every
    else:
        wait = min((_SOON if attention.lost or attention.new else _TURN) * cost, _LONGEST_S)
    return passed >= wait - _ROUNDING_S
