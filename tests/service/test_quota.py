"""Quotas: the total, the share of a client, and leases."""

from __future__ import annotations

import pytest

from service.quota import Bucket, ClientBuckets, Quota, QuotaExceededError


def test_all_clients_together_hold_at_most_the_total() -> None:
    quota = Quota("requests", total=3)
    leases = [quota.take(client) for client in "abc"]
    with pytest.raises(QuotaExceededError, match=r"3 of 3 requests are taken, 1 more do not fit") as refusal:
        quota.take("d")
    assert refusal.value.reason == "full"
    leases[0].release()
    quota.take("d")


def test_a_client_holds_at_most_its_share() -> None:
    quota = Quota("connections", total=8, share=0.5)
    quota.take("greedy", 4)
    with pytest.raises(
        QuotaExceededError, match=r"one client may have 4 connections at once, this would be 5"
    ) as refusal:
        quota.take("greedy")
    assert refusal.value.reason == "share"
    quota.take("modest", 4)


def test_a_client_may_always_hold_one() -> None:
    Quota("streams", total=1, share=0.1).take("only")


def test_a_lease_that_cannot_grow_keeps_its_amount() -> None:
    quota = Quota("bytes", total=100)
    with quota.take("a", 60) as lease:
        with pytest.raises(QuotaExceededError):
            lease.grow(50)
        assert (lease.amount, quota.held) == (60, 60)
        lease.grow(-20)
        assert (lease.amount, quota.held_by("a")) == (40, 40)
    assert (quota.held, quota.held_by("a")) == (0, 0)


def test_releasing_twice_gives_the_amount_back_once() -> None:
    quota = Quota("requests", total=2)
    quota.take("a")
    lease = quota.take("a")
    lease.release()
    lease.release()
    assert quota.held == 1


def test_clients_that_hold_nothing_are_forgotten() -> None:
    quota = Quota("requests", total=2)
    for number in range(1000):
        quota.take(f"client {number}").release()
    assert not quota._by_client


def test_a_negative_balance_recovers_with_time() -> None:
    bucket = Bucket(rate=10.0, burst=20.0, now=100.0)
    assert bucket.charge(20, 100.0) == 0.0
    assert bucket.charge(30, 100.0) == 3.0
    assert bucket.charge(5, 101.0) == 2.5
    assert bucket.charge(0, 110.0) == 0.0
    assert bucket.tokens == 20.0


def test_each_client_has_a_bucket_of_its_own_that_gives_what_is_left() -> None:
    buckets = ClientBuckets(rate=10, burst=20)
    assert buckets.of("a", 100.0).take_some(15, 100.0) == 15
    assert buckets.of("a", 100.0).take_some(15, 100.0) == 5
    assert buckets.of("a", 100.0).take_some(15, 100.05) == 0
    assert buckets.of("b", 100.05).take_some(15, 100.05) == 15
    assert buckets.of("a", 101.0).take_some(15, 101.0) == 10
