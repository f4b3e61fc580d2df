"""Clients of one priority are served equally in work units; within a client the earliest deadline goes first."""

from __future__ import annotations

from collections import Counter
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from service.batching.fair_queue import CREDIT, Backlog, FairQueue
from service.batching.types import Priority, WorkItem

LARGEST = 8


def entry(client: str = "a", units: int = 1, deadline: float = inf, arrived: float = 0.0) -> WorkItem:
    return WorkItem(units, Priority.STILL, client, deadline, arrived)


entries = st.lists(
    st.builds(
        entry,
        client=st.sampled_from("abc"),
        units=st.integers(1, LARGEST),
        deadline=st.one_of(st.just(inf), st.integers(0, 3).map(float)),
    ),
    max_size=40,
)


def filled(waiting: list[WorkItem]) -> FairQueue[WorkItem]:
    queue = FairQueue[WorkItem]()
    for each in waiting:
        queue.push(each)
    return queue


def pop(queue: FairQueue[WorkItem]) -> WorkItem:
    units = queue.head.units
    head = queue.take(units)
    head.units = units
    return head


@given(entries)
def test_every_entry_is_popped_once(waiting: list[WorkItem]) -> None:
    queue = filled(waiting)
    assert (queue.items, queue.units) == (len(waiting), sum(e.units for e in waiting))

    popped = [pop(queue) for _ in waiting]

    assert set(map(id, popped)) == set(map(id, waiting))
    assert (queue.items, queue.units) == (0, 0)


@given(entries)
def test_entries_of_a_client_are_ordered_by_deadline_then_by_arrival(waiting: list[WorkItem]) -> None:
    queue = filled(waiting)
    popped = [pop(queue) for _ in waiting]
    for client in "abc":
        ours = [e for e in waiting if e.client == client]
        assert [e for e in popped if e.client == client] == sorted(ours, key=lambda e: e.deadline)


@given(entries)
def test_waiting_clients_never_differ_by_more_than_the_largest_entry(waiting: list[WorkItem]) -> None:
    queue = filled(waiting)
    served: Counter[str] = Counter()
    left = Counter(e.client for e in waiting)
    while queue.items:
        popped = pop(queue)
        served[popped.client] += popped.units
        left[popped.client] -= 1
        still = [served[client] for client in "abc" if left[client]]
        if still:
            assert max(still) - min(still) <= LARGEST


@given(entries, st.integers(0, 40), st.integers(1, LARGEST))
def test_a_new_client_waits_for_an_equal_share_of_the_others_not_for_their_whole_backlog(
    waiting: list[WorkItem], popped_before: int, units: int
) -> None:
    queue = filled(waiting)
    for _ in range(min(popped_before, len(waiting))):
        pop(queue)
    newcomer = entry("new", units)
    queue.push(newcomer)

    ahead: Counter[str] = Counter()
    while (popped := pop(queue)) is not newcomer:
        ahead[popped.client] += popped.units

    assert all(theirs <= units + LARGEST for theirs in ahead.values())


@given(entries, st.data())
def test_removed_entries_are_neither_popped_nor_counted(waiting: list[WorkItem], data: st.DataObject) -> None:
    queue = filled(waiting)
    removed = [e for e in waiting if data.draw(st.booleans())]
    assert all(queue.remove(e) for e in removed)
    left = [e for e in waiting if e not in removed]
    assert (queue.items, queue.units) == (len(left), sum(e.units for e in left))
    assert all(queue.backlog.of(client) == sum(e.units for e in left if e.client == client) for client in "abc")
    assert {id(pop(queue)) for _ in left} == {id(e) for e in left}


def test_removing_an_entry_that_does_not_wait_returns_false() -> None:
    popped, unknown = entry(), entry()
    queue = filled([popped, entry()])
    pop(queue)
    assert not queue.remove(popped)
    assert not queue.remove(unknown)
    assert not queue.remove(entry("unknown"))


def test_a_client_with_large_entries_gets_no_more_units() -> None:
    queue = filled([entry("large", 4) for _ in range(5)] + [entry("small", 1) for _ in range(20)])
    first = [pop(queue) for _ in range(10)]
    assert sum(e.units for e in first if e.client == "large") == 8
    assert sum(e.units for e in first if e.client == "small") == 8


def test_a_returning_client_has_no_credit_and_no_debt() -> None:
    queue = filled([entry("a") for _ in range(10)] + [entry("b")])
    for _ in range(6):
        pop(queue)
    for _ in range(4):
        queue.push(entry("b"))
    assert [pop(queue).client for _ in range(8)] == ["a", "b"] * 4


def flooded() -> FairQueue[WorkItem]:
    """A queue that one client has been flooding for a long time and still floods."""
    queue = filled([entry("flood") for _ in range(200)])
    for _ in range(100):
        pop(queue)
    return queue


def test_during_a_flood_a_new_client_is_ahead_by_its_credit_and_no_more() -> None:
    queue = flooded()
    for _ in range(100):
        queue.push(entry("late"))
    assert [pop(queue).client for _ in range(CREDIT + 4)] == ["late"] * CREDIT + ["flood", "late"] * 2


def test_during_a_flood_a_returning_client_is_ahead_by_the_units_served_to_the_flood_meanwhile() -> None:
    queue = flooded()
    queue.push(entry("b"))
    assert [pop(queue).client for _ in range(6)] == ["b"] + ["flood"] * 5
    for _ in range(CREDIT + 4):
        queue.push(entry("b"))
    assert [pop(queue).client for _ in range(CREDIT + 4)] == ["b"] * CREDIT + ["flood", "b"] * 2


def test_a_client_whose_next_item_always_arrives_just_after_the_last_floods_too() -> None:
    queue = FairQueue[WorkItem]()
    for _ in range(100):
        queue.push(entry("flood"))
        pop(queue)
    for client in ("flood", "late"):
        for _ in range(CREDIT + 1):
            queue.push(entry(client))
    assert [pop(queue).client for _ in range(CREDIT + 2)] == ["late"] * CREDIT + ["flood", "late"]


def test_a_client_that_leaves_and_returns_gets_its_credit_once() -> None:
    queue = flooded()
    first = []
    for _ in range(CREDIT + 4):
        queue.push(entry("often"))
        first.append(pop(queue).client)
        while queue.backlog.of("often"):
            pop(queue)
    assert first == ["often"] * CREDIT + ["flood"] * 4


def test_an_endless_stream_of_new_clients_does_not_starve_a_waiting_one() -> None:
    queue = flooded()
    turns = []  # of new clients, between two turns of the flood
    for number in range(10):
        queue.push(entry(f"new {number}"))
        turns.append(0)
        while pop(queue).client != "flood":
            turns[-1] += 1
            queue.push(entry(f"new {number}.{turns[-1]}"))
    assert max(turns[1:]) < 30


def test_a_large_urgent_entry_delays_its_client() -> None:
    queue = filled([entry("a", 1), entry("b", 1), entry("a", 8, deadline=1.0)])
    assert [pop(queue).client for _ in range(3)] == ["b", "a", "a"]


def test_of_two_simultaneous_clients_the_one_with_the_smaller_entry_is_first() -> None:
    queue = filled([entry("large", 8), entry("small")])
    assert [pop(queue).client for _ in range(2)] == ["small", "large"]


def test_a_client_that_always_has_one_large_entry_waiting_gets_no_more_units() -> None:
    queue = filled([entry("large", 8), *(entry("small") for _ in range(100))])
    served: Counter[str] = Counter()
    while served["small"] < 80:
        popped = pop(queue)
        served[popped.client] += popped.units
        if popped.client == "large":
            queue.push(entry("large", 8))
    assert abs(served["large"] - served["small"]) <= 8


def test_ahead_counts_a_flood_only_up_to_its_share() -> None:
    queue = filled([entry("flood") for _ in range(100)] + [entry("small") for _ in range(2)])
    assert queue.backlog.ahead(1, "new") == 1 + 1 + 1
    assert queue.backlog.ahead(3, "new") == 3 + 3 + 2
    assert queue.backlog.ahead(1, "small") == 3 + 3
    assert queue.backlog.ahead(1, "flood") == 101 + 2


@given(entries, st.sampled_from("abcd"), st.integers(1, LARGEST))
def test_ahead_is_the_sum_of_all_backlogs_each_limited_to_the_clients_own(
    waiting: list[WorkItem], client: str, units: int
) -> None:
    queue = filled(waiting)
    for _ in waiting[::2]:
        pop(queue)
    own = queue.backlog.of(client) + units
    assert queue.backlog.ahead(units, client) == own + sum(min(queue.backlog.of(c), own) for c in "abcd" if c != client)


def test_oldest_is_the_longest_wait_whatever_the_order() -> None:
    queue = filled([entry(arrived=3.0, deadline=9.0), entry(arrived=1.0), entry("b", arrived=2.0)])
    assert queue.oldest == 1.0
    assert FairQueue[WorkItem]().oldest == inf


CHANGES = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-5, 9)), max_size=40)


@given(CHANGES, st.integers(1, 9), st.sampled_from("abcde"))
def test_ahead_of_a_backlog_counts_each_other_client_up_to_ones_own_units(
    changes: list[tuple[str, int]], units: int, client: str
) -> None:
    backlog, held = Backlog(), Counter[str]()
    for other, change in changes:
        change = max(change, -held[other])  # a client cannot give up more units than it has
        backlog.change(other, change)
        held[other] += change
    assert backlog.total == held.total()
    assert {other: backlog.of(other) for other in "abcde"} == {other: held[other] for other in "abcde"}
    own = held[client] + units
    expected = own + sum(min(held[other], own) for other in "abcde" if other != client)
    assert backlog.ahead(units, client) == expected
