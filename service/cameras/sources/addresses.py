"""The addresses of a host that may be connected to, and the certificates that are trusted."""

from __future__ import annotations

import os
import socket

import certifi

from service.camera_hosts import CameraHosts
from service.cameras.sources.errors import SourceError


def permitted_addresses(host: str, port: int, hosts: CameraHosts) -> list[str]:
    """Resolve a host once. The caller connects to these addresses, so that another answer later changes nothing.

    Raises SourceError if it has no address, or none that may be connected to.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceError(f"the host {host} is not known ({getattr(error, 'strerror', None) or error})") from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    permitted = [address for address in addresses if hosts.permits(host, address)]
    if not permitted:
        raise SourceError(refusal(host, addresses[0], hosts))
    return permitted


def refusal(host: str, address: str, hosts: CameraHosts) -> str:
    """Say why a host is not connected to."""
    if host in ("", address):
        return f"{address} may not be connected to: the setting camera_hosts does not list it"
    what = f"its address {address}" if hosts.lists(host) else "it"
    return f"{host} may not be connected to: the setting camera_hosts does not list {what}"


def trusted_certificates() -> str:
    """The file of the authorities whose certificates are accepted: SSL_CERT_FILE, or else certifi's."""
    return os.environ.get("SSL_CERT_FILE") or certifi.where()
