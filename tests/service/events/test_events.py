"""Events from the server to its sinks: what is acknowledged arrives, whatever happens to the disk and to processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.events.event import DROPPED
from service.events.journal_file import FILE, FOLDER
from tests.service.events.happenings import Counts, happening, on_loop, running, sinks
from tests.service.events.receiver import Receiver
from tests.service.events.sinks.test_ndjson import lines
from tests.service.events.sinks.test_webhook import hook
from tests.waiting import until


def told(receiver: Receiver) -> list[dict[str, object]]:
    """What the receiver was told of losses."""
    events = [request.event for request in receiver.accepted]
    return [event["data"] for event in events if event["type"] == DROPPED]


@on_loop
async def test_nothing_is_done_without_sinks(tmp_path: Path) -> None:
    async with running(tmp_path, sinks()) as events:
        await events.add([happening(1)])
        events.note({"cameras/a": {"people": 1}})
    assert not (tmp_path / FOLDER).exists()


@on_loop
async def test_what_was_not_delivered_is_delivered_after_a_restart(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        await receiver.refuse()
        async with running(tmp_path, sinks(hook=hook(receiver))) as events:
            await events.add([happening(n) for n in range(100)])
        await receiver.listen()
        async with running(tmp_path, sinks(hook=hook(receiver))) as events:
            await until(lambda: len(receiver.accepted) == 100)
        async with running(tmp_path, sinks(hook=hook(receiver))) as events:
            await events.add([happening(100)])
            await until(lambda: len(receiver.accepted) == 101)
    assert receiver.ids() == [happening(n).id for n in range(101)]


@on_loop
async def test_a_temporary_folder_is_warned_of_and_removed(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with Receiver() as receiver, running(None, sinks(hook=hook(receiver))) as events:
        await events.add([happening(1)])
        await until(lambda: len(receiver.accepted) == 1)
        assert "set `data`" in caplog.text


@on_loop
async def test_of_two_on_one_folder_one_delivers_and_the_other_takes_over(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        settings = sinks(hook=hook(receiver))
        async with running(tmp_path, settings) as second:
            async with running(tmp_path, settings) as first:
                for n in range(0, 100, 2):
                    await first.add([happening(n, "cameras/a")])
                    await second.add([happening(n + 1, "cameras/b")])
                await until(lambda: len(receiver.accepted) == 100)
            await second.add([happening(100, "cameras/b")])
            await until(lambda: len(receiver.accepted) == 101)
        async with running(tmp_path, settings) as third, running(tmp_path, settings) as fourth:
            await fourth.add([happening(101, "cameras/b")])
            await until(lambda: len(receiver.accepted) == 102)
            await third.close()
            await fourth.add([happening(102, "cameras/b")])
            await until(lambda: len(receiver.accepted) == 103)
    assert sorted(receiver.ids()) == sorted(
        [happening(n, "cameras/b" if n % 2 or n >= 100 else "cameras/a").id for n in range(103)]
    )


ADDING = """
import asyncio, sys
from pathlib import Path
from tests.service.events.happenings import happening, running, sinks
async def main(folder, url, source):
    async with running(Path(folder), sinks(hook={"type": "webhook", "url": url})) as events:
        for number in range(10_000):
            await events.add([happening(number, source)])
            print(number, flush=True)
            await asyncio.sleep(0.05)
asyncio.run(main(*sys.argv[1:]))
"""


@on_loop
async def test_two_processes_share_a_folder_and_one_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    added: dict[str, int] = {}

    async def listen(process: asyncio.subprocess.Process, source: str) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            added[source] = int(line) + 1

    async def start(source: str, url: str) -> tuple[asyncio.subprocess.Process, asyncio.Task[None]]:
        command = (sys.executable, "-c", ADDING, str(tmp_path), url, source)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        listening = asyncio.create_task(listen(process, source))
        await until(lambda: added.get(source, 0) >= 5)
        return process, listening

    async with Receiver() as receiver:
        first, heard = await start("cameras/a", receiver.url)  # it delivers
        second, heard_too = await start("cameras/b", receiver.url)
        await until(lambda: happening(4, "cameras/b").id in receiver.ids())
        first.kill()
        await asyncio.gather(first.wait(), heard)
        known = {happening(n, source).id for source, number in added.items() for n in range(number)}
        await until(lambda: set(receiver.ids()) >= known)
        second.kill()
        await asyncio.gather(second.wait(), heard_too)
    for source in added:
        events = [request.event for request in receiver.accepted if request.event["source"] == source]
        numbers = [event["data"]["number"] for event in events]
        assert list(dict.fromkeys(numbers)) == list(range(max(numbers) + 1))


@on_loop
async def test_a_reload_neither_loses_nor_repeats(tmp_path: Path) -> None:
    async with Receiver(always="slow") as receiver, Receiver() as other, running(tmp_path, sinks()) as events:
        await events.reload(sinks(hook=hook(receiver)))
        for n in range(60):
            await events.add([happening(n)])
            if n % 10 == 5:
                await events.reload(sinks(hook=hook(receiver, timeout_seconds=10 + n)))
            if n == 30:
                await events.reload(sinks(hook=hook(receiver, timeout_seconds=100), other=hook(other)))
        await until(lambda: len(receiver.accepted) >= 60)
    assert receiver.ids() == [happening(n).id for n in range(60)]
    assert other.ids() == [happening(n).id for n in range(31, 31 + len(other.ids()))]  # until it was taken out
    assert len(other.ids()) <= 5


@on_loop
async def test_a_journal_that_is_full_tells_its_sinks_how_many_they_lost(tmp_path: Path) -> None:
    counts = Counts()
    async with Receiver() as receiver:
        await receiver.refuse()
        async with running(tmp_path, sinks({"max_events": 50}, hook=hook(receiver)), counts) as events:
            for start in range(0, 200, 20):
                await events.add([happening(n) for n in range(start, start + 20)])
            await receiver.listen()
            await until(lambda: bool(told(receiver)) and counts.waits.get("hook", (1, 0))[0] == 0)
    lost = counts.lost["hook", "full"]
    assert [data["count"] for data in told(receiver)] == [lost]
    assert receiver.ids()[1:] == [happening(n).id for n in range(lost, 200)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs root and the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@on_loop
async def test_a_full_disk_is_survived_and_its_losses_are_counted_and_told(
    small_disk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts, total = Counts(), 4000
    file = tmp_path / "later" / "events.ndjson"
    async with running(small_disk, sinks(log={"type": "file", "path": str(file)}), counts) as events:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 600_000)
        for start in range(0, total, 50):
            await events.add([happening(n) for n in range(start, start + 50)])
        assert "cannot be used" in caplog.text
        assert counts.up[-1] is False
        lost = counts.lost["log", "memory"]
        assert 0 < lost < total
        ballast.unlink()
        file.parent.mkdir()
        await until(lambda: counts.up[-1] is True)
        await until(lambda: counts.got["log"] >= total - lost + 1)
    found = lines(file)
    assert [line["data"]["count"] for line in found if line["kind"] == DROPPED] == [lost]
    arrived = [line["data"]["number"] for line in found if line["kind"] != DROPPED]
    assert arrived == sorted(set(arrived))
    assert len(arrived) == total - lost


@pytest.mark.parametrize("damage", ["garbage", "middle", "removed"])
@on_loop
async def test_a_damaged_journal_is_set_aside_and_told_of(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts()
    path = tmp_path / FOLDER / FILE
    async with Receiver() as receiver:
        await receiver.refuse()
        async with running(tmp_path, sinks(hook=hook(receiver)), counts) as events:
            await events.add([happening(n) for n in range(100)])
            with sqlite3.connect(path) as base:
                base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            base.close()
            match damage:
                case "removed":
                    shutil.rmtree(path.parent)
                case "garbage":
                    path.write_bytes(b"no database" * 10_000)
                case _:
                    data = bytearray(path.read_bytes())
                    data[200:] = b"\xff" * (len(data) - 200)
                    path.write_bytes(data)
            for n in range(100, 110):
                await events.add([happening(n)])
            await until(lambda: bool(counts.lost))
            await receiver.listen()
            await until(lambda: bool(told(receiver)))
            await events.add([happening(200)])
            await until(lambda: happening(200).id in receiver.ids())
            assert counts.up[-1] is True
    assert ("damaged" in caplog.text) or damage == "removed"
    assert path.with_suffix(".damaged").exists() is (damage != "removed")
    assert set(receiver.ids()) >= {happening(n).id for n in range(102, 110)}


@on_loop
async def test_a_folder_that_cannot_be_written_holds_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts()
    (tmp_path / FOLDER).write_text("a file is in the way")
    async with Receiver() as receiver, running(tmp_path, sinks(hook=hook(receiver)), counts) as events:
        await events.add([happening(1)])
        assert counts.up == [False]
        assert "cannot be used" in caplog.text
        (tmp_path / FOLDER).unlink()
        await until(lambda: len(receiver.accepted) == 1)
        assert counts.up == [False, True]


@on_loop
async def test_keypoints_are_only_for_sinks_that_want_them(tmp_path: Path) -> None:
    async with Receiver() as with_them, Receiver() as without:
        settings = sinks(a=hook(with_them, keypoints=True), b=hook(without))
        async with running(tmp_path, settings) as events:
            assert events.keypoints
            await events.add([happening(1, keypoints=True)])
            await until(lambda: bool(with_them.accepted and without.accepted))
            await events.reload(sinks(b=hook(without)))
            assert not events.keypoints
    assert "keypoints" in with_them.accepted[0].event["data"]
    assert "keypoints" not in without.accepted[0].event["data"]


@on_loop
async def test_adding_at_once_shares_transactions(tmp_path: Path) -> None:
    counts = Counts()
    async with Receiver() as receiver:
        await receiver.refuse()
        async with running(tmp_path, sinks(hook=hook(receiver)), counts) as events:
            await asyncio.gather(*(events.add([happening(n)]) for n in range(1000)))
            with sqlite3.connect(f"file:{tmp_path / FOLDER / FILE}?mode=ro", uri=True) as base:
                [[held]] = base.execute("SELECT count(*) FROM events").fetchall()
            base.close()
    assert held == counts.journal_events == 1000


@on_loop
async def test_a_client_with_thousands_of_events_neither_displaces_nor_delays_those_of_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts()
    async with Receiver() as receiver, running(tmp_path, sinks(hook=hook(receiver)), counts) as events:
        for start in range(0, 9000, 3000):  # of one frame: 2,000 would fit the memory of all
            flood = [happening(n, "streams/flood") for n in range(start, start + 3000)]
            alarm = [happening(start, "cameras/door", "fall")]
            await asyncio.gather(events.add(flood, "10.0.0.1"), events.add(alarm, "cameras/door"))
        await until(lambda: sum("door" in name for name in receiver.ids()) == 3)
    assert counts.lost["hook", "rate"] > 8000
    assert counts.lost["hook", "memory"] == 0
    assert not told(receiver)
    said = [record.getMessage() for record in caplog.records if "10.0.0.1" in record.getMessage()]
    assert said == ["sinks do not get all events of 10.0.0.1, as there are more than 20 a second"]
