"""The building blocks of attacks: connections from one address, limited in time, that count their outcomes."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress

ADDRESS = "127.0.0.2"
"""The address of attacks. Good clients have other addresses."""

_PATIENCE_S = 5.0
_WAIT_S = 0.1
"""Pause after a refused connection. Real attackers would not wait, but their processor time must not be measured."""
_OPEN_ALL_S = 10.0
_SLACK_S = 0.1
_CHUNK = 1 << 18
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_CLOSE_CODE = re.compile(rb"\x88[\x02-\x7d]([\x03-\x13].)[^\x88]*\Z", re.DOTALL)
"""The code in the close frame at the end of a websocket's data."""
_NO_PONG = b"keepalive ping timeout"
"""The reason that websockets gives for a client that answers no pings. Its code, 1011, is also that of defects."""


class Attacker:
    """One attack on one server: host and port. outcomes: count of each status, close code or other end.

    An attack prepares what it needs, calls `begin`, and goes on while `running`.
    """

    def __init__(self, host: str, port: int, seconds: float, ready: Callable[[], None] = lambda: None) -> None:
        """seconds: duration of the attack. ready: called after the preparation; returns when the attack may begin."""
        self.host = host
        self.port = port
        self.outcomes: Counter[str] = Counter()
        self.sent = 0
        self._seconds = seconds
        self._ready = ready
        self._end = 0.0

    def begin(self) -> None:
        """Start the time of the attack, after its preparation."""
        self._ready()
        self._end = time.monotonic() + self._seconds

    @property
    def left(self) -> float:
        """Seconds until the attack ends."""
        return self._end - time.monotonic()

    @property
    def running(self) -> bool:
        """True until the attack ends."""
        return self.left > 0

    def pause(self, seconds: float) -> None:
        """Wait, but at most until the end."""
        time.sleep(max(0.0, min(seconds, self.left)))

    def connect(self, receive_buffer: int = 0) -> socket.socket | None:
        """Open a connection from the attacker's address. Returns None, after a pause, if that fails."""
        connection = socket.socket()
        connection.settimeout(max(0.01, min(_PATIENCE_S, self.left)))
        try:
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.bind((ADDRESS, 0))
            connection.connect((self.host, self.port))
        except OSError as error:
            connection.close()
            self.outcomes[f"no connection: {type(error).__name__}"] += 1
            self.pause(_WAIT_S)
            return None
        return connection

    def send(self, connection: socket.socket, data: bytes | memoryview) -> bool:
        """Send data as fast as the server takes it. Returns False if the connection or the attack ends first."""
        view, at = memoryview(data), 0
        while at < len(view) and self.running:
            connection.settimeout(max(0.01, self.left))
            try:
                count = connection.send(view[at : at + _CHUNK])
            except TimeoutError:
                return False
            except OSError:
                self.outcomes["cut while sending"] += 1
                return False
            at += count
            self.sent += count
        return at == len(view)

    def receive(self, connection: socket.socket, size: int = 65536, timeout: float = 60.0) -> bytes:
        """Receive data; empty if the connection ended, or after the timeout."""
        connection.settimeout(max(0.01, min(timeout, self.left)))
        try:
            return connection.recv(size)
        except OSError:
            return b""

    def answer(self, connection: socket.socket, timeout: float = 60.0) -> int:
        """Read the next answer and return its status; 0 if the connection ends first."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.receive(connection, timeout=timeout)
            if not more:
                break
            data += more
        found = _STATUS.match(data)
        if found is None:
            if self.running:
                self.outcomes["closed without an answer"] += 1
            return 0
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        missing = int(length[1]) - len(body) if length else 0
        while missing > 0 and (more := self.receive(connection, timeout=timeout)):
            missing -= len(more)
        self.outcomes[found[1].decode()] += 1
        return int(found[1])

    def ask(self, request: bytes) -> int:
        """Send a request on a new connection. Returns its status; 0 without an answer."""
        connection = self.connect()
        if connection is None:
            return 0
        with connection:
            self.send(connection, request)  # a refusal may come while it is sent
            return self.answer(connection)

    def together(self, count: int, script: Callable[[], object], pause: float = 0.0) -> None:
        """Run a script repeatedly in `count` threads. pause: seconds between two runs."""

        def loop() -> None:
            while self.running:
                script()
                self.pause(pause)

        threads = [threading.Thread(target=loop, name=f"attacker-{n}") for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def hold(self, openings: Iterable[bytes], drip: bytes = b"", every: float = 2.0, greeting: bytes = b"") -> None:
        """Keep a connection open for each opening, which it sends first. Closed connections are replaced.

        drip: sent on each connection at intervals. greeting: sent after the answer to the opening. The time of
        the attack starts when all are open.
        """
        wanted = list(openings)
        held: dict[int, socket.socket] = {}
        self._end = time.monotonic() + self._seconds + _OPEN_ALL_S
        opened = False
        while self.running:
            for number, opening in enumerate(wanted):
                if number not in held and self.running and (connection := self.connect()):
                    self.send(connection, opening)
                    if greeting and self.receive(connection, timeout=2):
                        self.send(connection, greeting)
                    held[number] = connection
            if not opened:
                opened, self._end = True, time.monotonic() + self._seconds
            self.pause(every)
            held = {number: each for number, each in held.items() if self._alive(each, drip)}
        self.outcomes["still open at the end"] = len(held)
        for connection in held.values():
            connection.close()

    def _alive(self, connection: socket.socket, drip: bytes) -> bool:
        """True if a connection is still open and was not refused. Reads received data, and sends the drip."""
        connection.setblocking(False)
        told, ended, refused = b"", False, False
        try:
            with suppress(BlockingIOError):
                while data := connection.recv(65536):
                    told = data
                    statuses = [status.decode() for status in _STATUS.findall(data)]
                    self.outcomes.update(statuses)
                    refused |= any(status >= "400" for status in statuses)
                ended = True
            with suppress(BlockingIOError):
                self.sent += connection.send(drip) if drip and not refused else 0
        except OSError:
            ended = True
        if ended:
            self.outcomes[close_code(told) or "closed by the server"] += 1
        if ended or refused:
            connection.close()
        return not (ended or refused)


def close_code(data: bytes) -> str:
    """The code of the close frame at the end of a websocket's data; "" without one, "no pong" for missing pongs."""
    if data.endswith(_NO_PONG):
        return "no pong"
    found = _CLOSE_CODE.search(data)
    return str(int.from_bytes(found[1], "big")) if found else ""


class Pace:
    """Limits a sender to a rate in bytes per second. The first bytes go at once; unused time is not made up for."""

    def __init__(self, attacker: Attacker, rate: float) -> None:
        self._attacker = attacker
        self._rate = rate
        self._due = time.monotonic()

    def wait(self, size: int) -> None:
        """Wait until `size` more bytes may be sent."""
        self._attacker.pause(self._due - time.monotonic())
        self._due = max(self._due, time.monotonic() - _SLACK_S) + size / self._rate


def post(body: bytes, path: str = "/pose", *headers: str) -> bytes:
    """A whole request."""
    return head(len(body), path, *headers) + body


def head(length: int, path: str = "/pose", *headers: str) -> bytes:
    """The head of a request with a body of this length."""
    lines = [f"POST {path} HTTP/1.1", "Host: posewire", f"Content-Length: {length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def get(path: str = "/livez", *headers: str) -> bytes:
    """A whole request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: posewire", *headers]).encode() + b"\r\n\r\n"
