"""Clients of one priority take turns by work units; within a client the earliest deadline goes first."""

from __future__ import annotations

from collections import Counter
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from service.batching.fair_queue import CREDIT, Entry, Lane, Priority

FATTEST = 8


def entry(client: str = "a", units: int = 1, deadline: float = inf, arrived: float = 0.0) -> Entry:
    return Entry(units, Priority.STILL, client, deadline, arrived)


entries = st.lists(
    st.builds(
        entry,
        client=st.sampled_from("abc"),
        units=st.integers(1, FATTEST),
        deadline=st.one_of(st.just(inf), st.integers(0, 3).map(float)),
    ),
    max_size=40,
)


def filled(waiting: list[Entry]) -> Lane[Entry]:
    lane = Lane[Entry]()
    for each in waiting:
        lane.push(each)
    return lane


@given(entries)
def test_everything_that_waits_has_its_turn_once(waiting: list[Entry]) -> None:
    lane = filled(waiting)
    assert (lane.items, lane.units) == (len(waiting), sum(e.units for e in waiting))

    popped = [lane.pop() for _ in waiting]

    assert set(map(id, popped)) == set(map(id, waiting))
    assert (lane.items, lane.units) == (0, 0)


@given(entries)
def test_within_a_client_the_earliest_deadline_is_first_and_equals_keep_their_order(waiting: list[Entry]) -> None:
    lane = filled(waiting)
    popped = [lane.pop() for _ in waiting]
    for client in "abc":
        ours = [e for e in waiting if e.client == client]
        assert [e for e in popped if e.client == client] == sorted(ours, key=lambda e: e.deadline)


@given(entries)
def test_clients_that_wait_never_differ_by_more_than_one_fat_item(waiting: list[Entry]) -> None:
    lane = filled(waiting)
    served: Counter[str] = Counter()
    left = Counter(e.client for e in waiting)
    while lane.items:
        popped = lane.pop()
        served[popped.client] += popped.units
        left[popped.client] -= 1
        still = [served[client] for client in "abc" if left[client]]
        if still:
            assert max(still) - min(still) <= FATTEST


@given(entries, st.integers(0, 40), st.integers(1, FATTEST))
def test_a_newcomer_waits_for_its_share_of_the_others_and_not_for_their_queue(
    waiting: list[Entry], popped_before: int, units: int
) -> None:
    lane = filled(waiting)
    for _ in range(min(popped_before, len(waiting))):
        lane.pop()
    newcomer = entry("new", units)
    lane.push(newcomer)

    ahead: Counter[str] = Counter()
    while (popped := lane.pop()) is not newcomer:
        ahead[popped.client] += popped.units

    assert all(theirs <= units + FATTEST for theirs in ahead.values())


@given(entries, st.data())
def test_what_is_removed_has_no_turn_and_no_weight(waiting: list[Entry], data: st.DataObject) -> None:
    lane = filled(waiting)
    gone = [e for e in waiting if data.draw(st.booleans())]
    assert all(lane.remove(e) for e in gone)
    left = [e for e in waiting if e not in gone]
    assert (lane.items, lane.units) == (len(left), sum(e.units for e in left))
    assert all(lane.holdings.of(client) == sum(e.units for e in left if e.client == client) for client in "abc")
    assert {id(lane.pop()) for _ in left} == {id(e) for e in left}


def test_what_does_not_wait_cannot_be_removed() -> None:
    popped, strange = entry(), entry()
    lane = filled([popped, entry()])
    lane.pop()
    assert not lane.remove(popped)
    assert not lane.remove(strange)
    assert not lane.remove(entry("unknown"))


def test_a_client_with_fat_items_gets_no_more_work_done() -> None:
    lane = filled([entry("fat", 4) for _ in range(5)] + [entry("thin", 1) for _ in range(20)])
    first = [lane.pop() for _ in range(10)]
    assert sum(e.units for e in first if e.client == "fat") == 8
    assert sum(e.units for e in first if e.client == "thin") == 8


def test_a_client_that_comes_back_has_saved_nothing_and_owes_nothing() -> None:
    lane = filled([entry("a") for _ in range(10)] + [entry("b")])
    for _ in range(6):
        lane.pop()
    for _ in range(4):
        lane.push(entry("b"))
    assert [lane.pop().client for _ in range(8)] == ["a", "b"] * 4


def flooded() -> Lane[Entry]:
    """A lane in which one client has flooded for long and goes on."""
    lane = filled([entry("flood") for _ in range(200)])
    for _ in range(100):
        lane.pop()
    return lane


def test_beside_a_flood_a_client_that_comes_is_ahead_by_its_credit_and_no_more() -> None:
    lane = flooded()
    for _ in range(100):
        lane.push(entry("late"))
    assert [lane.pop().client for _ in range(CREDIT + 4)] == ["late"] * CREDIT + ["flood", "late"] * 2


def test_beside_a_flood_a_client_that_comes_back_is_ahead_by_what_the_flood_had_meanwhile() -> None:
    lane = flooded()
    lane.push(entry("b"))
    assert [lane.pop().client for _ in range(6)] == ["b"] + ["flood"] * 5
    for _ in range(CREDIT + 4):
        lane.push(entry("b"))
    assert [lane.pop().client for _ in range(CREDIT + 4)] == ["b"] * CREDIT + ["flood", "b"] * 2


def test_a_client_that_leaves_and_comes_back_has_its_credit_once() -> None:
    lane = flooded()
    first = []
    for _ in range(CREDIT + 4):
        lane.push(entry("often"))
        first.append(lane.pop().client)
        while lane.holdings.of("often"):
            lane.pop()
    assert first == ["often"] * CREDIT + ["flood"] * 4


def test_new_clients_without_end_do_not_keep_the_turn_from_one_that_waits() -> None:
    lane = flooded()
    turns = []  # of new clients, between two of the flood
    for number in range(10):
        lane.push(entry(f"new {number}"))
        turns.append(0)
        while lane.pop().client != "flood":
            turns[-1] += 1
            lane.push(entry(f"new {number}.{turns[-1]}"))
    assert max(turns[1:]) < 30


def test_an_urgent_fat_item_costs_its_client_its_turn() -> None:
    lane = filled([entry("a", 1), entry("b", 1), entry("a", 8, deadline=1.0)])
    assert [lane.pop().client for _ in range(3)] == ["b", "a", "a"]


def test_of_two_that_come_together_the_smaller_item_is_first() -> None:
    lane = filled([entry("fat", 8), entry("thin")])
    assert [lane.pop().client for _ in range(2)] == ["thin", "fat"]


def test_a_client_that_never_has_more_than_one_fat_item_waiting_gets_no_more_either() -> None:
    lane = filled([entry("fat", 8), *(entry("thin") for _ in range(100))])
    served: Counter[str] = Counter()
    while served["thin"] < 80:
        popped = lane.pop()
        served[popped.client] += popped.units
        if popped.client == "fat":
            lane.push(entry("fat", 8))
    assert abs(served["fat"] - served["thin"]) <= 8


def test_ahead_counts_a_flood_only_up_to_its_share() -> None:
    lane = filled([entry("flood") for _ in range(100)] + [entry("small") for _ in range(2)])
    assert lane.holdings.ahead(1, "new") == 1 + 1 + 1
    assert lane.holdings.ahead(3, "new") == 3 + 3 + 2
    assert lane.holdings.ahead(1, "small") == 3 + 3
    assert lane.holdings.ahead(1, "flood") == 101 + 2


@given(entries, st.sampled_from("abcd"), st.integers(1, FATTEST))
def test_ahead_is_what_the_clients_hold_up_to_what_this_one_does(waiting: list[Entry], client: str, units: int) -> None:
    lane = filled(waiting)
    for _ in waiting[::2]:
        lane.pop()
    own = lane.holdings.of(client) + units
    assert lane.holdings.ahead(units, client) == own + sum(min(lane.holdings.of(c), own) for c in "abcd" if c != client)


def test_oldest_is_the_longest_wait_whatever_its_turn() -> None:
    lane = filled([entry(arrived=3.0, deadline=9.0), entry(arrived=1.0), entry("b", arrived=2.0)])
    assert lane.oldest == 1.0
    assert Lane[Entry]().oldest == inf
