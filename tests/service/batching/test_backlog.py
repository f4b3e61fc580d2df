"""Who has how much work waiting or on its way."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service.batching.backlog import Backlog

CHANGES = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-5, 9)), max_size=40)


@given(CHANGES, st.integers(1, 9), st.sampled_from("abcde"))
def test_every_other_client_runs_at_most_as_much_ahead_as_oneself(
    changes: list[tuple[str, int]], units: int, client: str
) -> None:
    backlog, held = Backlog(), Counter[str]()
    for who, change in changes:
        change = max(change, -held[who])  # nobody gives up more than he has
        backlog.change(who, change)
        held[who] += change
    assert backlog.total == held.total()
    assert {who: backlog.of(who) for who in "abcde"} == {who: held[who] for who in "abcde"}
    own = held[client] + units
    assert backlog.ahead(units, client) == own + sum(min(held[who], own) for who in "abcde" if who != client)
