"""What a stream remembers from frame to frame: who is where, who is in which zone, and how far smoothing is."""

from __future__ import annotations

from dataclasses import dataclass

from service.streams.protocol import Hello
from service.tracking import TrackerState
from service.tracking.smoothing import SmoothingState
from service.tracking.zones import ZonesState

MOST_IDS = 2**32 - 1
"""The largest id that a resume token can name; a stream that has given more goes on, but is not resumed."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Enough to go on with a stream elsewhere. places: names the zones and lines that `zones` is about.

    smoothing: None where nobody is smoothed.
    """

    tracker: TrackerState
    zones: ZonesState
    places: str = ""
    smoothing: SmoothingState | None = None

    def fits(self, hello: Hello) -> bool:
        """Whether what is remembered of zones and lines can be used: it names others, or is of as many as `hello`."""
        wanted = len(hello.zones), len(hello.lines)
        return self.places != hello.places or all(
            (len(person.visits), len(person.places)) == wanted for person in self.zones.present
        )
