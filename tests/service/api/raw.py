"""Raw HTTP connections and websockets (RFC 6455), for requests and frames that no library would send."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import Self

_HEAD = "\r\n".join(
    (
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
)


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

    def reset(self) -> None:
        """Close the connection with a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

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


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame from the server. opcode: 1 text, 2 binary, 8 close, 9 ping, 10 pong; 8 also if the connection ended."""

    opcode: int
    data: bytes = b""

    @property
    def code(self) -> int:
        """The code of a close frame, 1006 if the connection ended without one."""
        return int(struct.unpack(">H", self.data[:2])[0]) if self.data else 1006


class RawSocket:
    """A connection after its handshake. texts: all text messages that were received."""

    def __init__(self, port: int, path: str = "/stream", *, source: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        self.texts: list[str] = []
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(20)
        self._socket.bind((source, 0))
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(f"GET {path} HTTP/1.1\r\n{_HEAD}\r\n\r\n".encode())
        self._stream = self._socket.makefile("rb")
        status = self._stream.readline()
        assert b"101" in status, status
        while self._stream.readline() != b"\r\n":
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def send_text(self, text: str) -> None:
        """Send a whole text message."""
        self.send(1, text.encode())

    def send(self, opcode: int, data: bytes, *, last: bool = True, masked: bool = True, length: int = -1) -> None:
        """Send a frame. length: the length in its header, if that is not the length of `data`."""
        size = len(data) if length < 0 else length
        head = bytes([opcode | (0x80 if last else 0)])
        mark = 0x80 if masked else 0
        if size < 126:
            head += bytes([mark | size])
        elif size < 2**16:
            head += bytes([mark | 126]) + struct.pack(">H", size)
        else:
            head += bytes([mark | 127]) + struct.pack(">Q", size)
        if masked:
            mask = os.urandom(4)
            pad = mask * (len(data) // 4 + 1)
            whole = int.from_bytes(data, "big") ^ int.from_bytes(pad[: len(data)], "big")
            head, data = head + mask, whole.to_bytes(len(data), "big")
        self.send_bytes(head + data)

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def receive(self) -> Frame:
        """Receive the next frame. The server does not fragment messages."""
        try:
            head = self._read(2)
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(self._read(2 if size == 126 else 8), "big")
            frame = Frame(head[0] & 0x0F, self._read(size))
        except (EOFError, ConnectionError):
            return Frame(8)
        if frame.opcode == 1:
            self.texts.append(frame.data.decode())
        return frame

    def until(self, opcode: int) -> Frame:
        """Receive frames until one has this opcode, or the connection ends."""
        while (frame := self.receive()).opcode not in (opcode, 8):
            pass
        return frame

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError
        return data
