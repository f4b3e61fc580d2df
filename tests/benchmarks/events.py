"""Events from a frame to a webhook: how many a second, and how long a frame waits until its events are on the disk.

Alone: one source adds one event after the other. Cameras: four at once, each with up to 10 frames a second that have
two events. The receiver is on the loopback, in a process of its own, and answers at once.

With --away SECONDS, see `events_away`: instead of that, a webhook, an MQTT broker and a Redis are away for so long
while two cameras go on, and the server is killed in the middle. Needs mosquitto and redis-server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.events.entries import EventSettings, read_sinks
from service.events.event import PublishedEvent
from service.events.events import Events
from service.events.journal_thread import EventsObserver
from service.process.supervisor import Supervisor
from tests.benchmarks.events_away import measure
from tests.benchmarks.goals import show
from tests.benchmarks.report import Row, machine
from tests.waiting import until

_EVENTS = 5_000
_ALONE = 500
_SECONDS = 10.0
_RECEIVER = """
import asyncio
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            size = int(head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0])
            await reader.readexactly(size)
            writer.write(b"HTTP/1.1 204 X\\r\\n\\r\\n")
    except asyncio.IncompleteReadError:
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class _Delivered(EventsObserver):
    count = 0

    def delivered(self, sink: str, events: int) -> None:  # noqa: ARG002
        self.count += events


def _event(number: int, source: str) -> PublishedEvent:
    data = {"name": "desk", "id": number % 20, "width": 1280, "height": 720, "box": [412.5, 98.25, 640.0, 702.5]}
    return PublishedEvent(f"{source}-{number}", source, 1.7e9 + number / 10, "enter", data)


async def _timed(events: Events, batch: Sequence[PublishedEvent]) -> float:
    began = time.perf_counter()
    await events.add(batch)
    return 1e3 * (time.perf_counter() - began)


async def _film(events: Events, source: str) -> list[float]:
    loop, times = asyncio.get_running_loop(), []
    end, number = loop.time() + _SECONDS, 0
    while loop.time() < end:
        due = loop.time() + 0.1
        times.append(await _timed(events, [_event(number, source), _event(number + 1, source)]))
        number += 2
        await asyncio.sleep(max(0.0, due - loop.time()))
    return times


async def _crowd(events: Events, source: str) -> list[float]:
    """An eighth of the events, as fast as they are taken, 25 at a time."""
    starts = range(0, _EVENTS // 8, 25)
    return [await _timed(events, [_event(n, source) for n in range(start, start + 25)]) for start in starts]


def _row(what: str, times: Sequence[float], **others: object) -> Row:
    p50, p99 = np.percentile(times, [50, 99])
    return {"what": what, "add p50 ms": round(p50, 2), "add p99 ms": round(p99, 2), **others}


async def _measure(folder: Path, settings: EventSettings) -> list[Row]:
    delivered, supervisor = _Delivered(), Supervisor()
    events = Events(folder, supervisor, delivered)
    await events.start(settings)
    alone = [await _timed(events, [_event(n, "cameras/alone")]) for n in range(_ALONE)]
    films = await asyncio.gather(*(_film(events, f"cameras/{name}") for name in "abcd"))
    await until(lambda: delivered.count >= _ALONE + 2 * sum(map(len, films)))
    began, before = time.perf_counter(), delivered.count
    crowds = await asyncio.gather(*(_crowd(events, f"cameras/{n}") for n in range(8)))
    added = time.perf_counter() - began
    await until(lambda: delivered.count >= before + _EVENTS)
    through = time.perf_counter() - began
    await events.close()
    await supervisor.close()
    return [
        _row("one after the other", alone),
        _row("four cameras, 20 events a second each", [time for film in films for time in film]),
        _row(
            f"{_EVENTS} at once, of eight cameras",
            [time for crowd in crowds for time in crowd],
            **{"journaled/s": round(_EVENTS / added), "to the webhook/s": round(_EVENTS / through)},
        ),
    ]


def run() -> list[Row]:
    """Measure with a receiver in a process of its own."""
    with subprocess.Popen([sys.executable, "-c", _RECEIVER], stdout=subprocess.PIPE, encoding="utf-8") as receiver:
        try:
            assert receiver.stdout is not None
            url = f"http://127.0.0.1:{int(receiver.stdout.readline())}/"
            settings = read_sinks({"sinks": {"hook": {"type": "webhook", "url": url, "secret": "x" * 32}}})
            with tempfile.TemporaryDirectory() as folder:
                return asyncio.run(_measure(Path(folder), settings))
        finally:
            receiver.kill()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--away", type=float, metavar="SECONDS", help="keep sinks away for so long instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    rows = run() if given.away is None else asyncio.run(measure(given.away))
    print(machine())
    print(show(rows))
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", "utf-8")
    sys.exit(not all(row.get("holds", True) for row in rows))


if __name__ == "__main__":
    main()
