"""A raw HTTP connection, for requests that no library would send."""

from __future__ import annotations

import socket
from typing import Self


class RawConnection:
    """A TCP connection to a server on the loopback. source: the client's address."""

    def __init__(self, port: int, data: bytes = b"", *, source: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(20)
        self._socket.bind((source, 0))
        self._socket.connect(("127.0.0.1", port))
        self._received = b""
        if data:
            self.send(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> bool:
        """Send all of it. Return False if the server has closed the connection before the end."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def status(self) -> int:
        """Return the status of the next response, 0 if the connection ends before one. The body goes to `body`."""
        if not self._fill(b"\r\n\r\n"):
            return 0
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        while len(self._received) < length and self._more():
            pass
        self.body, self._received = self._received[:length], self._received[length:]
        return int(lines[0].split()[1])

    def ended(self) -> bool:
        """Wait for the end of the connection. Return False if it is still open after 20 s."""
        try:
            while self._more():
                pass
        except TimeoutError:
            return False
        return True

    def _fill(self, until: bytes) -> bool:
        while until not in self._received:
            if not self._more():
                return False
        return True

    def _more(self) -> bool:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionError:
            return False
        self._received += data
        return bool(data)
