"""The journal of events: a SQLite database that holds them until every sink has them, and after that for a while.

Several processes may have it open at once. All may add; one of them delivers, see `Events`.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from service.events.event import EventFilter, PublishedEvent
from service.events.journal_file import BUSY_S, FILE, read_events

_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (name TEXT NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, source TEXT NOT NULL, kind TEXT NOT NULL,
    time REAL NOT NULL, added REAL NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS sinks (
    name TEXT PRIMARY KEY, filter TEXT NOT NULL, cursor INTEGER NOT NULL, waiting INTEGER NOT NULL,
    dropped INTEGER NOT NULL DEFAULT 0, told INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS refusals (sink TEXT NOT NULL, id TEXT NOT NULL, tries INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS states (source TEXT PRIMARY KEY, version INTEGER NOT NULL, document BLOB);
"""
_ROW_BYTES = 200
"""About what a row takes beside its data."""
_SPARE = 0.02
"""The part of the bounds that is freed beyond what is needed, so that not every transaction must free something."""
_MOST_GONE = 1000
"""Sources that are remembered as gone, until all sinks know."""
_PIECE = 1000
_PIECES = 10
"""How often `read` looks on for events that a filter lets through, as others wait for the journal meanwhile."""


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Bounds of the journal, over all sources and sinks. seconds: age at which events are removed."""

    bytes: int
    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Batch:
    """What a sink gets next. events: those that its filter lets through, with their numbers, oldest first.

    last: the number up to which the journal was read; there may be more events after it. dropped, told: how many events
    the sink has lost so far, and of how many it was told; reason: why it lost the last ones. journal: its name.
    """

    events: Sequence[tuple[int, PublishedEvent]]
    last: int
    dropped: int
    told: int
    reason: str
    journal: str


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """waiting: events. oldest: when the oldest of them was added, seconds since 1970; None if none waits."""

    waiting: int
    oldest: float | None


class JournalGoneError(OSError):
    """The file of a journal has been removed, with the events in it."""


class EventJournal:
    """An open journal. Methods block, and belong to one thread. They raise sqlite3.Error and OSError.

    losses: for each sink that has lost events in the last transaction its name, their number, and why.
    """

    def __init__(self, folder: Path, limits: JournalLimits, clock: Callable[[], float] = time.time) -> None:
        self.limits = limits
        self.losses: list[tuple[str, int, str]] = []
        self._clock = clock
        self._path = folder / FILE
        folder.mkdir(parents=True, exist_ok=True)
        self._inode = 0
        self._base = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            self._base.row_factory = sqlite3.Row
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")
            self._base.executescript(_SCHEMA)
            with self.changing():
                found = self._base.execute("SELECT name FROM journal").fetchone()
                self.name: str = found["name"] if found else secrets.token_hex(4)
                if not found:
                    self._base.execute("INSERT INTO journal VALUES (?, 0, 0)", (self.name,))
            self._inode = self._path.stat().st_ino
        except BaseException:
            self._base.close()
            raise

    def close(self) -> None:
        self._base.close()

    def check_file(self) -> None:
        """Raise OSError if another process has replaced the file, JournalGoneError if it has been removed."""
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            raise JournalGoneError(f"{self._path} has been removed") from None
        if inode != self._inode:
            raise OSError(f"{self._path} has been replaced")

    def probe(self) -> None:
        """Write something, inside `changing`, to know whether that is possible."""
        self._base.execute("UPDATE journal SET events = events")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """All changes inside are on the disk afterwards, or none is made."""
        self.losses.clear()
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._base.execute("COMMIT")
        except BaseException:
            self.losses.clear()
            with suppress(sqlite3.Error):  # some errors have ended it
                self._base.execute("ROLLBACK")
            raise

    def add(self, events: Sequence[PublishedEvent]) -> int:
        """Add events, inside `changing`, except those that are there already. Returns how many were new."""
        now, size, new = self._clock(), 0, []
        for event in events:
            data = orjson.dumps(event.data, option=orjson.OPT_SERIALIZE_NUMPY)
            row = (event.id, event.source, event.kind, event.time, now, len(data) + _ROW_BYTES, data)
            columns = "id, source, kind, time, added, size, data"
            done = self._base.execute(f"INSERT OR IGNORE INTO events ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
            if done.rowcount:
                size += len(data) + _ROW_BYTES
                new.append((event.kind, event.source))
        if new:
            self._base.execute("UPDATE journal SET events = events + ?, bytes = bytes + ?", (len(new), size))
            for name, wanted in self._filters().items():
                self._base.execute("UPDATE sinks SET waiting = waiting + ? WHERE name = ?", (wanted.count(new), name))
        self.trim()
        return len(new)

    def trim(self) -> None:
        """Remove events beyond the limits, the oldest first, inside `changing`. Sinks that wait for them lose them."""
        held, size = self._base.execute("SELECT events, bytes FROM journal").fetchone()
        full = held > self.limits.events or size > self.limits.bytes
        room = 1 - _SPARE * full
        before, cut, reason = self._clock() - self.limits.seconds, 0, ""
        for number, row_size, added in self._rows():
            if held > self.limits.events * room or size > self.limits.bytes * room:
                reason = "full"
            elif added < before:
                reason = reason or "old"
            else:
                break
            cut, held, size = number, held - 1, size - row_size
        if cut:
            for name in self._filters():
                self._lose(name, cut, reason)
            self._base.execute("DELETE FROM events WHERE seq <= ?", (cut,))
            self._base.execute("UPDATE journal SET events = ?, bytes = ?", (held, size))

    def register(self, filters: Mapping[str, EventFilter]) -> None:
        """Set the sinks, inside `changing`. A new one gets what is added from now on; others continue."""
        last = self._last()
        for name in set(self._filters()) - set(filters):
            for statement in ("DELETE FROM sinks WHERE name = ?", "DELETE FROM refusals WHERE sink = ?"):
                self._base.execute(statement, (name,))
        for name, wanted in filters.items():
            text = orjson.dumps([wanted.kinds, wanted.sources]).decode()
            insert = "INSERT OR IGNORE INTO sinks (name, filter, cursor, waiting) VALUES (?, ?, ?, 0)"
            self._base.execute(insert, (name, text, last))
            cursor = self._base.execute("SELECT cursor FROM sinks WHERE name = ?", (name,)).fetchone()["cursor"]
            change = "UPDATE sinks SET filter = ?, waiting = ? WHERE name = ?"
            self._base.execute(change, (text, self._count(wanted, cursor, last), name))

    def read(self, sink: str, after: int, most: int) -> Batch:
        """Return what a sink gets next. after: the number of an event that it has, if it has more than was noted."""
        found = self._base.execute("SELECT * FROM sinks WHERE name = ?", (sink,)).fetchone()
        if found is None:
            return Batch((), after, 0, 0, "", self.name)
        wanted, last = _filter(found["filter"]), max(after, found["cursor"])
        events: list[tuple[int, PublishedEvent]] = []
        for _ in range(_PIECES):
            following = self.events(last, most - len(events))
            if not following:
                break
            last = following[-1][0]
            events += [(number, event) for number, event in following if wanted.matches(event.kind, event.source)]
            if len(events) == most:
                break
        return Batch(events, last, found["dropped"], found["told"], found["reason"], self.name)

    def delivered(self, sink: str, last: int, events: int, told: int) -> None:
        """Note what a sink has, inside `changing`. last: up to which event, which are `events` more than before.

        told: the number of lost events of which it was told so far.
        """
        values = {"name": sink, "last": last, "events": events, "told": told}
        change = "UPDATE sinks SET cursor = max(cursor, :last), told = max(told, :told), "
        change += "waiting = max(0, waiting - (cursor < :last) * :events) WHERE name = :name"
        self._base.execute(change, values)

    def refusals(self, sink: str) -> dict[str, int]:
        """Return how often a sink has refused events that are still here, by their ids."""
        query = "SELECT id, tries FROM refusals WHERE sink = ? AND id IN (SELECT id FROM events)"
        rows = self._base.execute(query, (sink,)).fetchall()
        return {row["id"]: row["tries"] for row in rows}

    def set_refusals(self, sink: str, refusals: Mapping[str, int]) -> None:
        """Replace what `refusals` returns, inside `changing`."""
        self._base.execute("DELETE FROM refusals WHERE sink = ?", (sink,))
        rows = [(sink, number, tries) for number, tries in refusals.items()]
        self._base.executemany("INSERT INTO refusals VALUES (?, ?, ?)", rows)

    def lost(self, sink: str, events: int, reason: str) -> None:
        """Note events that a sink has lost before they came into the journal, inside `changing`."""
        change = "UPDATE sinks SET dropped = dropped + ?, reason = ? WHERE name = ?"
        self._base.execute(change, (events, reason, sink))

    def status(self) -> dict[str, SinkStatus]:
        """Return what waits for each sink."""
        found = {}
        for row in self._base.execute("SELECT name, cursor, waiting FROM sinks").fetchall():
            oldest = self._base.execute("SELECT added FROM events WHERE seq > ? LIMIT 1", (row["cursor"],)).fetchone()
            waits = row["waiting"] > 0 and oldest is not None
            found[row["name"]] = SinkStatus(row["waiting"], oldest["added"] if waits else None)
        return found

    def set_states(self, states: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Replace the states of sources, inside `changing`. None: there is no such source any more."""
        for source, state in states.items():
            version = "(SELECT coalesce(max(version), 0) + 1 FROM states)"
            values = (source, None if state is None else orjson.dumps(state))
            self._base.execute(f"INSERT OR REPLACE INTO states VALUES (?, {version}, ?)", values)  # noqa: S608
        gone = "SELECT source FROM states WHERE document IS NULL ORDER BY version DESC LIMIT -1 OFFSET ?"
        self._base.execute(f"DELETE FROM states WHERE source IN ({gone})", (_MOST_GONE,))  # noqa: S608

    def clear_states(self) -> None:
        """Forget the states of an earlier run, inside `changing`."""
        self._base.execute("DELETE FROM states")

    def states(self, after: int) -> list[tuple[str, int, Mapping[str, Any] | None]]:
        """Return the states that are newer than version `after`: source, version and state."""
        rows = self._base.execute("SELECT * FROM states WHERE version > ? ORDER BY version", (after,)).fetchall()
        return [(r["source"], r["version"], orjson.loads(r["document"]) if r["document"] else None) for r in rows]

    def events(self, after: int, most: int) -> list[tuple[int, PublishedEvent]]:
        """Return up to `most` events with a higher number than `after`, oldest first."""
        return read_events(self._base, after, most)

    def _rows(self) -> Iterator[tuple[int, int, float]]:
        """The number, size and time of each event, oldest first."""
        last = 0
        query = "SELECT seq, size, added FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        while rows := self._base.execute(query, (last, _PIECE)).fetchall():
            yield from ((row["seq"], row["size"], row["added"]) for row in rows)
            last = rows[-1]["seq"]

    def _filters(self) -> dict[str, EventFilter]:
        rows = self._base.execute("SELECT name, filter FROM sinks").fetchall()
        return {row["name"]: _filter(row["filter"]) for row in rows}

    def _last(self) -> int:
        found = self._base.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        return found["seq"] if found else 0

    def _count(self, wanted: EventFilter, after: int, last: int) -> int:
        """The number of events from `after` (exclusive) to `last` that a filter lets through."""
        query = "SELECT kind, source, count(*) AS n FROM events WHERE seq > ? AND seq <= ? GROUP BY kind, source"
        rows = self._base.execute(query, (after, last)).fetchall()
        return sum(row["n"] for row in rows if wanted.matches(row["kind"], row["source"]))

    def _lose(self, sink: str, cut: int, reason: str) -> None:
        row = self._base.execute("SELECT * FROM sinks WHERE name = ?", (sink,)).fetchone()
        if row["cursor"] >= cut:
            return
        if lost := self._count(_filter(row["filter"]), row["cursor"], cut):
            self.losses.append((sink, lost, reason))
        change = "UPDATE sinks SET cursor = ?, waiting = max(0, waiting - ?), dropped = dropped + ?"
        values = (cut, lost, lost, reason if lost else row["reason"], sink)
        self._base.execute(f"{change}, reason = ? WHERE name = ?", values)


def _filter(text: str) -> EventFilter:
    kinds, sources = orjson.loads(text)
    return EventFilter(tuple(kinds), tuple(sources))
