"""What rules say about the people of one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles
from service.rules.posture import POSTURES


@dataclass(frozen=True, slots=True, eq=False)
class BodyResults:
    """What rules say about N people; None for what was not asked for.

    angles: (N, A) degrees, NaN if unknown; angles_3d: the same in space, from models that give metres. names: of the A
    angles. postures: (N,) places in POSTURES, -1 if unknown, with confidences (N,) in 0..1. speeds: (N,) m/s, NaN if
    unknown. repetitions: (N, R) counts, -1 for people without an id. exercises: the names of the R repetitions.
    occupancy: the number of people in each zone. counts: of each zone and line, by what was counted.
    """

    names: tuple[str, ...] = ()
    angles: Doubles | None = None
    angles_3d: Doubles | None = None
    postures: NDArray[np.int64] | None = None
    confidences: Doubles | None = None
    speeds: Doubles | None = None
    exercises: tuple[str, ...] = ()
    repetitions: NDArray[np.int64] | None = None
    occupancy: Mapping[str, int] | None = None
    counts: Mapping[str, Mapping[str, int]] | None = field(default=None)

    def select(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> BodyResults:
        """The results of the people at `index`, in its order."""
        members = ("angles", "angles_3d", "postures", "confidences", "speeds", "repetitions")
        chosen = {name: values[index] for name in members if (values := getattr(self, name)) is not None}
        return replace(self, **chosen)

    def people_documents(self, count: int) -> list[dict[str, object]]:
        """The members of `count` people in a stream's results. What is not known is left out."""
        people: list[dict[str, object]] = [{} for _ in range(count)]
        for name, values in (("angles", self.angles), ("angles_3d", self.angles_3d)):
            if values is not None:
                for person, row in zip(people, values.round(1).tolist(), strict=True):
                    person[name] = {
                        angle: degrees for angle, degrees in zip(self.names, row, strict=True) if degrees == degrees
                    }
        if self.postures is not None and self.confidences is not None:
            found = zip(people, self.postures.tolist(), self.confidences.round(2).tolist(), strict=True)
            for person, posture, confidence in found:
                if posture >= 0:
                    person["posture"] = {"name": POSTURES[posture], "confidence": confidence}
        if self.speeds is not None:
            for person, speed in zip(people, self.speeds.round(2).tolist(), strict=True):
                if speed == speed:
                    person["speed"] = speed
        if self.repetitions is not None:
            for person, row in zip(people, self.repetitions.tolist(), strict=True):
                person["repetitions"] = {name: n for name, n in zip(self.exercises, row, strict=True) if n >= 0}
        return people

    def frame_document(self) -> dict[str, Any]:
        """The members of a frame in a stream's results."""
        members = {"occupancy": self.occupancy, "counts": self.counts}
        return {name: value for name, value in members.items() if value is not None}
