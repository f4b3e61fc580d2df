"""Clients by network address, and trusted proxies."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from service.api.addresses import Proxies, client_of


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), ("", ""), ("unix", "unix"),
    ],
)  # fmt: skip
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(host: str, client: str) -> None:
    assert client_of(host) == client


def test_proxies_are_recognised_by_ipv4_and_mapped_addresses() -> None:
    proxies = Proxies(("127.0.0.1", "10.0.0.0/8", "::1"))
    for host in ("127.0.0.1", "::ffff:127.0.0.1", "10.9.8.7", "::ffff:10.9.8.7", "::1"):
        assert proxies.trusts(host)
    for host in ("127.0.0.2", "::ffff:127.0.0.2", "::2", "", "unix"):
        assert not proxies.trusts(host)
    assert Proxies(("*",)).trusts("anything")
    assert Proxies(("*",)).names() == ["*"]
    networks = [ip_network(name) for name in Proxies(("10.0.0.0/8",)).names()]  # Python 3.13 formats them differently
    assert networks == [ip_network("10.0.0.0/8"), ip_network("::ffff:a00:0/104")]
