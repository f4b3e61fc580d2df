"""The hello, the first message of a stream, as JSON."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError

from service.api.problems import complaint
from service.media.video_decoder import VideoCodec
from service.streams.protocol import CloseCode, Hello, StreamError
from service.tracking.smoothing import OneEuroConfig
from service.tracking.zones import Line, Zone, Zones
from service.tracking_workers.state import TrackingOptions

_LONGEST = 64_000
"""Characters of a hello."""
_LONGEST_MEMBER = 50
"""Characters of a member's name in a close reason, so that there is room for the error."""
_MOST_ZONES = 32
"""The most zones, and the most lines."""

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=64)]


class ZoneMessage(BaseModel):
    """A polygon on the floor."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: Name
    polygon: list[tuple[Share, Share]] = Field(min_length=3, max_length=64)
    dwell_seconds: float | None = Field(None, gt=0)


class LineMessage(BaseModel):
    """A line to cross."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: Name
    start: tuple[Share, Share]
    end: tuple[Share, Share]


class SmoothingMessage(BaseModel):
    """The parameters of the One-Euro filter; `OneEuroConfig` checks their ranges."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    min_cutoff: float = OneEuroConfig().min_cutoff
    beta: float = OneEuroConfig().beta

    def checked(self) -> OneEuroConfig:
        """Raises ValueError if a parameter is out of range."""
        try:
            return OneEuroConfig(self.min_cutoff, self.beta)
        except ValueError as error:
            raise ValueError(f"smoothing: {error}") from error


def _read_smoothing(value: object) -> object:
    """Turn true into the default parameters and false into None."""
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict):
        raise PydanticCustomError("smoothing", "it must be true, false, or an object with min_cutoff and beta")
    return value


def _read_detect_every(value: object) -> object:
    """Turn "auto" into None."""
    if not isinstance(value, (int, float)) and value != "auto":
        raise PydanticCustomError("detect_every", "it must be auto or a number of milliseconds")
    return None if value == "auto" else value


class HelloMessage(BaseModel):
    """All members are optional."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    type: Literal["hello"] = "hello"
    model: str | None = Field(None, max_length=200)
    skeleton: str = Field("native", max_length=100)
    format: Literal["json", "msgpack"] | None = None
    min_score: float = Field(0.3, ge=0, le=1)
    max_people: int | None = Field(None, ge=1, le=1000)
    smoothing: Annotated[SmoothingMessage | None, BeforeValidator(_read_smoothing)] = None
    detect_every: Annotated[int | None, Field(ge=0, le=10_000), BeforeValidator(_read_detect_every)] = None
    window: int = Field(8, ge=0, le=64)
    timestamps: bool = False
    extras: bool = False
    forget_seconds: float = Field(int(TrackingOptions().forget_seconds), ge=0, le=3600)
    zones: list[ZoneMessage] = Field([], max_length=_MOST_ZONES)
    lines: list[LineMessage] = Field([], max_length=_MOST_ZONES)
    video: VideoCodec | None = None
    resume: str = Field("", max_length=200)
    key: SecretStr = SecretStr("")

    @staticmethod
    def read(message: str | bytes) -> HelloMessage:
        """Parse a hello. Raises StreamError if the message is not a valid one."""
        if isinstance(message, bytes):
            raise StreamError(CloseCode.BAD_MESSAGE, "the first message is the hello: JSON, as text")
        if len(message) > _LONGEST:
            raise StreamError(CloseCode.BAD_HELLO, f"the hello has more than {_LONGEST:,} characters")
        try:
            hello = HelloMessage.model_validate_json(message)
            json.loads(message, object_pairs_hook=_check_unique)
            return hello
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            member = ".".join(str(part) for part in first["loc"])
            raise StreamError(
                CloseCode.BAD_HELLO, f"{member[:_LONGEST_MEMBER] or 'hello'}: {complaint(first)}"
            ) from error

    def checked(self) -> Hello:
        """Return the hello for `service.streams`. Raises StreamError if smoothing, zones or lines are not valid."""
        try:
            smoothing = None if self.smoothing is None else self.smoothing.checked()
            zones = tuple(Zone(z.name, tuple(z.polygon), z.dwell_seconds) for z in self.zones)
            lines = tuple(Line(line.name, line.start, line.end) for line in self.lines)
            Zones(zones, lines)  # their names must differ
        except ValueError as error:
            raise StreamError(CloseCode.BAD_HELLO, str(error)) from error
        detect_every = None if self.detect_every is None else self.detect_every / 1000
        same = self.model_dump(exclude={"type", "format", "key", "smoothing", "detect_every", "zones", "lines"})
        return Hello(**same, smoothing=smoothing, detect_every=detect_every, zones=zones, lines=lines)


def _check_unique(members: list[tuple[str, object]]) -> None:
    """Raise StreamError if an object has a member twice."""
    names = [name for name, _ in members]
    for name in names:
        if names.count(name) > 1:
            raise StreamError(CloseCode.BAD_HELLO, f"{name[:_LONGEST_MEMBER]}: is named twice")
