"""A name server like Docker's for a service, whose A records are the running replicas."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable
from typing import Self

_HEADER = struct.Struct(">6H")
_A, _IN = 1, 1
_TTL_S = 1


class NameServer:
    """Serves on a free UDP port of the loopback, in a thread. A context manager.

    Every name has the same `addresses`, which may be set at any time.
    """

    def __init__(self, addresses: Iterable[str] = ()) -> None:
        self.addresses = list(addresses)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="name-server")

    @property
    def address(self) -> str:
        """Host and port."""
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, peer = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(answer(query, self.addresses), peer)


def answer(query: bytes, addresses: Iterable[str]) -> bytes:
    """Return the response to a query with one question (RFC 1035, section 4). Only queries for A get records."""
    number, flags, *_ = _HEADER.unpack_from(query)
    end = query.index(b"\0", _HEADER.size) + 5  # the name, its type and class
    question = query[_HEADER.size : end]
    asked = struct.unpack(">2H", question[-4:])
    records = [
        struct.pack(">HHHIH", 0xC000 | _HEADER.size, _A, _IN, _TTL_S, 4) + socket.inet_aton(address)
        for address in (addresses if asked == (_A, _IN) else ())
    ]
    authoritative = 0x8400 | flags & 0x0100  # an answer; whether recursion was desired is repeated
    return _HEADER.pack(number, authoritative, 1, len(records), 0, 0) + question + b"".join(records)
