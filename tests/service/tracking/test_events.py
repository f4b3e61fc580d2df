"""Events are numbered for each person, kind and name, also after a stream was restored."""

from __future__ import annotations

from service.tracking.events import MOST_NUMBERS, EventNumbers, TrackingEvent


def happened(kind: str = "enter", name: str = "hall", person: int | None = 1) -> TrackingEvent:
    return TrackingEvent(kind, name, person, 1.0)


def numbered(numbers: EventNumbers, *events: TrackingEvent, known: tuple[int, ...] = (1, 2)) -> list[int]:
    return [event.number for event in numbers.number(events, known)]


def test_every_person_kind_and_name_is_counted_apart() -> None:
    numbers = EventNumbers()
    events = happened(), happened(kind="leave"), happened(), happened(person=2), happened(name="till"), happened()
    assert numbered(numbers, *events) == [1, 1, 2, 1, 1, 3]
    assert numbered(numbers, happened(person=None), happened(person=None)) == [1, 2]


def test_the_same_event_after_an_older_state_has_the_same_number() -> None:
    first, second = EventNumbers(), EventNumbers()
    numbered(first, happened())
    older = first.state()
    assert numbered(first, happened(), happened(person=2)) == [2, 1]
    second.restore(older)
    assert numbered(second, happened(), happened(person=2)) == [2, 1]


def test_the_numbers_of_people_who_are_forgotten_are_dropped() -> None:
    numbers = EventNumbers()
    numbered(numbers, happened(person=1), happened(person=2), happened(person=None))
    numbered(numbers, happened(person=3), known=(2,))
    assert numbers.state() == {("enter", "hall"): {0: 1, 2: 1, 3: 1}}
    assert numbered(numbers, happened(kind="leave", person=4), known=()) == [1]
    assert numbers.state() == {("enter", "hall"): {0: 1}, ("leave", "hall"): {4: 1}}


def test_the_numbers_are_bounded() -> None:
    numbers = EventNumbers()
    everybody = tuple(range(1, 101))
    for zone in range(MOST_NUMBERS // 100 + 1):
        numbered(numbers, *(happened(name=str(zone), person=n) for n in everybody), known=everybody)
    kept = numbers.state()
    assert sum(map(len, kept.values())) <= MOST_NUMBERS
    assert numbered(numbers, happened(name="0", person=100), known=everybody) == [2]


def test_documents_have_only_members_that_apply() -> None:
    event = TrackingEvent("fall", "fall", 3, 1.0, 2, values={"speed": 1.23456, "how": "fast"})
    assert event.document() == {"kind": "fall", "name": "fall", "id": 3, "speed": 1.235, "how": "fast"}
    assert TrackingEvent("cross", "door", None, 1.0, direction="left").document() == {
        "kind": "cross",
        "name": "door",
        "direction": "left",
    }
