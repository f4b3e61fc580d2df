"""`posewire events tail`: print the events that a server keeps in its journal."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import click
import orjson

from service.cli.output import write_out
from service.events.event import EventFilter, PublishedEvent
from service.events.journal_file import FILE, FOLDER, EventReader

_POLL_S = 0.2
_PIECE = 500


@click.group(short_help="Show events that leave the server.")
def events() -> None:
    """Show the events that leave the server, see its table [sinks.NAME]."""


@events.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--lines", "-n", type=click.IntRange(min=0), help="Only the last so many of those that are there.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="The server's folder of data.")
@click.option("--source", "sources", multiple=True, help="Only of these, such as cameras/door or 'cameras/*'.")
@click.option("--kind", "kinds", multiple=True, help="Only of these, such as enter or fall.")
def tail(follow: bool, lines: int | None, data: Path | None, sources: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    """Print the journal's events as JSON lines, the oldest first. It has those of the last `keep_hours`.

    The server may run meanwhile. Without --data, it is the folder that POSEWIRE_DATA names.
    """
    folder = data or (Path(os.environ["POSEWIRE_DATA"]) if os.environ.get("POSEWIRE_DATA") else None)
    if folder is None:
        raise click.UsageError("which folder of data? name it with --data or POSEWIRE_DATA")
    path = folder / FOLDER / FILE
    if not path.exists():
        raise click.ClickException(f"there is no journal in {folder}: no server with sinks has used it")
    wanted = EventFilter(kinds, sources)
    try:
        with closing(EventReader(path)) as reader:
            _print(reader, wanted, lines, follow)
    except sqlite3.Error as error:
        raise click.ClickException(f"the journal in {folder} cannot be read: {error}") from error
    except KeyboardInterrupt:
        return


def _print(reader: EventReader, wanted: EventFilter, lines: int | None, follow: bool) -> None:
    """Print the last `lines` events that are wanted, or all; then, to follow, what comes."""
    last = 0
    newest: deque[PublishedEvent] = deque(maxlen=lines or 0)
    while found := reader.events(last, _PIECE):
        last = found[-1][0]
        matching = [event for _, event in found if wanted.matches(event.kind, event.source)]
        if lines is None:
            _write(matching)
        newest.extend(matching)
    if lines is not None:
        _write(newest)
    while follow:
        found = reader.events(last, _PIECE)
        last = found[-1][0] if found else last
        _write(event for _, event in found if wanted.matches(event.kind, event.source))
        if not found:
            time.sleep(_POLL_S)


def _write(events: Iterable[PublishedEvent]) -> None:
    if text := b"".join(orjson.dumps(event.document()) + b"\n" for event in events):
        write_out(text)
