"""What the trackers of several streams share: the people who are absent, and the numbers that are left for new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from service.tracking.state import AbsentState


@dataclass(slots=True)
class IdBlocks:
    """Ids that no other tracker of a group gives. blocks: (first, end) in ascending order."""

    blocks: list[tuple[int, int]] = field(default_factory=list)

    def add(self, first: int, end: int) -> None:
        self.blocks.append((first, end))

    def spare(self, next_id: int) -> int:
        """How many ids from `next_id` on are left."""
        return sum(max(0, end - max(first, next_id)) for first, end in self.blocks)

    def take(self, next_id: int) -> int | None:
        """Return the next id to give, at least `next_id`; None if there is none."""
        while self.blocks and self.blocks[0][1] <= next_id:
            del self.blocks[0]
        return max(next_id, self.blocks[0][0]) if self.blocks else None


@dataclass(frozen=True, slots=True, eq=False)
class AbsenceChange:
    """What an update has changed. left: people who are absent now, with boxes. back: ids of those who have returned."""

    left: AbsentState
    back: Sequence[int]


def shared_with(own: AbsentState, shared: AbsentState, in_sight: Sequence[int]) -> AbsentState:
    """Return the people whom a tracker remembers after it was told who is absent.

    own: whom it remembers: their boxes are known, and kept. shared: everybody absent, with boxes of zeros.
    in_sight: ids of people whom the tracker follows.
    """
    kept = own.select(np.isin(own.ids, shared.ids))
    return AbsentState.join([kept, shared.select(~np.isin(shared.ids, [*kept.ids.tolist(), *in_sight]))])
