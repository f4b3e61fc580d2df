"""The number of connections, the share of a client, and the eviction of idle connections."""

from __future__ import annotations

import logging

import pytest

from service.api.addresses import Proxies
from service.api.connections import Connections
from service.quota import Lease, QuotaExceededError


class Opened:
    """A connection that records whether it was aborted."""

    def __init__(self, connections: Connections, peer: str) -> None:
        self.aborted = False
        self.lease: Lease = connections.open(peer)
        connections.idle(self)

    def abort(self) -> None:
        self.aborted = True
        self.lease.release()


def few(total: int = 4, *, proxies: tuple[str, ...] = ("10.0.0.1",)) -> tuple[Connections, list[str]]:
    refused: list[str] = []
    return Connections(total, 0.5, Proxies(proxies), refused=refused.append), refused


def test_at_the_limit_the_longest_idle_connection_is_evicted() -> None:
    connections, refused = few()
    first, second, third, fourth = (Opened(connections, f"10.1.0.{n}") for n in range(4))
    connections.busy(first)
    Opened(connections, "10.1.0.9")
    assert [c.aborted for c in (first, second, third, fourth)] == [False, True, False, False]
    assert refused == ["evicted"]


def test_if_all_are_busy_a_new_connection_is_refused() -> None:
    connections, refused = few()
    for number in range(4):
        connections.busy(Opened(connections, f"10.1.0.{number}"))
    with pytest.raises(QuotaExceededError):
        connections.open("10.1.0.9")
    assert refused == ["full"]


def test_a_client_is_limited_to_its_share_and_a_proxy_to_nearly_all() -> None:
    connections, refused = few(10)
    for _ in range(5):
        connections.open("10.1.0.7")
    with pytest.raises(QuotaExceededError):
        connections.open("10.1.0.7")
    assert refused == ["share"]
    connections, _ = few(10)
    for _ in range(9):
        connections.open("10.0.0.1")


def test_in_a_flood_every_refusal_is_counted_and_few_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    refused: list[str] = []
    connections = Connections(2, 0.5, Proxies(()), refused=refused.append, clock=lambda: now)
    connections.open("10.1.0.7")
    with caplog.at_level(logging.WARNING):
        for second in range(31):
            now = float(second)
            for _ in range(10):
                with pytest.raises(QuotaExceededError):
                    connections.open("10.1.0.7")
    assert len(refused) == 310
    assert len(caplog.messages) == 4
    assert caplog.messages[1].endswith("so were 99 before it")
