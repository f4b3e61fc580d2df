"""People who are gone for longer than tracks are kept, or who have left the picture, so that they are known again.

A return needs clear evidence, because an id that is given to a stranger is worse than a new id. See evidence.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.poses import Floats
from service.tracking import colours, evidence
from service.tracking.similarity import areas, middles
from service.tracking.state import AbsentState, TrackState

_CLEAR = 2.0
"""Least evidence of a return, and by how much it must exceed the evidence for anybody else, absent or in sight."""
_SETTLED = 0.3
"""Seconds for which somebody must have been seen to be remembered; others may be mistakes of the detector."""
_GROWTH, _MOST_GROWTH = 0.35, 2.0
"""Spread of the logarithm of a person's size between leaving and returning, and the most that it counts against."""
_START, _WANDER = 1.0, 0.5
"""The spread of the place of a return in sizes of the person, and its growth per second."""
_PLACE = 1.0
"""The most that the place counts for or against a return."""


def remember(absent: AbsentState, tracks: TrackState, most: int) -> AbsentState:
    """Add people with known colours. Above `most` people, drop those who were unseen for the longest time."""
    known = (tracks.colours[..., 3] > 0).sum(axis=1) >= colours.LEAST
    tracks = tracks.select(known & (tracks.seen - tracks.born >= _SETTLED))
    if not len(tracks):
        return absent
    bytes_ = np.clip(np.round(tracks.colours * 255), 0, 255).astype(np.uint8)
    absent = AbsentState.join([absent, AbsentState(tracks.ids, tracks.born, tracks.seen, tracks.boxes, bytes_)])
    return absent.select(np.sort(np.argsort(-absent.seen, kind="stable")[:most]))


def recognise(
    absent: AbsentState, others: Floats, looks: Floats, boxes: Floats, now: float, size: tuple[int, int]
) -> NDArray[np.intp]:
    """Return the row (N,) of the absent person who has returned as each newcomer; -1 for strangers.

    others: (T, K, 4) colours of the people in sight. looks: (N, K, 4) colours of the newcomers. boxes: (N, 4).
    size: of the frame in pixels.
    """
    count, found = len(looks), np.full(len(looks), -1, np.intp)
    if not len(absent) or not count:
        return found
    known = np.concatenate([absent.colours.astype(np.float32) / 255, others])
    appearance = colours.Appearance(looks[..., :3], looks[..., 3] > 0)
    rows, columns = (part.ravel() for part in np.indices((len(known), count)))
    tint, contrast, worth = colours.differences(known, appearance, rows, columns)
    alike = evidence.appearance(tint, contrast, worth, evidence.FITTED).reshape(len(known), count)
    total = alike[: len(absent)] + _plausible(absent, boxes, now, size)
    for _ in range(count):
        row, column = np.unravel_index(int(total.argmax()), total.shape)
        if total[row, column] < _CLEAR:
            break
        rivals = np.concatenate([np.delete(total[:, column], row), np.delete(total[row], column)])
        rival = max(rivals.max(initial=-np.inf), alike[len(absent) :, column].max(initial=-np.inf))
        if total[row, column] - rival >= _CLEAR:
            found[column] = row
        total[row], total[:, column] = -np.inf, -np.inf
    return found


def _plausible(absent: AbsentState, boxes: Floats, now: float, size: tuple[int, int]) -> Floats:
    """The evidence (A, N) of the size and the place of returns."""
    then, there = areas(absent.boxes), areas(boxes)
    growth = np.abs(np.log(then[:, None] / there[None])) / 2 / _GROWTH
    gap = middles(absent.boxes)[:, None] - middles(boxes)[None]
    distance = (gap * gap).sum(axis=-1) / np.sqrt(then[:, None] * there[None])
    spread = np.square(_START + _WANDER * (now - absent.seen))[:, None]
    frame = max(size[0] * size[1], 1) / then[:, None]
    near = np.log(frame / (2 * np.pi * spread)) - distance / (2 * spread)
    value: Floats = np.clip(near, -_PLACE, _PLACE) + np.clip(0.5 - growth, -_MOST_GROWTH, 0.5)
    return value
