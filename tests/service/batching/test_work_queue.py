"""The order and the bounds of the queue, checked against a simple model of the waiting entries."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.batching.types import Priority, WorkItem
from service.batching.work_queue import WEIGHTS, WorkQueue

LARGEST = 8


def entry(
    client: str = "a", units: int = 1, priority: Priority = Priority.STILL, deadline: float = inf, arrived: float = 0.0
) -> WorkItem:
    return WorkItem(units, priority, client, deadline, arrived)


def filled(*waiting: WorkItem, max_units: int = 1000) -> WorkQueue[WorkItem]:
    queue = WorkQueue[WorkItem](max_units)
    for each in waiting:
        queue.push(each)
    return queue


class QueueMachine(RuleBasedStateMachine):
    """Entries arrive, run, expire and are cancelled in any order; each leaves once, for the right reason."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = WorkQueue[WorkItem](max_units=32)
        self.waiting: list[WorkItem] = []
        self.now = 0.0

    @rule(
        client=st.sampled_from("abc"),
        units=st.integers(1, LARGEST),
        priority=st.sampled_from(Priority),
        timeout=st.one_of(st.just(inf), st.integers(1, 5).map(float)),
    )
    def submit(self, client: str, units: int, priority: Priority, timeout: float) -> None:
        excess = self.queue.excess(units, client)
        held = sum(e.units for e in self.waiting if e.client == client)
        free = 32 - sum(e.units for e in self.waiting)
        assert (excess == 0) == (not self.waiting or held + units <= free - units)
        if not excess:
            new = entry(client, units, priority, self.now + timeout)
            self.queue.push(new)
            self.waiting.append(new)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(limit=st.integers(1, 12))
    def run(self, limit: int) -> None:
        batch, expired = self.queue.pop(limit, self.now)
        assert sum(e.units for e in batch) <= limit or len(batch) == 1
        assert all(e.deadline > self.now for e in batch)
        assert all(e.deadline <= self.now for e in expired)
        if not batch:
            assert not any(e.deadline > self.now for e in self.waiting)
        for each in batch:
            earlier = [e for e in self.waiting if (e.client, e.priority) == (each.client, each.priority)]
            assert all(e in batch or e in expired for e in earlier if e.deadline < each.deadline)
        for each in batch + expired:
            self.waiting.remove(each)  # raises if it came twice, or after it was cancelled

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        removed = data.draw(st.sampled_from(self.waiting))
        assert self.queue.remove(removed)
        assert not self.queue.remove(removed)
        self.waiting.remove(removed)

    @invariant()
    def counts_waiting_entries(self) -> None:
        assert self.queue.items == len(self.waiting)
        assert self.queue.units == sum(e.units for e in self.waiting)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


def test_priorities_share_by_weight_while_all_wait() -> None:
    queue = filled(*(entry(f"client-{n}", priority=priority) for priority in Priority for n in range(100)))
    batch, _ = queue.pop(52, 0.0)
    assert Counter(e.priority for e in batch) == {Priority.LIVE: 32, Priority.STILL: 16, Priority.BULK: 4}


@given(st.lists(st.tuples(st.sampled_from(Priority), st.integers(1, LARGEST)), min_size=1, max_size=60))
def test_no_priority_exceeds_its_share_by_more_than_the_largest_entry(work: list[tuple[Priority, int]]) -> None:
    queue = filled(*(entry(priority=priority, units=units) for priority, units in work))
    left = Counter(priority for priority, _ in work)
    had = dict.fromkeys(Priority, 0.0)  # work units divided by weight: equal for all if it is fair
    while queue.items:
        (popped,), _ = queue.pop(1, 0.0)
        had[popped.priority] += popped.units / WEIGHTS[popped.priority]
        left[popped.priority] -= 1
        still = [had[priority] for priority in Priority if left[priority]]
        if still:
            assert max(still) - min(still) <= LARGEST


def test_stills_beside_a_flood_of_live_work_come_first_and_then_get_as_much() -> None:
    queue = filled(*(entry("flood", priority=Priority.LIVE) for _ in range(100)))
    queue.pop(40, 0.0)
    for n in range(30):
        queue.push(entry(f"client-{n}"))
    first, _ = queue.pop(16, 0.0)
    then, _ = queue.pop(20, 0.0)
    assert Counter(e.priority for e in first) == {Priority.STILL: 16}
    assert Counter(e.priority for e in then) == {Priority.LIVE: 10, Priority.STILL: 10}


def test_bulk_work_is_served_while_live_work_never_ends() -> None:
    bulk = entry(priority=Priority.BULK)
    queue = filled(bulk, entry(priority=Priority.LIVE))
    live = 0
    while (popped := queue.pop(1, 0.0)[0][0]) is not bulk:
        live += popped.units
        queue.push(entry(priority=Priority.LIVE))
    assert live == 8


def test_an_urgent_entry_that_arrives_last_is_next() -> None:
    queue = filled(*(entry(priority=Priority.BULK) for _ in range(50)))
    queue.pop(20, 0.0)
    queue.push(entry(priority=Priority.LIVE))
    (popped,), _ = queue.pop(1, 0.0)
    assert popped.priority is Priority.LIVE


def test_a_priority_that_was_absent_has_no_credit() -> None:
    queue = filled(*(entry(priority=Priority.LIVE) for _ in range(100)))
    queue.pop(60, 0.0)
    for _ in range(10):
        queue.push(entry(priority=Priority.BULK))
    batch, _ = queue.pop(18, 0.0)
    assert Counter(e.priority for e in batch) == {Priority.LIVE: 16, Priority.BULK: 2}


def test_an_entry_larger_than_a_batch_runs_alone() -> None:
    queue = filled(entry(units=20), entry())
    assert [e.units for e in queue.pop(8, 0.0)[0]] == [20]
    assert [e.units for e in queue.pop(8, 0.0)[0]] == [1]


def test_a_large_entry_is_not_overtaken_by_entries_that_would_fit() -> None:
    queue = filled(entry(units=4), entry(units=6), entry(units=4))
    assert [e.units for e in queue.pop(8, 0.0)[0]] == [4]
    assert [e.units for e in queue.pop(8, 0.0)[0]] == [6]


def test_expired_entries_take_no_space_in_a_batch() -> None:
    late, alive = entry(deadline=1.0), entry(deadline=2.0)
    assert filled(late, alive).pop(1, 1.0) == ([alive], [late])


def test_a_flooding_client_leaves_space_for_new_ones() -> None:
    queue = WorkQueue[WorkItem](100)
    got = Counter[str]()
    for client in ("flood", "second", "third"):
        while not queue.excess(1, client):
            queue.push(entry(client))
            got[client] += 1
    assert got == {"flood": 50, "second": 25, "third": 12}


def test_an_empty_queue_takes_a_request_larger_than_itself() -> None:
    queue = WorkQueue[WorkItem](10)
    assert queue.excess(40, "crowd") == 0
    queue.push(entry("crowd", 40))
    assert queue.excess(1, "new") == 32


@pytest.mark.parametrize(
    ("priority", "units"),
    [
        (Priority.LIVE, 2 + 1 + 1),  # half as much still work as live work, and an eighth of it in bulk, rounded up
        (Priority.STILL, 2 + 4 + 1),
        (Priority.BULK, 2 + 16 + 8),
    ],
)
def test_ahead_counts_other_priorities_by_weight(priority: Priority, units: int) -> None:
    others = (entry("other", priority=other) for other in Priority if other is not priority for _ in range(100))
    assert filled(*others).ahead(2, priority, "new") == units


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Priority)), max_size=60),
    st.sampled_from(Priority),
)
def test_ahead_is_the_number_of_entries_that_run_first_within_one_of_each_client_and_priority(
    work: list[tuple[str, Priority]], priority: Priority
) -> None:
    queue = filled(*(entry(client, priority=theirs) for client, theirs in work))
    ours = entry("new", priority=priority)
    ahead = queue.ahead(1, priority, "new")
    queue.push(ours)
    popped = 0
    while True:
        (each,), _ = queue.pop(1, 0.0)
        popped += 1
        if each is ours:
            break
    assert popped <= ahead + 3 + 2
