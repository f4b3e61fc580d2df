"""What happened, as it is kept in the journal and sent to sinks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

KEYPOINTS = frozenset(("keypoints", "skeleton"))
"""Members of an event's data that only some sinks get."""
DROPPED = "posewire.dropped"
"""The kind of the event that tells a sink what it has lost."""
_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event.

    id: the same on every try and on every replica. source: "cameras/NAME" or "streams/SESSION". time: of the frame,
    seconds since 1970. data: as JSON can have it; never a picture.
    """

    id: str
    source: str
    time: float
    kind: str
    data: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """The event as JSON in files, in Redis, by MQTT and from `posewire events tail`."""
        return {"id": self.id, "source": self.source, "time": iso(self.time), "kind": self.kind, "data": self.data}


def event_id(*parts: object) -> str:
    """Return the id of an event from what identifies it: 32 hexadecimal digits, the same for equal parts."""
    text = "\0".join(map(str, parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_ID_BYTES).hexdigest()


def iso(time: float) -> str:
    """Seconds since 1970 as RFC 3339, with milliseconds; times before year 1 or after 9999 become the nearest."""
    try:
        moment = datetime.fromtimestamp(time, UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.max.replace(tzinfo=UTC) if time > 0 else datetime.min.replace(tzinfo=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a sink gets. kinds: patterns such as `enter`; sources: such as `cameras/*`. Empty: all."""

    kinds: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def matches(self, kind: str, source: str) -> bool:
        return _any(self.kinds, kind) and _any(self.sources, source)

    def count(self, events: Iterable[tuple[str, str]]) -> int:
        """The number of these (kind, source) that match."""
        return sum(self.matches(kind, source) for kind, source in events)


def _any(patterns: tuple[str, ...], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)
