"""A connection to an MQTT 5 broker, for publishing with QoS 1, by paho.

Not by aiomqtt, which wraps paho: it takes the acknowledgement of a publication that the broker has refused for a
success, so that events would be lost silently. paho runs in a thread; everything here belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from service.events.sinks.base import SinkAwayError, problem, trusted

_KEEP_ALIVE_S = 20
_CLOSE_S = 0.5
_MOST_UNDER_WAY = 64
_HEAD = 100
"""Bytes of a packet beside its topic and payload, at most."""
_QUOTA_EXCEEDED = 0x97


class Message(NamedTuple):
    """A publication. payload: JSON, or empty to remove a retained message."""

    topic: str
    payload: bytes
    retain: bool = False


class Broker(NamedTuple):
    """Where a broker is, and as whom to connect. certificate: PEM file of its authority; tls: encrypted. will: what the
    broker publishes if the connection is lost.
    """

    host: str
    port: int
    tls: bool
    certificate: Path | None
    client: str
    username: str
    password: str
    will: Message


class Refusal(NamedTuple):
    """Why a broker does not take a publication. later: it may take it later."""

    why: str
    later: bool = False


class MqttConnection:
    """An open connection. seconds: that the broker may take for an answer."""

    def __init__(self, broker: Broker, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[Properties | None] = self._loop.create_future()
        self._connected.add_done_callback(lambda future: future.cancelled() or future.exception())  # is in `_lost`, too
        self._under_way: dict[int, asyncio.Future[Refusal | None]] = {}
        self._most, self._largest = _MOST_UNDER_WAY, 1 << 28
        self._lost = ""
        client = Client(
            CallbackAPIVersion.VERSION2,
            broker.client,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,  # the sink's owner tries again
        )
        client.connect_timeout = seconds
        client.max_inflight_messages_set(_MOST_UNDER_WAY)
        client.will_set(broker.will.topic, broker.will.payload, qos=1, retain=broker.will.retain)
        if broker.username:
            client.username_pw_set(broker.username, broker.password)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        self._client = client

    @staticmethod
    async def open(broker: Broker, seconds: float) -> MqttConnection:
        """Connect. Raises SinkAwayError."""
        connection = MqttConnection(broker, seconds)
        try:
            async with asyncio.timeout(seconds):
                await _on_thread(partial(connection._connect, broker))
                properties = await connection._connected
        except BaseException as error:
            connection._lose("it is not needed any more")
            if isinstance(error, (OSError, ValueError)):  # ValueError: of names that cannot be resolved
                raise SinkAwayError(problem(error)) from error
            raise
        connection._most = min(getattr(properties, "ReceiveMaximum", _MOST_UNDER_WAY), _MOST_UNDER_WAY)
        connection._largest = getattr(properties, "MaximumPacketSize", connection._largest)
        return connection

    async def publish(self, messages: Sequence[Message]) -> list[Refusal | None]:
        """Publish in this order. Returns why each was refused, None if it was not.

        Raises SinkAwayError if the connection is lost.
        """
        refusals: list[Refusal | None] = []
        for start in range(0, len(messages), self._most):
            refusals += await self._publish(messages[start : start + self._most])
        return refusals

    def check(self) -> None:
        """Raise SinkAwayError if the connection is lost."""
        if self._lost:
            raise SinkAwayError(self._lost)

    async def close(self, last: Message | None = None) -> None:
        """Close the connection. last: published before, if the broker still answers."""
        with suppress(SinkAwayError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                if last is not None:
                    await self.publish([last])
                self._client.disconnect()
                await _on_thread(self._client.loop_stop)
        self._lose("it is closed")

    async def _publish(self, messages: Sequence[Message]) -> list[Refusal | None]:
        answers: list[asyncio.Future[Refusal | None]] = []
        self.check()
        for topic, payload, retain in messages:
            answer: asyncio.Future[Refusal | None] = self._loop.create_future()
            answers.append(answer)
            if _HEAD + len(topic.encode()) + len(payload) > self._largest:
                answer.set_result(Refusal("the packet is too large"))
                continue
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has no types for it
            properties.ContentType = "application/json"
            properties.PayloadFormatIndicator = 1
            sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
            if sent.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_QUEUE_SIZE):
                self._lose("it closed the connection")
                self.check()
            self._under_way[sent.mid] = answer  # before `_on_publish` can be called, on this event loop
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.gather(*answers)
        except TimeoutError as error:
            self._lose(problem(error))
            raise SinkAwayError(self._lost) from error
        finally:
            self._under_way.clear()

    def _connect(self, broker: Broker) -> None:
        """Blocks. Raises OSError, ValueError and SinkAwayError."""
        if broker.tls:
            context = trusted(broker.certificate)
            context.sslsocket_class = _EncryptedSocket
            self._client.tls_set_context(context)
        self._client.connect(broker.host, broker.port, _KEEP_ALIVE_S, clean_start=True)
        self._client.loop_start()
        if self._lost:
            self._cut()

    def _lose(self, why: str) -> None:
        """Give the connection up. All who wait for an answer get SinkAwayError."""
        self._lost = self._lost or why
        waiting: list[asyncio.Future[Any]] = [self._connected, *self._under_way.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(SinkAwayError(self._lost))
        self._cut()

    def _cut(self) -> None:
        """End paho's thread: it notices that its socket is closed."""
        self._client.disconnect()
        opened = self._client.socket()
        if isinstance(opened, socket.socket):
            with suppress(OSError):
                socket.socket.shutdown(opened, socket.SHUT_RDWR)  # not that of TLS, which paho's thread may be using

    # paho calls these in its thread.

    def _on_connect(self, _: Client, __: Any, ___: Any, code: ReasonCode, properties: Properties | None) -> None:
        self._call(self._greeted, code, properties)

    def _on_publish(self, _: Client, __: Any, number: int, code: ReasonCode, ___: Properties | None) -> None:
        self._call(self._acknowledged, number, code)

    def _on_disconnect(self, _: Client, __: Any, ___: Any, code: ReasonCode, ____: Properties | None) -> None:
        self._call(self._lose, f"it ended the connection: {str(code).lower()}")

    def _call(self, method: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(method, *arguments)

    def _greeted(self, code: ReasonCode, properties: Properties | None) -> None:
        if code.is_failure:
            self._lose(f"it refuses the connection: {str(code).lower()}")
        elif not self._connected.done():
            self._connected.set_result(properties)

    def _acknowledged(self, number: int, code: ReasonCode) -> None:
        answer = self._under_way.pop(number, None)
        if answer is not None and not answer.done():
            refusal = Refusal(str(code).lower(), later=code.value == _QUOTA_EXCEEDED)
            answer.set_result(refusal if code.is_failure else None)


class _EncryptedSocket(ssl.SSLSocket):
    """Closes itself if its handshake fails, as paho does not."""

    def do_handshake(self, block: bool = False) -> None:
        """See ssl.SSLSocket."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


async def _on_thread(work: Callable[[], object]) -> None:
    """Run work that may block for long in a thread that nobody waits for if this is cancelled."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: Exception | None) -> None:
        if not done.done():
            done.set_exception(error) if error else done.set_result(None)

    def run() -> None:
        error: Exception | None = None
        try:
            work()
        except Exception as caught:  # noqa: BLE001 - raised by the coroutine that waits
            error = caught
        with suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(finish, error)

    threading.Thread(target=run, name="posewire-mqtt", daemon=True).start()
    await done
