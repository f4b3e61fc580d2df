"""Which hosts may be connected to: the setting `camera_hosts`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True)
class CameraHosts:
    """Host names, ends of names (`*.example.com`) and networks that sources may lead to.

    A host is allowed by its name or by the address that it has when it is connected to. A name does not allow an
    address of this machine, of its link or of a group, such as 127.0.0.1 or 169.254.169.254: those must be listed
    themselves, as an allowed name may come to have them.

    everything: `*` was listed. own: a host that is allowed whatever its address is, as the operator named it.
    """

    names: frozenset[str] = frozenset()
    ends: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    everything: bool = False
    own: str = ""

    @staticmethod
    def parse(entries: Iterable[str], own: str = "") -> CameraHosts:
        """Read names, `*.example.com`, addresses, networks or `*`. Raises ValueError with a message for the user."""
        names, ends, networks, everything = set(), [], [], False
        for entry in entries:
            text = entry.strip().lower()
            try:
                networks.append(ip_network(text.strip("[]")))
                continue
            except ValueError:
                pass
            if text == "*":
                everything = True
                continue
            text = text.removesuffix(".")
            if not _NAME.fullmatch(text) or text.rpartition(".")[2].isdigit():
                raise ValueError(f"{entry!r} is no host name, *.example.com, address or network such as 10.0.0.0/24")
            if text.startswith("*."):
                ends.append(text[1:])
            else:
                names.add(text)
        return CameraHosts(frozenset(names), tuple(ends), tuple(networks), everything, _plain(own))

    def lists(self, host: str) -> bool:
        """True if a host is listed as it is written: by its name, or as an address in a network."""
        host = _plain(host)
        if self.everything or host in self.names or host.endswith(self.ends):
            return True
        try:
            return self._lists_address(_address(host))
        except ValueError:
            return False

    def permits(self, host: str, address: str) -> bool:
        """True if `host`, which has been found at the IP address `address`, may be connected to there."""
        host, found = _plain(host), _address(address)
        if self.everything or (host and host == self.own) or self._lists_address(found):
            return True
        return (host in self.names or host.endswith(self.ends)) and not _is_special(found)

    def _lists_address(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.networks)


def _plain(host: str) -> str:
    return host.strip().lower().removesuffix(".")


def _address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_special(address: IPv4Address | IPv6Address) -> bool:
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return special or address.is_reserved
