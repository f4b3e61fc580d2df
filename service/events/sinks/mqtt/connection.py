"""A connection to an MQTT 5 broker, for publishing with QoS 1.

aiomqtt, which wraps paho, was tried: it takes the acknowledgement of a publication that the broker has refused for a
success, so that events would be lost silently, and it connects on a thread that cannot be cancelled.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from service.events.sinks.base import SinkAwayError, problem
from service.events.sinks.mqtt import packets

_KEEP_ALIVE_S = 20
_LONGEST_PACKET = 65_536
"""Bytes of a packet that a broker sends to a client that subscribes to nothing."""
_CLOSE_S = 0.5
_MOST_UNDER_WAY = 64


class Broker(NamedTuple):
    """Where a broker is, and as whom to connect. certificate: PEM file of its authority; tls: encrypted."""

    host: str
    port: int
    tls: bool
    certificate: Path | None
    client: str
    username: str
    password: str
    will: packets.Will


class Message(NamedTuple):
    """A publication. payload: JSON, or empty to remove a retained message."""

    topic: str
    payload: bytes
    retain: bool = False


class MqttConnection:
    """An open connection. seconds: that the broker may take for an answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
        self._reader = reader
        self._writer = writer
        self._seconds = seconds
        self._number = 0
        self._limits = packets.Acknowledged(0)
        self._keep_alive = float(_KEEP_ALIVE_S)
        self._sent = self._heard = 0.0
        self._pinged: float | None = None
        self._acknowledged: dict[int, asyncio.Future[int]] = {}
        self._receiving: asyncio.Task[None] | None = None
        self._lost = ""

    @staticmethod
    async def open(broker: Broker, seconds: float) -> MqttConnection:
        """Connect. Raises SinkAwayError."""
        try:
            async with asyncio.timeout(seconds):
                context = await asyncio.to_thread(_context, broker.certificate) if broker.tls else None
                reader, writer = await asyncio.open_connection(broker.host, broker.port, ssl=context)
                connection = MqttConnection(reader, writer, seconds)
                try:
                    await connection._greet(broker)
                except BaseException:
                    writer.transport.abort()
                    raise
                return connection
        except (OSError, EOFError) as error:
            raise SinkAwayError(problem(error)) from error
        except packets.MalformedPacketError as error:
            raise SinkAwayError(str(error)) from error

    async def publish(self, messages: Sequence[Message]) -> list[int]:
        """Publish in this order. Returns the reason code of each. Raises SinkAwayError if the connection is lost."""
        most = min(_MOST_UNDER_WAY, self._limits.receive_maximum)
        codes: list[int] = []
        for start in range(0, len(messages), most):
            codes += await self._publish(messages[start : start + most])
        return codes

    async def check(self) -> None:
        """Ask the broker from time to time whether it is there. Raises SinkAwayError if the connection is lost."""
        now = asyncio.get_running_loop().time()
        if self._pinged is not None and now - self._pinged > self._seconds:
            self._lose("it did not answer in time")
        if self._lost:
            raise SinkAwayError(self._lost)
        if self._pinged is None and now - min(self._sent, self._heard) > self._keep_alive / 2:
            self._pinged = now
            self._write(packets.PINGREQ)

    async def close(self, last: Message | None = None) -> None:
        """Close the connection. last: published before, if the broker still answers."""
        with suppress(SinkAwayError, TimeoutError, OSError):
            async with asyncio.timeout(_CLOSE_S):
                if last is not None and not self._lost:
                    await self.publish([last])
                self._write(packets.GOODBYE)
                await self._writer.drain()
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.wait((self._receiving,))
        self._writer.transport.abort() if self._lost else self._writer.close()

    async def _greet(self, broker: Broker) -> None:
        hello = packets.connect(broker.client, _KEEP_ALIVE_S, broker.will, broker.username, broker.password)
        self._write(hello)
        kind, body = await self._read()
        if kind != packets.CONNACK:
            raise packets.MalformedPacketError("it does not answer as an MQTT 5 broker does")
        self._limits = packets.read_connack(body)
        if self._limits.reason:
            raise SinkAwayError(f"it refuses the connection: {packets.reason(self._limits.reason)}")
        self._keep_alive = float(self._limits.keep_alive or _KEEP_ALIVE_S)
        self._receiving = asyncio.create_task(self._receive(), name="posewire-mqtt")

    async def _publish(self, messages: Sequence[Message]) -> list[int]:
        answers: list[asyncio.Future[int]] = []
        for message in messages:
            answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            answers.append(answer)
            self._number = self._number % 65_535 + 1
            try:
                packet = packets.publish(self._number, message.topic, message.payload, retain=message.retain)
            except ValueError:
                packet = b""
            if not packet or len(packet) > self._limits.maximum_packet:
                answer.set_result(_TOO_LARGE)
                continue
            self._acknowledged[self._number] = answer
            self._write(packet)
        try:
            async with asyncio.timeout(self._seconds):
                if not self._lost:
                    await self._writer.drain()
                    await asyncio.gather(*answers)
        except (TimeoutError, OSError) as error:
            self._lose(problem(error))
        finally:
            self._acknowledged.clear()
        if self._lost:
            raise SinkAwayError(self._lost)
        return [answer.result() for answer in answers]

    async def _receive(self) -> None:
        """Take in what the broker sends, until the connection is lost. Never raises."""
        try:
            while True:
                kind, body = await self._read()
                if kind == packets.PUBACK:
                    number, code = packets.read_puback(body)
                    if (answer := self._acknowledged.get(number)) is not None and not answer.done():
                        answer.set_result(code)
                elif kind == packets.PINGRESP:
                    self._pinged = None
                elif kind == packets.DISCONNECT:
                    self._lose(f"it ended the connection: {packets.reason(body[0]) if body else 'normally'}")
                    return
        except (OSError, EOFError) as error:
            self._lose(problem(error))
        except packets.MalformedPacketError as error:
            self._lose(str(error))

    async def _read(self) -> tuple[int, bytes]:
        """Return the next packet: its kind without flags, and its body."""
        [head] = await self._reader.readexactly(1)
        length = shift = 0
        while True:
            [byte] = await self._reader.readexactly(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 21:
                raise packets.MalformedPacketError("it does not answer as an MQTT 5 broker does")
        if length > _LONGEST_PACKET:
            raise packets.MalformedPacketError("it sent a packet that is too large")
        body = await self._reader.readexactly(length)
        self._heard = asyncio.get_running_loop().time()
        return head & 0xF0, body

    def _write(self, data: bytes) -> None:
        self._writer.write(data)
        self._sent = asyncio.get_running_loop().time()

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        self._writer.transport.abort()
        for answer in self._acknowledged.values():
            if not answer.done():
                answer.set_result(0)  # nobody reads it, as the connection is lost


_TOO_LARGE = 0x95


def _context(certificate: Path | None) -> ssl.SSLContext:
    """Reads files. Raises OSError."""
    return ssl.create_default_context(cafile=certificate)
