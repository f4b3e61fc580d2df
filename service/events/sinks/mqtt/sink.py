"""MQTT: events, the state of each camera as retained messages, and Home Assistant's discovery."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from service.events.entries import MqttEntry
from service.events.event import PublishedEvent
from service.events.sinks.base import Outcomes, SinkAwayError
from service.events.sinks.mqtt.connection import Broker, Message, MqttConnection, Refusal
from service.events.sinks.mqtt.discovery import camera_config, slug, without

CAMERAS = "cameras/"
"""Where sources of cameras begin. Only they have a state."""
_ONLINE, _OFFLINE = b"online", b"offline"
_NOT_IN_TOPICS = re.compile(r"[+#\x00-\x1f]")


class MqttSink:
    """Publishes with QoS 1, below the prefix P:

    P/SOURCE/events: each event. P/cameras/NAME/state: its newest state, retained. P/cameras/NAME/availability and
    P/servers/SERVER: `online` or `offline`, retained; the broker says offline for a server that is lost.
    P/cameras/NAME/fall: ON after a fall. server: the name of this one. name: of the sink.
    """

    def __init__(self, name: str, entry: MqttEntry, server: str) -> None:
        url = urlsplit(entry.url.get_secret_value())
        tls = url.scheme == "mqtts"
        self._entry = entry
        self._status = f"{entry.prefix}/servers/{server}"
        self._broker = Broker(
            url.hostname or "",
            url.port or (8883 if tls else 1883),
            tls,
            entry.certificate,
            f"posewire-{server}-{name}",
            entry.username or unquote(url.username or ""),
            entry.password.get_secret_value() or unquote(url.password or ""),
            Message(self._status, _OFFLINE, retain=True),
        )
        self._states: dict[str, Mapping[str, Any]] = {}
        self._announced: dict[str, bytes] = {}
        self._components: dict[str, dict[str, str]] = {}  # that Home Assistant was told of, and their platforms
        self._connection: MqttConnection | None = None

    async def tend(self, states: Mapping[str, Mapping[str, Any] | None]) -> None:
        """See Sink. Connects, and publishes the states that have changed; after a new connection all of them."""
        if self._connection is not None:
            try:
                self._connection.check()
            except SinkAwayError:
                await self._drop()
                raise
        changed = {source: state for source, state in states.items() if source.startswith(CAMERAS)}
        if self._connection is None:
            self._connection = await MqttConnection.open(self._broker, self._entry.timeout_seconds)
            await self._publish([Message(self._status, _ONLINE, retain=True)])
            self._announced.clear()
            changed = {**self._states, **changed}
        messages = [message for source, state in changed.items() for message in self._state(source, state)]
        await self._publish(messages)

    async def send(self, events: Sequence[PublishedEvent], outcomes: Outcomes) -> None:
        """See Sink."""
        messages = [self._event(event) for event in events]
        falls = [Message(f"{self._base(event.source)}/fall", b"ON") for event in events if event.kind == "fall"]
        refusals = await self._publish([*messages, *falls])
        away = ""
        for event, refusal in zip(events, refusals, strict=False):
            if refusal is None:
                outcomes.delivered(event)
            elif refusal.later or not outcomes.refused(event, refusal.why):
                away = f"it refuses an event: {refusal.why}"
        if away:
            raise SinkAwayError(away)

    async def close(self) -> None:
        """See Sink. Says that this server is offline."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(Message(self._status, _OFFLINE, retain=True))

    async def _publish(self, messages: Sequence[Message]) -> list[Refusal | None]:
        if self._connection is None:
            raise SinkAwayError("it is not connected")
        if not messages:
            return []
        try:
            return await self._connection.publish(messages)
        except SinkAwayError:
            await self._drop()
            raise

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _event(self, event: PublishedEvent) -> Message:
        return Message(f"{self._base(event.source)}/events", orjson.dumps(event.document()))

    def _state(self, source: str, state: Mapping[str, Any] | None) -> list[Message]:
        """The messages that tell of a camera's state: that it exists, is available, and what is there."""
        base, name = self._base(source), source.removeprefix(CAMERAS)
        device = f"{slug(self._entry.prefix)}_{slug(name)}"
        config = f"{self._entry.discovery}/device/{device}/config"
        if state is None:
            self._states.pop(source, None)
            self._announced.pop(source, None)
            self._components.pop(source, None)
            topics = [f"{base}/{part}" for part in ("state", "availability", "fall")]
            topics += [config] * bool(self._entry.discovery)
            return [Message(topic, b"", retain=True) for topic in topics]
        if state.get("state") == "elsewhere":  # its new owner tells of it
            self._states.pop(source, None)
            self._announced.pop(source, None)
            return []
        self._states[source] = state
        messages = []
        if self._entry.discovery:
            availability = (self._status, f"{base}/availability")
            document = camera_config(device, name, state.get("occupancy", ()), base, availability)
            if self._announced.get(source) != (text := orjson.dumps(document)):
                self._announced[source] = text
                known = self._components.setdefault(source, {})
                known |= {part: about["platform"] for part, about in document["components"].items()}
                if gone := {part: known[part] for part in known.keys() - document["components"].keys()}:
                    messages.append(Message(config, orjson.dumps(without(document, gone)), retain=True))
                messages += [Message(config, text, retain=True), Message(f"{base}/fall", b"OFF", retain=True)]
        available = _ONLINE if state.get("state") == "live" else _OFFLINE
        messages.append(Message(f"{base}/state", orjson.dumps(state), retain=True))
        return [*messages, Message(f"{base}/availability", available, retain=True)]

    def _base(self, source: str) -> str:
        """The topic below which everything of a source is."""
        return f"{self._entry.prefix}/{_NOT_IN_TOPICS.sub('_', source)}"
