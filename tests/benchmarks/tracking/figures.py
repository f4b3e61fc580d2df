"""What is measured of a tracker: IDF1, HOTA, CLEAR MOT, ids given to strangers and returns recognised."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from service.evaluation import ClearMot, Hota, Identity, clear_mot, hota, identity
from tests.benchmarks.report import Row
from tests.benchmarks.tracking.regimes import Video
from tests.benchmarks.tracking.sequences import ALIKE

_MATCHED = 5
"""Frames of the whole sequence for which two people have an id before it counts as given to a stranger."""
_AWAY = 0.5
"""Seconds without a pose after which somebody who is seen again has returned. Between frames that are further apart, a
missed frame is not enough either."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Sums over videos. strangers: ids given to a further person, once per id and person. returns: how often somebody
    was seen again; `recognised` of them got their id of before, `mistaken` an id that somebody else had before.
    seconds: processor time. frames: number of frames.
    """

    identity: Identity = field(default_factory=Identity)
    hota: Hota = field(default_factory=lambda: hota([]))
    clear: ClearMot = field(default_factory=ClearMot)
    strangers: int = 0
    returns: int = 0
    recognised: int = 0
    mistaken: int = 0
    seconds: float = 0.0
    frames: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def row(self) -> Row:
        """The figures as columns of a table, in percent where they are shares."""
        return {
            "IDF1": round(100 * self.identity.idf1, 1),
            "HOTA": round(100 * self.hota.hota, 1),
            "MOTA": round(100 * self.clear.mota, 1),
            "switches": self.clear.switches,
            "strangers": self.strangers,
            "returns": f"{self.recognised}/{self.returns}",
            "mistaken": self.mistaken,
            "ms a frame": round(1e3 * self.seconds / max(1, self.frames), 2),
        }


def figures(video: Video, ids: list[NDArray[np.int64]], seconds: float) -> Figures:
    """Measure the ids of one video's poses."""
    compared = [video.compare(ids)]
    seen = video.seen(ids)
    away = max(_AWAY, 1.5 / video.fps)
    returns = list(_returns(seen, video.times, away))
    return Figures(
        identity(compared, ALIKE),
        hota(compared),
        clear_mot(compared, ALIKE),
        _strangers(list(seen.values()), max(2, math.ceil(_MATCHED / video.step))),
        len(returns),
        sum(before == after >= 0 for _, _, before, after in returns),
        sum(before != after and _owned_by_another(seen, after, person, n) for person, n, before, after in returns),
        seconds,
        len(video),
    )


def _strangers(seen: list[list[tuple[int, int]]], least: int) -> int:
    """How often an id belonged to a person and then to another, each for at least `least` frames."""
    counts = [Counter(number for _, number in there if number >= 0) for there in seen]
    owners = Counter(number for count in counts for number, frames in count.items() if frames >= least)
    return sum(people - 1 for people in owners.values())


def _returns(
    seen: Mapping[int, list[tuple[int, int]]], times: NDArray[np.float64], away: float
) -> Iterator[tuple[int, int, int, int]]:
    """Each return: the person, the frame, the last id from before and the first id after it; -1 for none."""
    for person, there in seen.items():
        last, known, waiting, back = -math.inf, -1, False, 0
        for n, number in there:
            if times[n] - last >= away and last > -math.inf:
                if waiting:
                    yield person, back, known, -1
                waiting, back = True, n
            last = times[n]
            if number >= 0:
                if waiting:
                    yield person, back, known, number
                known, waiting = number, False
        if waiting:
            yield person, back, known, -1


def _owned_by_another(seen: Mapping[int, list[tuple[int, int]]], number: int, person: int, before: int) -> bool:
    return number >= 0 and any(
        (given == number and n < before) for other, there in seen.items() if other != person for n, given in there
    )
