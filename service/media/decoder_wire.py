"""Messages between the server and a decoder process: JSON documents, each preceded by its length."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LENGTH = struct.Struct(">I")
_MAX_DOCUMENT = 1 << 16


def send_document(connection: socket.socket, **members: Any) -> None:
    body = json.dumps(members).encode()
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive_document(connection: socket.socket) -> dict[str, Any]:
    """Receive a document. Raises EOFError if the other side is gone, ValueError for an invalid one, and OSError."""
    (length,) = _LENGTH.unpack(receive(connection, _LENGTH.size))
    if length > _MAX_DOCUMENT:
        raise ValueError(f"a document of {length} bytes")
    document: dict[str, Any] = json.loads(receive(connection, length))
    return document


def receive(connection: socket.socket, size: int) -> bytearray:
    """Receive `size` bytes. Raises EOFError if the other side is gone, and OSError."""
    buffer = bytearray(size)
    fill(connection, memoryview(buffer))
    return buffer


def fill(connection: socket.socket, view: memoryview) -> None:
    """Receive bytes until `view` is full. Raises EOFError if the other side is gone, and OSError."""
    while len(view):
        if not (size := connection.recv_into(view)):
            raise EOFError("the other side is gone")
        view = view[size:]
