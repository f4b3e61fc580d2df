"""The journal of events: bounds, cursors, and what is told of losses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.events.event import EventFilter
from service.events.journal import EventJournal, JournalLimits
from tests.service.events.happenings import happening

LIMITS = JournalLimits(1_000_000, 1_000, 3600.0)


class Clock:
    """A time that tests set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[EventJournal]:
    opened = EventJournal(tmp_path, LIMITS, clock)
    yield opened
    opened.close()


def register(journal: EventJournal, **filters: EventFilter) -> None:
    with journal.changing():
        journal.register(filters)


def add(journal: EventJournal, *numbers: int, source: str = "cameras/door", kind: str = "enter") -> int:
    with journal.changing():
        return journal.add([happening(n, source, kind) for n in numbers])


def numbers(journal: EventJournal, sink: str = "a", after: int = 0, most: int = 100) -> list[int]:
    return [event.data["number"] for _, event in journal.read(sink, after, most).events]


def test_an_event_that_is_added_again_is_there_once_also_after_it_was_delivered(
    journal: EventJournal, tmp_path: Path, clock: Clock
) -> None:
    register(journal, a=EventFilter())
    assert add(journal, 1, 2) == 2
    assert add(journal, 2, 3, 3) == 1
    assert numbers(journal) == [1, 2, 3]
    with journal.changing():
        journal.delivered("a", journal.read("a", 0, 100).last, 3, 0)
    assert add(journal, 1) == 0
    again = EventJournal(tmp_path, LIMITS, clock)
    assert (again.name, numbers(again), again.status()["a"].waiting) == (journal.name, [], 0)
    again.close()


def test_each_sink_has_its_own_place_and_filter(journal: EventJournal) -> None:
    register(journal, a=EventFilter(), falls=EventFilter(kinds=("fall*",)), yard=EventFilter(sources=("cameras/y*",)))
    add(journal, 1)
    add(journal, 2, kind="fall")
    add(journal, 3, source="cameras/yard")
    assert [numbers(journal, name) for name in ("a", "falls", "yard")] == [[1, 2, 3], [2], [3]]
    assert {name: status.waiting for name, status in journal.status().items()} == {"a": 3, "falls": 1, "yard": 1}
    assert numbers(journal, most=2) == [1, 2]
    assert numbers(journal, "yard", after=3) == []


def test_a_new_sink_begins_with_what_comes_and_one_that_stays_goes_on(journal: EventJournal) -> None:
    register(journal, a=EventFilter())
    add(journal, 1, 2)
    register(journal, a=EventFilter(kinds=("enter",)), b=EventFilter())
    assert (numbers(journal), numbers(journal, "b")) == ([1, 2], [])
    assert journal.status()["a"].waiting == 2
    add(journal, 3)
    register(journal, b=EventFilter())
    assert (numbers(journal), numbers(journal, "b")) == ([], [3])


def test_too_many_events_are_dropped_and_their_sinks_can_be_told(journal: EventJournal) -> None:
    journal.limits = JournalLimits(1_000_000, 100, 3600.0)
    register(journal, a=EventFilter(), falls=EventFilter(kinds=("fall",)))
    add(journal, *range(60))
    with journal.changing():
        journal.delivered("a", journal.read("a", 0, 10).last, 10, 0)
    with journal.changing():
        journal.add([happening(n) for n in range(60, 110)])
        losses = list(journal.losses)
    batch = journal.read("a", 0, 1000)
    first = batch.events[0][1].data["number"]
    assert first > 10
    assert losses == [("a", first - 10, "full")]
    assert (batch.dropped, batch.told, batch.reason) == (first - 10, 0, "full")
    assert journal.status()["a"].waiting == len(batch.events) == 110 - first <= 100
    assert journal.read("falls", 0, 10).dropped == 0


def test_bytes_are_bounded_on_the_disk_too(journal: EventJournal, tmp_path: Path) -> None:
    register(journal, a=EventFilter())
    for start in range(0, 20_000, 1000):
        add(journal, *range(start, start + 1000), source="cameras/" + "x" * 100)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < 2 * LIMITS.bytes + 8_000_000  # and what the WAL may take
    assert journal.read("a", 0, 1).dropped + journal.status()["a"].waiting == 20_000


def test_old_events_are_dropped(journal: EventJournal, clock: Clock) -> None:
    register(journal, a=EventFilter())
    add(journal, 1)
    clock.now += 1800
    add(journal, 2)
    assert journal.status()["a"].oldest == 1000.0
    clock.now += 1801
    with journal.changing():
        journal.trim()
        assert journal.losses == [("a", 1, "old")]
    assert numbers(journal) == [2]


def test_a_rare_event_is_found_behind_many_others(journal: EventJournal) -> None:
    register(journal, falls=EventFilter(kinds=("fall",)))
    add(journal, *range(900))
    add(journal, 900, kind="fall")
    batch, looks = journal.read("falls", 0, 8), 1
    while not batch.events:
        batch, looks = journal.read("falls", batch.last, 8), looks + 1
    assert [event.data["number"] for _, event in batch.events] == [900]
    assert looks > 1  # others may use the journal in between


def test_states_are_kept_by_their_newest(journal: EventJournal) -> None:
    with journal.changing():
        journal.set_states({"cameras/a": {"people": 1}, "cameras/b": {"people": 2}})
        journal.set_states({"cameras/a": None})
    found = journal.states(0)
    assert [(source, state) for source, _, state in found] == [("cameras/b", {"people": 2}), ("cameras/a", None)]
    assert journal.states(found[-1][1]) == []
