"""What happens to the tracked people of a stream: events at zones and lines and of rules, each with a number."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

MOST_NUMBERS = 10_000
"""The most numbers that are kept. Beyond it, those of the people with the lowest ids are dropped and start again."""


@dataclass(frozen=True, slots=True)
class TrackingEvent:
    """An event of kind `kind` at the zone, line or rule `name`.

    id: of the person, None for events of the whole frame. timestamp: of the frame in which it was detected, in seconds.
    number: the n-th event of this kind and name for this person in the session, from 1; 0 before `EventNumbers` has
    given it. direction: the side to which a line was crossed. seconds: length of the visit, for leave and dwell; until
    last seen for people who left while out of sight. values: what a rule adds.
    """

    kind: str
    name: str
    id: int | None
    timestamp: float
    number: int = 0
    direction: str | None = None
    seconds: float | None = None
    values: Mapping[str, float | str] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """The event as in a stream's results, without the members that do not apply to it."""
        seconds = None if self.seconds is None else round(self.seconds, 3)
        members = {"kind": self.kind, "name": self.name, "id": self.id, "direction": self.direction, "seconds": seconds}
        values = {name: round(value, 3) if isinstance(value, float) else value for name, value in self.values.items()}
        return {name: value for name, value in (members | values).items() if value is not None}


Numbers = Mapping[tuple[str, str], Mapping[int, int]]
"""For each kind and name, the last number of each person's events. The id of events without a person is 0."""


class EventNumbers:
    """Numbers the events of one stream.

    The numbers are part of the stream's state: a stream that is restored from an older state gives the same event the
    same number. They belong to names, so they also go on when zones or rules change.
    """

    def __init__(self) -> None:
        self._last: Numbers = {}

    def number(self, events: Iterable[TrackingEvent], known: Collection[int]) -> list[TrackingEvent]:
        """Return the events of one frame with their numbers.

        known: the ids of people who may have further events. The numbers of all others are dropped.
        """
        last = {key: dict(numbers) for key, numbers in self._last.items()}
        numbered = []
        for event in events:
            numbers = last.setdefault((event.kind, event.name), {})
            number = numbers[event.id or 0] = numbers.get(event.id or 0, 0) + 1
            numbered.append(replace(event, number=number))
        kept = {0, *known, *(event.id or 0 for event in numbered)}
        if sum(map(len, last.values())) > MOST_NUMBERS:
            ids = sorted(person for numbers in last.values() for person in numbers)
            kept &= {0, *ids[len(ids) - MOST_NUMBERS // 2 :]}
        last = {key: {who: n for who, n in numbers.items() if who in kept} for key, numbers in last.items()}
        self._last = {key: numbers for key, numbers in last.items() if numbers}
        return numbered

    def state(self) -> Numbers:
        """Return the state for `restore`. It does not change later."""
        return self._last

    def restore(self, state: Numbers) -> None:
        """Replace the numbers."""
        self._last = state
