"""Network addresses: which client an address counts as, and which peers are trusted proxies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any


@lru_cache(4096)
def client_of(host: str) -> str:
    """Return the client that an address counts as for limits: an IPv4 address, or the /64 network of an IPv6 address.

    One customer of an IPv6 provider usually has a whole /64 network. An IPv4 address that is mapped into IPv6, as
    sockets on `::` report it, becomes the IPv4 address. A string that is not an address is returned unchanged.
    """
    try:
        address = ip_address(host.partition("%")[0])  # without the zone
    except ValueError:
        return host
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, 64), strict=False))


def peer_of(scope: Mapping[str, Any]) -> str:
    """Return the address of an ASGI scope's peer, or an empty string if the scope has none."""
    host: str = (scope.get("client") or ("",))[0]
    return host


def client_of_scope(scope: Mapping[str, Any]) -> str:
    """Return the client that an ASGI scope's peer counts as, see `client_of`."""
    return client_of(peer_of(scope))


class Proxies:
    """The load balancers whose X-Forwarded-For header is trusted."""

    def __init__(self, names: Sequence[str]) -> None:
        """names: addresses and networks, or `*` alone for every peer. Raises ValueError for anything else."""
        self._everybody = tuple(names) == ("*",)
        self._networks = () if self._everybody else tuple(ip_network(name) for name in names)

    def trusts(self, host: str) -> bool:
        """Return whether this peer is a trusted proxy."""
        return self._everybody or _is_in(self._networks, host)

    def names(self) -> list[str]:
        """Return the networks for uvicorn. IPv4 networks are repeated as sockets on `::` report them."""
        if self._everybody:
            return ["*"]
        return [str(network) for network in (*self._networks, *map(_mapped, self._networks)) if network is not None]


def _mapped(network: IPv4Network | IPv6Network) -> IPv6Network | None:
    if network.version == 6:
        return None
    return IPv6Network(f"::ffff:{network.network_address}/{96 + network.prefixlen}")


@lru_cache(4096)
def _is_in(networks: Sequence[IPv4Network | IPv6Network], host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)
