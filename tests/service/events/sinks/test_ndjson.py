"""Files of JSON lines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from service.events.entries import FileEntry
from service.events.event import PublishedEvent
from service.events.sinks.base import SinkAwayError
from service.events.sinks.ndjson import FileSink
from tests.service.events.happenings import Counts, happening, on_loop, running, sinks
from tests.waiting import until


class Outcome:
    """Remembers what was delivered."""

    stopping = False

    def __init__(self) -> None:
        self.ids: list[str] = []

    def delivered(self, event: PublishedEvent) -> None:
        self.ids.append(event.id)

    def refused(self, event: PublishedEvent, why: str) -> bool:
        raise AssertionError(f"{event.id}: {why}")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@on_loop
async def test_each_event_is_a_line_and_a_file_that_is_moved_away_begins_again(tmp_path: Path) -> None:
    path, counts = tmp_path / "events.ndjson", Counts()
    async with running(tmp_path, sinks(log={"type": "file", "path": str(path)}), counts) as events:
        await events.add([happening(1), happening(2)])
        await until(lambda: counts.got["log"] == 2)
        assert lines(path) == [happening(1).document(), happening(2).document()]
        path.rename(tmp_path / "moved")
        await events.add([happening(3)])
        await until(lambda: counts.got["log"] == 3)
        assert lines(path) == [happening(3).document()]


@on_loop
async def test_files_are_rotated_by_size(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    sink, outcome = FileSink(FileEntry(type="file", path=path, max_mb=0.001, keep=2)), Outcome()
    for n in range(40):
        await sink.send([happening(n)], outcome)
    assert len(outcome.ids) == 40
    files = [tmp_path / "events.ndjson.2", tmp_path / "events.ndjson.1", path]
    assert not (tmp_path / "events.ndjson.3").exists()
    assert all(file.stat().st_size <= 1000 for file in files)
    numbers = [document["id"] for file in files for document in lines(file)]
    assert numbers == [happening(n).id for n in range(40 - len(numbers), 40)]


@on_loop
async def test_a_line_that_a_killed_server_left_unfinished_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(b'{"id": "whole"}\n' + b'{"id": "ha' + b"x" * 100_000)
    await FileSink(FileEntry(type="file", path=path)).send([happening(1)], Outcome())
    assert [line["id"] for line in lines(path)] == ["whole", happening(1).id]


@pytest.mark.parametrize("kind", ["folder", "pipe", "missing folder"])
@on_loop
async def test_what_is_no_file_is_an_error_and_never_a_hang(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "here"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            path = path / "file"
    with pytest.raises(SinkAwayError, match="cannot be written"):
        await FileSink(FileEntry(type="file", path=path)).send([happening(1)], Outcome())
