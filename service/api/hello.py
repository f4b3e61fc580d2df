"""The first message of a stream, as a client writes it."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from service.api.problems import complaint
from service.api.schemas import Skeletons
from service.streams.closing import CloseCode, StreamError
from service.streams.protocol import Hello
from service.tracking.zones import Line, Zone, Zones

_LONGEST = 64_000
_LONGEST_PLACE = 50
"""Characters: so much is told of where the hello is wrong, that there is room for how."""
_PLACES = 32

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


class HelloMessage(BaseModel):
    """Every member may be left out."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    type: Literal["hello"] = "hello"
    model: str | None = Field(None, max_length=200)
    skeleton: Skeletons = "native"
    format: Literal["json", "msgpack"] | None = None
    min_score: float = Field(0.3, ge=0, le=1)
    max_people: int | None = Field(None, ge=1, le=1000)
    smoothing: bool = False
    detect_every: int = Field(0, ge=0, le=10_000)
    window: int = Field(8, ge=0, le=64)
    timestamps: bool = False
    extras: bool = False
    zones: list[ZoneMessage] = Field([], max_length=_PLACES)
    lines: list[LineMessage] = Field([], max_length=_PLACES)
    resume: str = Field("", max_length=200)
    key: SecretStr = SecretStr("")

    @staticmethod
    def read(message: str | bytes) -> HelloMessage:
        """A hello. Raises StreamError for anything else."""
        if isinstance(message, bytes):
            raise StreamError(CloseCode.BAD_MESSAGE, "the first message is the hello: JSON, as text")
        if len(message) > _LONGEST:
            raise StreamError(CloseCode.BAD_HELLO, f"the hello has more than {_LONGEST:,} characters")
        try:
            hello = HelloMessage.model_validate_json(message)
            json.loads(message, object_pairs_hook=_once)
            return hello
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise StreamError(
                CloseCode.BAD_HELLO, f"{place[:_LONGEST_PLACE] or 'hello'}: {complaint(first)}"
            ) from error

    def checked(self) -> Hello:
        """As the inner rooms know it. Raises StreamError for zones and lines that are none."""
        try:
            zones = tuple(Zone(z.name, tuple(z.polygon), z.dwell_seconds) for z in self.zones)
            lines = tuple(Line(line.name, line.start, line.end) for line in self.lines)
            Zones(zones, lines)  # their names must differ
        except ValueError as error:
            raise StreamError(CloseCode.BAD_HELLO, str(error)) from error
        return Hello(
            model=self.model,
            skeleton=self.skeleton,
            min_score=self.min_score,
            max_people=self.max_people,
            smoothing=self.smoothing,
            detect_every=self.detect_every / 1000,
            window=self.window,
            timestamps=self.timestamps,
            extras=self.extras,
            resume=self.resume,
            zones=zones,
            lines=lines,
        )


def _once(members: list[tuple[str, object]]) -> None:
    """Raise StreamError for an object that names a member twice: which of the two is meant, nobody knows."""
    names = [name for name, _ in members]
    for name in names:
        if names.count(name) > 1:
            raise StreamError(CloseCode.BAD_HELLO, f"{name[:_LONGEST_PLACE]}: is named twice")
