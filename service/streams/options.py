"""What a client or an operator may choose for a stream or a camera, as JSON or TOML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.rules.definition import Rules
from service.streams.protocol import Hello
from service.streams.rule_options import Name, RulesMessage
from service.tracking.smoothing import OneEuroConfig
from service.tracking.zones import Line, Zone, Zones
from service.tracking_workers.state import TrackingOptions

_MOST_ZONES = 32
"""The most zones, and the most lines."""

_LONGEST_COMPLAINT = 200
"""Characters."""

Share = Annotated[float, Field(ge=0, le=1)]


def complaint(error: Mapping[str, Any]) -> str:
    """Return a message for one of pydantic's errors that makes sense without knowing pydantic."""
    text = "there is no such name here" if error["type"] == "extra_forbidden" else str(error["msg"])
    return text.removeprefix("Value error, ")[:_LONGEST_COMPLAINT]


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


class StreamOptionsMessage(BaseModel):
    """The options that streams and cameras have in common. All are optional."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(None, max_length=200)
    skeleton: str = Field("native", max_length=100)
    min_score: float = Field(0.3, ge=0, le=1)
    max_people: int | None = Field(None, ge=1, le=1000)
    smoothing: Annotated[SmoothingMessage | None, BeforeValidator(_read_smoothing)] = None
    detect_every: Annotated[int | None, Field(ge=0, le=10_000), BeforeValidator(_read_detect_every)] = None
    forget_seconds: float = Field(int(TrackingOptions().forget_seconds), ge=0, le=3600)
    group: str | None = Field(None, pattern="^[A-Za-z0-9._-]{1,64}$")
    zones: list[ZoneMessage] = Field([], max_length=_MOST_ZONES)
    lines: list[LineMessage] = Field([], max_length=_MOST_ZONES)
    rules: RulesMessage | None = None

    def options(self, **others: object) -> Hello:
        """Return the options for `service.streams`. others: members of a hello that only streams have.

        Raises ValueError if smoothing, zones, lines or rules are not valid.
        """
        smoothing = None if self.smoothing is None else self.smoothing.checked()
        zones = tuple(Zone(z.name, tuple(z.polygon), z.dwell_seconds) for z in self.zones)
        lines = tuple(Line(line.name, line.start, line.end) for line in self.lines)
        Zones(zones, lines)  # their names must differ
        rules = Rules() if self.rules is None else self.rules.rules()
        rules.check(zones, lines)
        return Hello(
            model=self.model,
            skeleton=self.skeleton,
            min_score=self.min_score,
            max_people=self.max_people,
            forget_seconds=self.forget_seconds,
            group=self.group or "",
            smoothing=smoothing,
            detect_every=None if self.detect_every is None else self.detect_every / 1000,
            zones=zones,
            lines=lines,
            rules=rules,
            **others,  # type: ignore[arg-type]
        )
