"""What an operator says about sinks and their journal, as TOML: the tables `[sinks.NAME]` and `[events]`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from service.events.event import EventFilter

SINK_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_PREFIX = "whsec_"
"""Of secrets that are base64, as in Standard Webhooks."""
_LEAST_SECRET = 16

Patterns = Annotated[tuple[str, ...], Field(max_length=100)]


class _Entry(BaseModel):
    """What all sinks have in common. kinds, sources: patterns of the events that it gets; all by default.

    keypoints: events have the person's keypoints.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, hide_input_in_errors=True)

    kinds: Patterns = ()
    sources: Patterns = ()
    keypoints: bool = False

    @property
    def filter(self) -> EventFilter:
        return EventFilter(self.kinds, self.sources)


class WebhookEntry(_Entry):
    """An HTTP receiver of CloudEvents. secret: signs them. headers: sent with each. timeout_seconds: of a request.

    certificate: PEM file of the authority that signed the receiver's, by default the system's authorities.
    """

    type: Literal["webhook"]
    url: SecretStr
    certificate: Path | None = None
    secret: SecretStr | None = None
    headers: dict[str, SecretStr] = {}
    timeout_seconds: float = Field(10.0, gt=0, le=120)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr) -> SecretStr:
        _check(url, ("http", "https"))
        return url

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(signing_key(secret)) < _LEAST_SECRET:
            raise ValueError(f"it must have at least {_LEAST_SECRET} bytes, for example of `openssl rand -hex 32`")
        return secret

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            text = value.get_secret_value()
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name[:50]!r} is no name of a header")
            if not text.isascii() or not text.isprintable():
                raise ValueError(f"the value of {name} has characters that a header cannot have")
        return headers


class MqttEntry(_Entry):
    """An MQTT 5 broker. url: mqtt://HOST:PORT or mqtts://HOST:PORT. prefix: of all topics.

    discovery: Home Assistant's prefix, empty for no discovery. certificate: PEM file of the authority that signed the
    broker's, by default the system's authorities.
    """

    type: Literal["mqtt"]
    url: SecretStr
    username: str = ""
    password: SecretStr = SecretStr("")
    prefix: str = Field("posewire", pattern=r"^[^#+/\x00-\x1f][^#+\x00-\x1f]{0,99}$")
    discovery: str = Field("homeassistant", pattern=r"^[^#+\x00-\x1f]{0,100}$")
    certificate: Path | None = None
    timeout_seconds: float = Field(10.0, gt=0, le=120)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr) -> SecretStr:
        _check(url, ("mqtt", "mqtts"))
        return url


class RedisEntry(_Entry):
    """A stream of Redis. stream: its key. most: its length, about. repeat_seconds: how long an event is recognised that
    was added but not acknowledged, so that it is not added again.
    """

    type: Literal["redis"]
    url: SecretStr
    stream: str = Field("posewire:events", min_length=1, max_length=200)
    most: int = Field(100_000, ge=1)
    repeat_seconds: int = Field(3600, ge=1, le=7 * 86400)
    timeout_seconds: float = Field(5.0, gt=0, le=120)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr) -> SecretStr:
        _check(url, ("redis", "rediss", "unix"))
        return url


class FileEntry(_Entry):
    """A file of JSON lines. max_mb: beyond which it is renamed to PATH.1, and so on up to `keep` old files."""

    type: Literal["file"]
    path: Path
    max_mb: float = Field(100.0, gt=0)
    keep: int = Field(5, ge=0, le=1000)

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: Path) -> Path:
        if not path.is_absolute() or not path.name:
            raise ValueError("it must be an absolute path of a file, such as /data/events.ndjson")
        return path


SinkEntry = Annotated[WebhookEntry | MqttEntry | RedisEntry | FileEntry, Field(discriminator="type")]
"""A table `[sinks.NAME]`."""
SinkName = Annotated[str, Field(pattern=SINK_NAME)]


class JournalEntry(BaseModel):
    """The table `[events]`: bounds of the journal, over all sinks and sources together."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    max_mb: float = Field(256.0, ge=1)
    max_events: int = Field(1_000_000, ge=1)
    keep_hours: float = Field(72.0, gt=0)


class EventSettings(BaseModel):
    """What a file says about events: its tables `events` and `sinks`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    events: JournalEntry = JournalEntry()
    sinks: dict[SinkName, SinkEntry] = {}


def read_sinks(tables: Mapping[str, object]) -> EventSettings:
    """Read the tables `events` and `sinks` of a file; ignore its others. Raises ValueError, without secrets."""
    given = {name: tables[name] for name in ("events", "sinks") if name in tables}
    try:
        return EventSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part not in _TYPES)
        raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None


def signing_key(secret: SecretStr) -> bytes:
    """The key of a webhook's signatures: what follows whsec_ as base64, or else the text itself as UTF-8."""
    text = secret.get_secret_value()
    if not text.startswith(_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"what follows {_PREFIX} must be base64") from error


def shown_url(url: SecretStr) -> str:
    """The part of a URL that may be shown: no user, password, path or query."""
    parts = urlsplit(url.get_secret_value())
    host = parts.hostname or ""
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def _check(url: SecretStr, schemes: tuple[str, ...]) -> None:
    """Raises ValueError, which does not show the URL."""
    example = f"it must be a URL such as {schemes[0]}://HOST"
    try:
        parts = urlsplit(url.get_secret_value())
        fits = parts.scheme in schemes and (bool(parts.hostname) or parts.scheme == "unix") and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not url.get_secret_value().isprintable() or " " in url.get_secret_value():
        raise ValueError(f"{example}; the scheme is one of {', '.join(schemes)}")


_TYPES = frozenset(("webhook", "mqtt", "redis", "file"))
