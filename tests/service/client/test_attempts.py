"""When a client retries, in simulated time."""

from __future__ import annotations

import pytest

from service.client.attempts import Attempts
from service.client.errors import UnavailableError


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def attempts(*urls: str, seconds: float = 10.0, chance: float = 1.0) -> tuple[Attempts, Clock]:
    clock = Clock()
    return Attempts(urls, seconds, clock, lambda: chance), clock


def test_pauses_double_up_to_a_second() -> None:
    tries, _ = attempts("a")
    assert [tries.failed("lost") for _ in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_pauses_are_longer_after_a_refusal() -> None:
    tries, _ = attempts("a", seconds=100.0)
    pauses = [tries.failed("full", refused=True) for _ in range(7)]
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


def test_a_restart_resets_the_time_and_the_pauses_only_on_request() -> None:
    tries, clock = attempts("a", seconds=3.0)
    assert [tries.failed("lost") for _ in range(2)] == [0.05, 0.1]
    clock.now += 2.9
    tries.restart(pauses=False)
    assert (tries.left, tries.failed("lost")) == (3.0, 0.2)
    tries.restart(pauses=True)
    assert tries.failed("lost") == 0.05


def test_random_pauses_spread_clients_of_a_lost_server() -> None:
    early, _ = attempts("a", chance=0.0)
    late, _ = attempts("a", chance=1.0)
    assert early.failed("lost") == late.failed("lost") / 2


def test_another_server_is_tried_at_once_and_all_of_them_again_after_a_pause() -> None:
    tries, _ = attempts("a", "b")
    assert tries.url == "a"
    assert tries.failed("busy", retry_after=5) == 0  # only the first server is busy
    assert tries.url == "b"
    assert tries.failed("busy", retry_after=2) == 2
    assert tries.url == "a"


def test_an_attempt_after_the_deadline_is_not_made_and_the_last_failure_is_reported() -> None:
    tries, clock = attempts("a", seconds=3.0)
    assert tries.failed("busy", retry_after=1) == 1
    clock.now += 2.5
    assert tries.left == 0.5
    with pytest.raises(UnavailableError, match=r"no answer within 3 s; the last of 2 tries: still busy"):
        tries.failed("still busy", retry_after=1)
