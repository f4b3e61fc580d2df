"""Clients of one priority take turns by work units; within a client the earliest deadline goes first."""

from __future__ import annotations

from collections import Counter
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from service.batching.fair_queue import CREDIT, FairQueue, Priority, WorkItem

FATTEST = 8


def entry(client: str = "a", units: int = 1, deadline: float = inf, arrived: float = 0.0) -> WorkItem:
    return WorkItem(units, Priority.STILL, client, deadline, arrived)


entries = st.lists(
    st.builds(
        entry,
        client=st.sampled_from("abc"),
        units=st.integers(1, FATTEST),
        deadline=st.one_of(st.just(inf), st.integers(0, 3).map(float)),
    ),
    max_size=40,
)


def filled(waiting: list[WorkItem]) -> FairQueue[WorkItem]:
    queue = FairQueue[WorkItem]()
    for each in waiting:
        queue.push(each)
    return queue


@given(entries)
def test_everything_that_waits_has_its_turn_once(waiting: list[WorkItem]) -> None:
    queue = filled(waiting)
    assert (queue.items, queue.units) == (len(waiting), sum(e.units for e in waiting))

    popped = [queue.pop() for _ in waiting]

    assert set(map(id, popped)) == set(map(id, waiting))
    assert (queue.items, queue.units) == (0, 0)


@given(entries)
def test_within_a_client_the_earliest_deadline_is_first_and_equals_keep_their_order(waiting: list[WorkItem]) -> None:
    queue = filled(waiting)
    popped = [queue.pop() for _ in waiting]
    for client in "abc":
        ours = [e for e in waiting if e.client == client]
        assert [e for e in popped if e.client == client] == sorted(ours, key=lambda e: e.deadline)


@given(entries)
def test_clients_that_wait_never_differ_by_more_than_one_fat_item(waiting: list[WorkItem]) -> None:
    queue = filled(waiting)
    served: Counter[str] = Counter()
    left = Counter(e.client for e in waiting)
    while queue.items:
        popped = queue.pop()
        served[popped.client] += popped.units
        left[popped.client] -= 1
        still = [served[client] for client in "abc" if left[client]]
        if still:
            assert max(still) - min(still) <= FATTEST


@given(entries, st.integers(0, 40), st.integers(1, FATTEST))
def test_a_newcomer_waits_for_its_share_of_the_others_and_not_for_their_queue(
    waiting: list[WorkItem], popped_before: int, units: int
) -> None:
    queue = filled(waiting)
    for _ in range(min(popped_before, len(waiting))):
        queue.pop()
    newcomer = entry("new", units)
    queue.push(newcomer)

    ahead: Counter[str] = Counter()
    while (popped := queue.pop()) is not newcomer:
        ahead[popped.client] += popped.units

    assert all(theirs <= units + FATTEST for theirs in ahead.values())


@given(entries, st.data())
def test_what_is_removed_has_no_turn_and_no_weight(waiting: list[WorkItem], data: st.DataObject) -> None:
    queue = filled(waiting)
    gone = [e for e in waiting if data.draw(st.booleans())]
    assert all(queue.remove(e) for e in gone)
    left = [e for e in waiting if e not in gone]
    assert (queue.items, queue.units) == (len(left), sum(e.units for e in left))
    assert all(queue.backlog.of(client) == sum(e.units for e in left if e.client == client) for client in "abc")
    assert {id(queue.pop()) for _ in left} == {id(e) for e in left}


def test_what_does_not_wait_cannot_be_removed() -> None:
    popped, strange = entry(), entry()
    queue = filled([popped, entry()])
    queue.pop()
    assert not queue.remove(popped)
    assert not queue.remove(strange)
    assert not queue.remove(entry("unknown"))


def test_a_client_with_fat_items_gets_no_more_work_done() -> None:
    queue = filled([entry("fat", 4) for _ in range(5)] + [entry("thin", 1) for _ in range(20)])
    first = [queue.pop() for _ in range(10)]
    assert sum(e.units for e in first if e.client == "fat") == 8
    assert sum(e.units for e in first if e.client == "thin") == 8


def test_a_client_that_comes_back_has_saved_nothing_and_owes_nothing() -> None:
    queue = filled([entry("a") for _ in range(10)] + [entry("b")])
    for _ in range(6):
        queue.pop()
    for _ in range(4):
        queue.push(entry("b"))
    assert [queue.pop().client for _ in range(8)] == ["a", "b"] * 4


def flooded() -> FairQueue[WorkItem]:
    """A lane in which one client has flooded for long and goes on."""
    queue = filled([entry("flood") for _ in range(200)])
    for _ in range(100):
        queue.pop()
    return queue


def test_beside_a_flood_a_client_that_comes_is_ahead_by_its_credit_and_no_more() -> None:
    queue = flooded()
    for _ in range(100):
        queue.push(entry("late"))
    assert [queue.pop().client for _ in range(CREDIT + 4)] == ["late"] * CREDIT + ["flood", "late"] * 2


def test_beside_a_flood_a_client_that_comes_back_is_ahead_by_what_the_flood_had_meanwhile() -> None:
    queue = flooded()
    queue.push(entry("b"))
    assert [queue.pop().client for _ in range(6)] == ["b"] + ["flood"] * 5
    for _ in range(CREDIT + 4):
        queue.push(entry("b"))
    assert [queue.pop().client for _ in range(CREDIT + 4)] == ["b"] * CREDIT + ["flood", "b"] * 2


def test_a_client_that_leaves_and_comes_back_has_its_credit_once() -> None:
    queue = flooded()
    first = []
    for _ in range(CREDIT + 4):
        queue.push(entry("often"))
        first.append(queue.pop().client)
        while queue.backlog.of("often"):
            queue.pop()
    assert first == ["often"] * CREDIT + ["flood"] * 4


def test_new_clients_without_end_do_not_keep_the_turn_from_one_that_waits() -> None:
    queue = flooded()
    turns = []  # of new clients, between two of the flood
    for number in range(10):
        queue.push(entry(f"new {number}"))
        turns.append(0)
        while queue.pop().client != "flood":
            turns[-1] += 1
            queue.push(entry(f"new {number}.{turns[-1]}"))
    assert max(turns[1:]) < 30


def test_an_urgent_fat_item_costs_its_client_its_turn() -> None:
    queue = filled([entry("a", 1), entry("b", 1), entry("a", 8, deadline=1.0)])
    assert [queue.pop().client for _ in range(3)] == ["b", "a", "a"]


def test_of_two_that_come_together_the_smaller_item_is_first() -> None:
    queue = filled([entry("fat", 8), entry("thin")])
    assert [queue.pop().client for _ in range(2)] == ["thin", "fat"]


def test_a_client_that_never_has_more_than_one_fat_item_waiting_gets_no_more_either() -> None:
    queue = filled([entry("fat", 8), *(entry("thin") for _ in range(100))])
    served: Counter[str] = Counter()
    while served["thin"] < 80:
        popped = queue.pop()
        served[popped.client] += popped.units
        if popped.client == "fat":
            queue.push(entry("fat", 8))
    assert abs(served["fat"] - served["thin"]) <= 8


def test_ahead_counts_a_flood_only_up_to_its_share() -> None:
    queue = filled([entry("flood") for _ in range(100)] + [entry("small") for _ in range(2)])
    assert queue.backlog.ahead(1, "new") == 1 + 1 + 1
    assert queue.backlog.ahead(3, "new") == 3 + 3 + 2
    assert queue.backlog.ahead(1, "small") == 3 + 3
    assert queue.backlog.ahead(1, "flood") == 101 + 2


@given(entries, st.sampled_from("abcd"), st.integers(1, FATTEST))
def test_ahead_is_what_the_clients_hold_up_to_what_this_one_does(
    waiting: list[WorkItem], client: str, units: int
) -> None:
    queue = filled(waiting)
    for _ in waiting[::2]:
        queue.pop()
    own = queue.backlog.of(client) + units
    assert queue.backlog.ahead(units, client) == own + sum(min(queue.backlog.of(c), own) for c in "abcd" if c != client)


def test_oldest_is_the_longest_wait_whatever_its_turn() -> None:
    queue = filled([entry(arrived=3.0, deadline=9.0), entry(arrived=1.0), entry("b", arrived=2.0)])
    assert queue.oldest == 1.0
    assert FairQueue[WorkItem]().oldest == inf
