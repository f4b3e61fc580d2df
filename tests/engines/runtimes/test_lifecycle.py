"""Calls under way."""

from __future__ import annotations

from engines.runtimes.lifecycle import SharedCores


def test_shared_cores_say_which_call_is_alone() -> None:
    shared = SharedCores()
    with shared as first, shared as second:
        assert (first, second) == (True, False)
    with shared as again:
        assert again
