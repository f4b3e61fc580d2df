"""The file of a journal of events: reading it beside a server, and setting it aside when it is damaged."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import orjson

from engines.locks import locked
from service.events.event import PublishedEvent

FOLDER, FILE = "events", "events.sqlite"
"""The folder of the journal, inside the server's folder of data, and the database in it."""
BUSY_S = 5.0
"""How long a transaction may wait for those of other processes, which take milliseconds."""


class EventReader:
    """Reads a journal that a server may be using. Methods raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._base = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_S)
        self._base.row_factory = sqlite3.Row

    def close(self) -> None:
        self._base.close()

    def events(self, after: int, most: int) -> list[tuple[int, PublishedEvent]]:
        """Return up to `most` events with a higher number than `after`, oldest first."""
        return read_events(self._base, after, most)


def read_events(base: sqlite3.Connection, after: int, most: int) -> list[tuple[int, PublishedEvent]]:
    """Return up to `most` events with a higher number than `after`, oldest first, with their numbers."""
    rows = base.execute("SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, most)).fetchall()
    return [(row["seq"], _event(row)) for row in rows]


def _event(row: sqlite3.Row) -> PublishedEvent:
    return PublishedEvent(row["id"], row["source"], row["time"], row["kind"], orjson.loads(row["data"]))


def set_aside(folder: Path) -> Path | None:
    """Rename a journal that is damaged, so that a new one can be made. Returns its new name, None if another process
    has done it. An older one that was damaged is removed. Raises OSError.
    """
    path = folder / FILE
    aside = path.with_suffix(".damaged")
    with locked(folder / "aside.lock"):
        if _is_sound(path):
            return None
        for suffix in ("", "-wal", "-shm"):
            old, new = Path(f"{path}{suffix}"), Path(f"{aside}{suffix}")
            new.unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                old.rename(new)
    return aside


def _is_sound(path: Path) -> bool:
    """True if another process has replaced the damaged file already."""
    if not path.exists():
        return True
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_S)) as base:
            return bool(base.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.DatabaseError:
        return False
